"""What flows through the chain: Message -> Prompt -> Answer -> Verdict -> Evidence."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from lpm_kernel.errors import DataError, MissingInputError

Role = Literal["system", "user", "assistant"]
Outcome = Literal["first", "second", "tie", "failed"]


class Record(BaseModel):
    """Immutable, and strict about its fields: an unknown field is a defect of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Record):
    """One turn of a conversation, as the OpenAI chat format writes it."""

    role: Role
    content: str


class Prompt(Record):
    """One question to the model, rendered exactly as SFT rendered it."""

    id: str
    """First 16 hex digits of the SHA-256 of messages and reference; stable across runs."""
    row: int
    """Index of the item in merged.json, counted from 0."""
    variant: str
    messages: tuple[Message, ...]
    reference: str
    """The SFT target, called `label` in dpo_full.json."""
    notes: tuple[str, ...] = ()
    """The owner's notes that this item rests on."""
    score: float | None = None
    """What a filter gave the item, where one ran."""

    @property
    def system(self) -> str:
        """The system message's text, empty when there is none."""
        return next((m.content for m in self.messages if m.role == "system"), "")

    @property
    def user(self) -> str:
        """The last user message's text."""
        return next(m.content for m in reversed(self.messages) if m.role == "user")


class Answer(Record):
    """One completion of a prompt by the model."""

    text: str
    finish_reason: str
    """`stop` for a whole answer; `length` for one that was cut."""


class Verdict(Record):
    """What a judge said of two answers to one prompt, both orders taken together."""

    prompt_id: str
    first: int
    """Index of the first answer among the prompt's answers."""
    second: int
    outcome: Outcome
    """`failed` means that there is no verdict; it is never read as a tie."""
    reason: str
    """Why: the judge's words, or what failed."""
    judge: str
    orders: tuple[Outcome, ...] = ()
    """The outcome in each order asked, both told in the order first, second."""


class Evidence(Record):
    """A line of verdicts.jsonl: all that happened to one prompt, and what came of it."""

    prompt_id: str
    row: int
    variant: str
    answers: tuple[Answer, ...]
    verdicts: tuple[Verdict, ...]
    chosen: int | None
    """Index of the better answer, None when there is no pair."""
    rejected: int | None
    dropped: str | None
    """Why there is no pair, None when there is one."""


R = TypeVar("R", bound=Record)


def write_jsonl(path: Path, records: Iterable[Record]) -> None:
    """One record a line, in the order given."""
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(record.model_dump_json() + "\n")


def read_jsonl(path: Path, kind: type[R]) -> Iterator[R]:
    """Records of one kind; raises MissingInputError, or DataError with the line's number."""
    if not path.is_file():
        raise MissingInputError(f"{path} is not there; `lpm steps` tells which step makes it")
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield kind.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                raise DataError(
                    f"{path}, line {number}: not a {kind.__name__} ({first['msg']} at {first['loc']}); "
                    "run the step that makes this file again"
                ) from None


def write_json(path: Path, value: object) -> None:
    """JSON for people and machines: two-space indent, UTF-8, no NaN."""
    path.write_text(
        json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        encoding="utf-8",
    )
