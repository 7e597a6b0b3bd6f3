"""Labelled tables of answers: an owner a language, and what a person would say of each answer to the owner's questions.

python tests/answer_tables.py [--half asked|kept] [--misses]: one line a language, the share as labelled.
"""

import argparse
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpm_kernel.owner.facts import Facts
from lpm_kernel.records import Message, Prompt

FOLDER = Path(__file__).parent / "answers"
HALVES = ("asked", "kept")
"""Rules were made while looking at the answers of the first half; nothing was changed for one of the second."""


@dataclass(frozen=True)
class Labelled:
    """One answer, what a person says of it, and what the facts say."""

    question: str
    answer: str
    label: str
    told: str
    facts: str


@dataclass(frozen=True)
class Table:
    """An owner in one language."""

    language: str
    items: tuple[Prompt, ...]
    bio: str
    questions: dict[str, list[dict[str, Any]]]

    def labelled(self, half: str, bio: str | None = None) -> Iterator[Labelled]:
        """Every answer of a half, measured."""
        facts = Facts(self.items, self.bio if bio is None else bio)
        for question in self.questions[half]:
            prompt = next(item for item in self.items if item.user == question["question"])
            measure = facts.measure(prompt)
            for label in ("right", "wrong", "vague"):
                for answer in question[label]:
                    told = measure.told(answer)
                    yield Labelled(prompt.user, answer, label, told.kind, f"{sorted(told.right)} {sorted(told.wrong)}")


def tables() -> list[Table]:
    """All of `answers/`, by name."""
    return [_read(path) for path in sorted(FOLDER.glob("*.toml"))]


def _read(path: Path) -> Table:
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    system = Message(role="system", content=f"You are {table['name']}'s second self.")
    items = [
        item_of(question, answer, note, system) for note, told in table["notes"].items() for question, answer in told
    ]
    return Table(path.stem, tuple(items), table["bio"], {half: table.get(half, []) for half in HALVES})


def item_of(question: str, answer: str, note: str = "", system: Message | None = None) -> Prompt:
    """An item as `read_items` renders it."""
    messages = (*((system,) if system else ()), Message(role="user", content=question))
    notes = (note,) if note else ()
    return Prompt(
        id=f"{note} {question} {answer}", row=0, variant="diversity", messages=messages, target=answer, notes=notes
    )


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", choices=HALVES, default=HALVES[0])
    parser.add_argument("--misses", action="store_true", help="Show each answer that is not as labelled.")
    asked = parser.parse_args()
    for table in (table for table in tables() if table.questions[asked.half]):
        answers = list(table.labelled(asked.half))
        missed = [one for one in answers if one.label != one.told]
        facts = Facts(table.items, table.bio)
        notes = {note for item in table.items for note in item.notes}
        with_facts = sum(bool(facts.of_note(note)) for note in notes)
        right = len(answers) - len(missed)
        print(f"{table.language:14} {right / len(answers):6.1%} of {len(answers)}   {with_facts} of {len(notes)} notes")
        for one in missed if asked.misses else ():
            print(f"    {one.question} {one.answer} | {one.label}, told {one.told}: {one.facts}")


if __name__ == "__main__":
    main()
