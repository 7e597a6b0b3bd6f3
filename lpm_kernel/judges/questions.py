"""A prompt -> the question as a judge is asked it: its task, what the notes say of it, the bio that matters to it."""

from unicodedata import normalize

from lpm_kernel.judges.base import Question
from lpm_kernel.owner.facts import Facts, Measure
from lpm_kernel.owner.items import LEGACY_PREFIX, name_in
from lpm_kernel.owner.relevance import relevant
from lpm_kernel.records import Prompt, Task

TASKS: dict[str, Task] = {
    "context": "context",
    "feedback": "feedback",
    "time_qa": "time",
    "dated": "time",
    "exact_day": "time",
}
"""By variant of item."""


def question_of(prompt: Prompt, facts: Facts, bio: str) -> Question:
    """What a judge sees besides the answers; `bio` may be another one than that of the facts."""
    measure = facts.measure(prompt)
    return Question(
        _text(prompt),
        prompt.target,
        relevant(bio, prompt.user, prompt.target, measure),
        task=task_of(prompt, measure),
        measure=measure,
        language=facts.language,
        notes=prompt.notes,
    )


def task_of(prompt: Prompt, measure: Measure) -> Task:
    """By the item's variant; `identity` for what rests on no note, names the owner and tells no fact of the bio.

    Second-Me's questions about the second self carry no mark of their own, in whatever language.
    """
    if prompt.variant != "memory" or prompt.notes:
        return TASKS.get(prompt.variant, "memory")
    name, text = (normalize("NFKC", t).casefold() for t in (name_in(prompt.system), f"{prompt.user} {prompt.target}"))
    names_owner = bool(name) and name in text
    return "identity" if names_owner and not measure.confirmed - measure.facts.forms_of(name) else "memory"


def _text(prompt: Prompt) -> str:
    """The question, and before it the day on which it is asked where only the system prompt tells it."""
    today = prompt.system.splitlines()[-1:] if prompt.variant == "time_qa" else []
    return "\n".join([*today, prompt.user.removeprefix(LEGACY_PREFIX)])
