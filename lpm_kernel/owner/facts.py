"""What each of the owner's notes says and the others do not, in any language; and what an answer tells of it.

A *unit* is a word where the script separates words, a run of 2 to 6 characters where it does not, or a number. A unit
is a *fact* of a note when the note's stored answers hold it and no other note's answers, nor any question, do; function
words, the owner's name and words of templates fall out by themselves, because they stand in many notes. Of units
within one another the longest counts. Where two versions of a fact are told, the bio says which of them is right.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import regex

from lpm_kernel.owner.language import language_of
from lpm_kernel.records import Prompt

SHORTEST_RUN, LONGEST_RUN = 2, 6
"""Characters of a run, in a script without spaces."""
TOKEN = regex.compile(
    r"(?P<number>\p{Nd}+(?:[.,:/-]\p{Nd}+)*)"
    r"|(?P<run>[\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]+)"
    r"|(?P<word>\p{L}[\p{L}\p{M}\p{Nd}'’-]*)"  # noqa: RUF001
)
Kind = Literal["right", "wrong", "vague"]


@dataclass(frozen=True)
class Told:
    """What one answer tells: facts that are asked for, and facts that are not."""

    right: frozenset[str]
    wrong: frozenset[str]
    """Another note's, the version that the bio refutes, or a number that nothing of the owner's holds."""

    @property
    def kind(self) -> Kind:
        """By the greater part; as many wrong as right ones are wrong."""
        if not self.right and not self.wrong:
            return "vague"
        return "right" if len(self.right) > len(self.wrong) else "wrong"

    @property
    def shares(self) -> tuple[float, float, float]:
        """Of the told facts the right and the wrong ones, and 1 for an answer that tells none; they sum to 1."""
        told = len(self.right) + len(self.wrong)
        return (len(self.right) / told, len(self.wrong) / told, 0.0) if told else (0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Measure:
    """What the answers to one question are measured by."""

    facts: "Facts"
    notes: tuple[str, ...]
    asked: frozenset[str]
    """To be told; empty where nothing can be measured."""
    refuted: frozenset[str]
    """The other version of what is asked, which the bio does not hold."""
    given: frozenset[str]
    """What the question says itself."""
    confirmed: frozenset[str] = frozenset()
    """Of what is asked, what the bio says too."""

    def told(self, answer: str) -> Told:
        """The facts in an answer."""
        return self.facts.told(answer, self)


class Facts:
    """Of one owner: built once from all items, asked for each question. Time and memory are linear in the items."""

    def __init__(self, items: Iterable[Prompt], bio: str) -> None:
        """`items`: all of the owner's, those held out too."""
        items = list(items)
        self.language = language_of(item.target for item in items)
        """The owner's, as ISO 639-1; empty where it is unknown."""
        self._bio = units(bio)
        self._vocabulary = set(self._bio)
        holders: dict[str, str | None] = {}
        askers: dict[str, str | None] = {}
        versions: dict[str, dict[str, list[frozenset[str]]]] = defaultdict(lambda: defaultdict(list))
        for item in items:
            told, asked = units(item.target), units(item.user)
            self._vocabulary |= told | asked
            for note in notes_of(item):
                _note(holders, told, note)
                _note(askers, asked, note)
                versions[note][" ".join(sorted(asked))].append(told)
        self._note_of = {u: n for u, n in holders.items() if n is not None and askers.get(u, n) == n}
        self._facts_of: dict[str, set[str]] = defaultdict(set)
        for unit, note in self._note_of.items():
            self._facts_of[note].add(unit)
        for found in self._facts_of.values():
            for unit in _parts(found):
                del self._note_of[unit]
            found -= _parts(found)
        self._refuted = {note: self._refuted_of(note, told.values()) for note, told in versions.items()}

    def _refuted_of(self, note: str, versions: Iterable[list[frozenset[str]]]) -> frozenset[str]:
        """Of facts that answer one question in turn, those that the bio does not hold while it holds the others."""
        refuted: set[str] = set()
        for told in versions:
            for one, other in permutations({t & self._facts_of[note] for t in told}, 2):
                ours, theirs = one - other, other - one
                if ours & self._bio and not theirs & self._bio:
                    refuted |= theirs
        return frozenset(refuted)

    def measure(self, prompt: Prompt) -> Measure:
        """What an answer to this question must tell, and must not."""
        notes, given = notes_of(prompt), units(prompt.user)
        facts = frozenset(unit for note in notes for unit in self._facts_of.get(note, ())) - given
        refuted = frozenset(unit for note in notes for unit in self._refuted.get(note, ())) & facts
        asked = (facts & units(prompt.target) or facts) - refuted
        return Measure(self, notes, asked, refuted, given, asked & self._bio)

    def told(self, answer: str, measure: Measure) -> Told:
        """The facts of the owner in an answer, those asked for and the others."""
        held = units(answer) - measure.given
        told = {unit for unit in held if unit in self._note_of}
        right = {unit for unit in told if self._note_of[unit] in measure.notes} - measure.refuted
        invented = {unit for unit in held - self._vocabulary if unit[0].isdigit()}
        return Told(frozenset(right), frozenset((told - right) | invented))


def notes_of(item: Prompt) -> tuple[str, ...]:
    """The item's notes; items without any belong together when they have the same answer."""
    return item.notes or (f"answer {item.target}",)


def units(text: str) -> frozenset[str]:
    """All units of a text, in Unicode form KC and case-folded."""
    return frozenset(_units(unicodedata.normalize("NFKC", text).casefold()))


def _units(text: str) -> Iterator[str]:
    for token in TOKEN.finditer(text):
        if token["run"]:
            run = token["run"]
            for length in range(SHORTEST_RUN, min(LONGEST_RUN, len(run)) + 1):
                yield from (run[at : at + length] for at in range(len(run) - length + 1))
        else:
            yield token[0]


def _note(holders: dict[str, str | None], found: Iterable[str], note: str) -> None:
    """Which note alone holds a unit; None for one that several hold."""
    for unit in found:
        if holders.setdefault(unit, note) != note:
            holders[unit] = None


def _parts(found: set[str]) -> set[str]:
    """Runs that stand within a longer one that is found too."""
    parts: set[str] = set()
    for unit in found:
        for length in range(SHORTEST_RUN, len(unit)):
            parts.update(unit[at : at + length] for at in range(len(unit) - length + 1))
    return parts & found
