"""The cases of a judge's examination: two answers to one question whose truth is known, made of the owner's own notes.

| kind         | the right answer                            | the other one                                           |
|--------------|---------------------------------------------|---------------------------------------------------------|
| `other_note` | a stored answer of the note                 | a stored answer of another note                         |
| `vague`      | a stored answer                             | one that tells no fact: the owner's own, else a shipped |
| `exchanged`  | a stored answer                             | the same with one fact exchanged for another note's     |
| `long_wrong` | the shortest stored answer                  | several stored answers of other notes, twice as long    |
| `long_right` | several stored answers, twice as long       | the shortest stored answer of another note              |
| `paraphrase` | two answers with the same facts: a tie is right, and who is longer must not matter                    |

Where a note holds several answers with the facts that are asked for, the right one is not the judge's reference word
by word. What `Facts` cannot tell right from wrong becomes no case.
"""

import math
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from itertools import islice
from typing import Literal
from unicodedata import category, name, normalize

import regex

from lpm_kernel.files import key_of
from lpm_kernel.judges.questions import TASKS
from lpm_kernel.owner.facts import Facts, Measure, notes_of
from lpm_kernel.owner.items import LEGACY_PREFIX
from lpm_kernel.owner.language import language_of
from lpm_kernel.records import Prompt

Kind = Literal["other_note", "vague", "exchanged", "long_wrong", "long_right", "paraphrase"]
TELLING: tuple[Kind, ...] = ("other_note", "exchanged", "long_wrong", "long_right")
"""Kinds in which both answers tell facts, one the right ones."""
LONGER = 2.0
"""A long answer has so many times the characters of a short one, or more."""
SEEN = 30
"""So many of another note's answers are looked through for those that fit a question."""

WORDLESS = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
"""Scripts that write no spaces between words."""
WHOLE = r"(?<![\p{{L}}\p{{M}}\p{{Nd}}]){}(?![\p{{L}}\p{{M}}\p{{Nd}}])"


@dataclass(frozen=True)
class Case:
    """Two answers to one question."""

    kind: Kind
    prompt: Prompt
    right: str
    other: str
    """A worse one; in a `paraphrase` one as good, and longer."""

    @property
    def right_is_longer(self) -> bool | None:
        """None for answers of one length."""
        return None if len(self.right) == len(self.other) else len(self.right) > len(self.other)


def cases_of(items: Sequence[Prompt], facts: Facts, questions: int, seed: int = 0) -> list[list[Case]]:
    """The cases of at most so many questions, spread over notes and tasks; the same for the same items and seed.

    Empty where no note says what another does not.
    """
    of_note: dict[tuple[str, ...], list[Prompt]] = defaultdict(list)
    for item in items:
        of_note[notes_of(item)].append(item)
    order = _spread(items, seed)
    hedges = shipped_hedges(language_of(item.target for item in order[:SEEN]))
    sound = list(islice(filter(partial(_is_sound, facts), order), questions + SEEN))
    found: list[list[Case]] = []
    for number, prompt in enumerate(sound):
        if len(found) == questions:
            break
        others = (sound[number + 1 :] + sound[:number])[:SEEN]
        cases = _Question(prompt, facts.measure(prompt), of_note[notes_of(prompt)], others, hedges, seed).cases()
        found += [cases] if cases else []
    return found


def _is_sound(facts: Facts, item: Prompt) -> bool:
    """Whether the stored answer tells facts of its note, and nothing wrong."""
    told = facts.measure(item).told(_text(item.target))
    return bool(told.right) and not told.wrong


def shipped_hedges(language: str) -> tuple[str, ...]:
    """Vague answers in a language by its code; none in one that has none."""
    return _hedges().get(language, ())


@cache
def _hedges() -> dict[str, tuple[str, ...]]:
    text = (resources.files("lpm_kernel.judges") / "hedges.toml").read_text(encoding="utf-8")
    return {language: tuple(answers) for language, answers in tomllib.loads(text).items()}


def _spread(items: Iterable[Prompt], seed: int) -> list[Prompt]:
    """In an order by hash in which each note, and each task, comes once before any comes again."""
    turns: Counter[object] = Counter()
    order = []
    for item in sorted(items, key=lambda item: (key_of("exam", seed, item.id), item.row)):
        key = (notes_of(item), TASKS.get(item.variant, "memory"))
        order.append((turns[key], item))
        turns[key] += 1
    return [item for _, item in sorted(order, key=lambda entry: entry[0])]


class _Question:
    """One question, and the answers that the owner's notes offer to it."""

    def __init__(
        self,
        prompt: Prompt,
        measure: Measure,
        own: Sequence[Prompt],
        others: Sequence[Prompt],
        hedges: Sequence[str],
        seed: int,
    ) -> None:
        self.prompt, self.measure, self.hedges, self.seed = prompt, measure, hedges, seed
        self.told = cache(measure.told)
        stored = list(dict.fromkeys(_text(item.target) for item in own))
        target = _text(prompt.target)
        self.needed = self.told(target).right & measure.asked
        rights = [t for t in stored if self._is_right(t)]
        self.rights = self._shuffled([text for text in rights if text != target]) or rights
        """Without the reference itself, where there are others."""
        self.all_rights = rights
        self.vague = self._shuffled([text for text in stored if self.told(text).kind == "vague"])
        strangers = dict.fromkeys(_text(o.target) for o in others if set(notes_of(o)).isdisjoint(measure.notes))
        self.wrongs = [text for text in strangers if self._is_wrong(text)]
        self.asked = _text(prompt.user.removeprefix(LEGACY_PREFIX))

    def cases(self) -> list[Case]:
        """Of every kind that can be made; none where no stored answer is right, or none wrong."""
        if not self.rights or not self.wrongs:
            return []
        made: dict[Kind, tuple[str, str] | None] = {
            "other_note": self._other_note(),
            "vague": self._vague(),
            "exchanged": self._exchanged(),
            "long_wrong": self._long_wrong(),
            "long_right": self._long_right(),
            "paraphrase": self._paraphrase(),
        }
        return [Case(kind, self.prompt, *pair) for kind, pair in made.items() if pair and _differ(*pair)]

    def _other_note(self) -> tuple[str, str]:
        """Longer or shorter by turns, as far as there are such, so that length tells nothing."""
        right = self.rights[0]
        longer = self._draw("side") % 2 == 0
        fitting = [text for text in self.wrongs if len(text) != len(right) and (len(text) > len(right)) == longer]
        return right, (fitting or self.wrongs)[0]

    def _vague(self) -> tuple[str, str] | None:
        hedges = self.vague or [h for h in self._shuffled(self.hedges) if self.told(h).kind == "vague"]
        return (self.rights[0], hedges[0]) if hedges else None

    def _exchanged(self) -> tuple[str, str] | None:
        for right in self.rights:
            for other in self._exchanges(right):
                if self._is_wrong(other, partly=True):
                    return right, other
        return None

    def _long_wrong(self) -> tuple[str, str] | None:
        right = min(self.rights, key=len)
        wrong = _joined(self.wrongs, LONGER * len(right))
        return (right, wrong) if len(wrong) >= LONGER * len(right) and self._is_wrong(wrong) else None

    def _long_right(self) -> tuple[str, str] | None:
        told = _joined([self.rights[0], *(text for text in self.all_rights if text != self.rights[0])], math.inf)
        for long in (told, _joined([self.asked, told], math.inf)):
            wrong = next((text for text in self.wrongs if LONGER * len(text) <= len(long)), None)
            if wrong and self._is_right(long):
                return long, wrong
        return None

    def _paraphrase(self) -> tuple[str, str] | None:
        """Two stored answers with the same facts, else one with the question before it."""
        short = min(self.all_rights, key=len)
        told = self.told(short).right
        alike = [t for t in self.all_rights if len(t) > len(short) and self.told(t).right == told]
        if alike:
            return short, max(alike, key=len)
        restated = _joined([self.asked, short], math.inf)
        return (short, restated) if self._is_right(restated) else None

    def _is_right(self, text: str) -> bool:
        """Whether it tells what is asked for, as the stored answer does, and nothing wrong."""
        told = self.told(text)
        return bool(self.needed) and self.needed <= told.right and not told.wrong

    def _is_wrong(self, text: str, partly: bool = False) -> bool:
        """Whether it tells something wrong and nothing right, or less than the stored answer."""
        told = self.told(text)
        return bool(told.wrong) and not (self.needed <= told.right if partly else told.right)

    def _exchanges(self, right: str) -> Iterator[str]:
        """The answer with one of its facts exchanged for another note's: of the same kind and script, first such that
        stand after the same word, as in `in Lisbon` and `in Ghent`, and of nearly the same length."""
        known = (_fact_in(right, unit) for unit in sorted(self.told(right).right & self.needed, key=_longest))
        for fact in filter(None, known):
            alike = [new for new in self._facts_of_others() if new.kind == fact.kind]
            for new in sorted(alike, key=fact.unlikeness)[:8]:
                yield right[: fact.start] + new.text + right[fact.start + len(fact.text) :]

    def _facts_of_others(self) -> list["_Fact"]:
        """As the other notes' answers spell them."""
        texts = self._shuffled(self.wrongs)
        found = [_fact_in(text, unit) for text in texts for unit in sorted(self.told(text).wrong, key=_longest)]
        return list(filter(None, found))

    def _draw(self, what: str) -> int:
        return int(key_of("exam", self.seed, self.prompt.id, what)[:8], 16)

    def _shuffled(self, texts: Sequence[str]) -> list[str]:
        return sorted(texts, key=lambda text: key_of("exam", self.seed, self.prompt.id, text))


def _text(text: str) -> str:
    """As facts read it, so that a fact can be found where it stands."""
    return normalize("NFKC", text).strip()


def _differ(one: str, other: str) -> bool:
    return one.casefold().split() != other.casefold().split()


def _joined(texts: Iterable[str], least: float) -> str:
    """One text after the other until there are so many characters; without a space after a full-width mark."""
    joined = ""
    for text in texts:
        if joined and len(joined) >= least:
            break
        spaced = joined and not (category(joined[-1]).startswith(("P", "Lo")) and ord(joined[-1]) > 0x2E80)
        joined += f" {text}" if spaced else text
    return joined


@dataclass(frozen=True)
class _Fact:
    """A fact as an answer spells it, and where."""

    text: str
    start: int
    after: str
    """The word, or in scripts without spaces the character, that stands before it."""

    @property
    def kind(self) -> tuple[bool, bool, str]:
        """A number or not, with a capital or without, and the script: the first word of its letter's Unicode name."""
        letter = next(filter(str.isalpha, self.text), " ")
        return self.text[0].isdigit(), self.text[0] != self.text[0].casefold(), name(letter, "").partition(" ")[0]

    def unlikeness(self, other: "_Fact") -> tuple[bool, bool, int]:
        """How ill another one would stand in its place; the same text is no exchange at all."""
        difference = abs(len(self.text) - len(other.text))
        return other.text.casefold() == self.text.casefold(), other.after != self.after, difference


def _fact_in(text: str, unit: str) -> _Fact | None:
    """Where a unit stands in a text; as a whole word, where the script has words."""
    folded = text.casefold()
    if len(folded) != len(text):
        return None
    wordless = WORDLESS.search(unit) is not None
    found = regex.search(regex.escape(unit) if wordless else WHOLE.format(regex.escape(unit)), folded)
    if found is None:
        return None
    before = folded[: found.start()].split()
    after = folded[max(0, found.start() - 1) : found.start()] if wordless else (before or [""])[-1]
    return _Fact(text[found.start() : found.end()], found.start(), after)


def _longest(unit: str) -> tuple[int, str]:
    return -len(unit), unit
