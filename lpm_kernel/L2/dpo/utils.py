"""The documented pairs files, read and written here alone; and the three settings that the seed documents.

`dpo_direct.json`, what DPO trains on: a JSON list of {"prompt": {"system", "user"}, "chosen", "rejected"}, all strings.
A conversation of another form has the list of its messages as "prompt"; a pair that is not certain has "confidence".
`dpo_full.json`, the same pairs for people: a JSON list of FullRow.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from lpm_kernel.errors import DataError, MissingInputError
from lpm_kernel.files import write_json_list
from lpm_kernel.records import Evidence, Message, PreferencePair, Prompt, Record, Verdict, is_sound

# Honoured when filled in, but a source file is no safe for a key: prefer the environment, or `.env`,
# and for the bio `resources/L2/data/global_bio.md`.
OPENAI_API_KEY = ""
OPENAI_BASE_URL = ""
GLOBAL_BIO = ""


class DirectPrompt(Record):
    """What stands before the answer. An empty system text is still a system message, as in SFT."""

    system: str
    user: str


class DirectRow(Record):
    """A row of dpo_direct.json: {"prompt": {"system", "user"}, "chosen", "rejected"}."""

    prompt: DirectPrompt | tuple[Message, ...]
    chosen: str
    rejected: str
    confidence: float = Field(1.0, gt=0.5, le=1)


class FullRow(Record):
    """A row of dpo_full.json, field for field as Second-Me writes it."""

    user: str
    label: str
    traces: tuple[str, ...]
    eval_prompt: str
    infer_prompt: str
    chosen_response: str
    rejected_response: str
    detailed_analysis: str


def read_pairs(path: Path) -> list[PreferencePair]:
    """All pairs; raises MissingInputError, or DataError with the row that breaks the contract."""
    if not path.is_file():
        raise MissingInputError(f"{path} is not there; make it with: python lpm_kernel/L2/dpo/dpo_data.py")
    try:
        rows = TypeAdapter(list[DirectRow]).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}); make it again with dpo_data.py") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{path}: row {first['loc']}: {first['msg']}; expected {DirectRow.__doc__}") from None
    pairs = [_pair(row) for row in rows]
    for number, pair in enumerate(pairs):
        if not all(map(is_sound, (*(m.content for m in pair.messages), pair.chosen, pair.rejected))):
            raise DataError(f"{path}: row {number} holds a lone surrogate, which is no text; remove the row")
        if pair.chosen == pair.rejected:
            raise DataError(f"{path}: row {number} has the same chosen and rejected answer; remove it or judge again")
        if not pair.messages or pair.messages[-1].role != "user":
            raise DataError(f"{path}: row {number} does not end with the user's turn; mend or remove it")
    return pairs


def write_pairs(path: Path, pairs: Iterable[PreferencePair]) -> None:
    """dpo_direct.json; a pair is written as it comes."""
    write_json_list(path, (_direct_row(pair) for pair in pairs))


def write_full(path: Path, rows: Iterable[FullRow]) -> None:
    """dpo_full.json; a row is written as it comes."""
    write_json_list(path, (row.model_dump(mode="json") for row in rows))


def pair_of(prompt: Prompt, evidence: Evidence) -> PreferencePair:
    """The pair that a prompt's evidence gave; it must have given one."""
    chosen, rejected = _chosen(evidence)
    return PreferencePair(
        messages=prompt.messages,
        chosen=evidence.answers[chosen].text,
        rejected=evidence.answers[rejected].text,
        confidence=1.0 if evidence.confidence is None else evidence.confidence,
    )


def full_row_of(prompt: Prompt, evidence: Evidence, instruction: str) -> FullRow:
    """The same for people; `instruction` is what the judge judged by."""
    chosen, rejected = _chosen(evidence)
    texts = tuple(answer.text for answer in evidence.answers)
    return FullRow(
        user=prompt.user,
        label=prompt.target,
        traces=texts,
        eval_prompt=instruction,
        infer_prompt=prompt.system,
        chosen_response=texts[chosen],
        rejected_response=texts[rejected],
        detailed_analysis=_analysis(texts, evidence.verdicts, chosen, rejected),
    )


def _chosen(evidence: Evidence) -> tuple[int, int]:
    assert evidence.chosen is not None
    assert evidence.rejected is not None
    return evidence.chosen, evidence.rejected


def _pair(row: DirectRow) -> PreferencePair:
    if isinstance(row.prompt, DirectPrompt):
        system = Message(role="system", content=row.prompt.system)
        messages: tuple[Message, ...] = (system, Message(role="user", content=row.prompt.user))
    else:
        messages = row.prompt
    return PreferencePair(messages=messages, chosen=row.chosen, rejected=row.rejected, confidence=row.confidence)


def _direct_row(pair: PreferencePair) -> dict[str, Any]:
    documented = [message.role for message in pair.messages] == ["system", "user"]
    prompt: Any = [message.model_dump() for message in pair.messages]
    if documented:
        prompt = {message.role: message.content for message in pair.messages}
    row = {"prompt": prompt, "chosen": pair.chosen, "rejected": pair.rejected}
    return row if pair.confidence == 1 else {**row, "confidence": pair.confidence}


def _analysis(texts: Sequence[str], verdicts: Sequence[Verdict], chosen: int, rejected: int) -> str:
    """The tally of each answer, in Second-Me's wording; counted by answer, not by text."""
    tally = {i: Counter[str]() for i in range(len(texts))}
    for v in verdicts:
        won = {"first": (v.first, v.second), "second": (v.second, v.first)}.get(v.outcome)
        if won:
            tally[won[0]]["wins"] += 1
            tally[won[1]]["losses"] += 1
        elif v.outcome == "tie":
            tally[v.first]["ties"] += 1
            tally[v.second]["ties"] += 1

    def rate(index: int) -> float:
        return tally[index]["wins"] / tally[index].total() if tally[index].total() else 0.0

    lines = [
        f"Chosen Response: {texts[chosen]} (Win Rate: {rate(chosen):.2f})",
        f"Rejected Response: {texts[rejected]} (Win Rate: {rate(rejected):.2f})",
        "Comparison Details:",
        *(
            f"{t}: Wins={tally[i]['wins']}, Losses={tally[i]['losses']}, Ties={tally[i]['ties']}"
            for i, t in enumerate(texts)
        ),
    ]
    return "\n".join(lines) + "\n"
