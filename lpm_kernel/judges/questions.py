"""A prompt -> the question as a judge is asked it: its task, what the notes say of it, the bio that matters to it."""

from collections.abc import Sequence
from functools import cached_property
from unicodedata import normalize

from lpm_kernel.files import key_of
from lpm_kernel.judges.base import Question
from lpm_kernel.judges.stranger import stranger_bio
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


class Owner:
    """By what answers are judged: the owner's items and bio, and as control the same items with a stranger's bio."""

    def __init__(self, items: Sequence[Prompt], bio: str) -> None:
        self.items, self.bio, self.facts = items, bio, Facts(items, bio)

    @cached_property
    def identity(self) -> str:
        """A hash of the items and the bio."""
        return key_of(self.bio, *((item.id, item.notes) for item in self.items))

    def question(self, prompt: Prompt) -> Question:
        """As a judge is asked it."""
        return question_of(prompt, self.facts, self.bio)

    def strangers_question(self, prompt: Prompt) -> Question:
        """The same with a stranger's bio, in place of the owner's also where it says which facts are right."""
        return question_of(prompt, self.strangers_facts, self.strangers_bio)

    @cached_property
    def strangers_bio(self) -> str:
        """In the owner's language."""
        return stranger_bio(self.facts.language)

    @cached_property
    def strangers_facts(self) -> Facts:
        """Those that a stranger's bio would confirm."""
        return Facts(self.items, self.strangers_bio)


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
