"""A prompt -> the question as a judge is asked it: its task, what the notes say of it, the bio that matters to it."""

from lpm_kernel.judges.base import Question
from lpm_kernel.owner.facts import Facts
from lpm_kernel.records import Prompt, Task

TASKS: dict[str, Task] = {
    "context": "context",
    "feedback": "feedback",
    "time_qa": "time",
    "dated": "time",
    "exact_day": "time",
}
"""By variant of item; all others are memory."""


def question_of(prompt: Prompt, facts: Facts, bio: str) -> Question:
    """What a judge sees besides the answers."""
    task = TASKS.get(prompt.variant, "memory")
    return Question(prompt.user, prompt.target, bio, task=task, measure=facts.measure(prompt))
