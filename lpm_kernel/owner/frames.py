"""The sentences in which a note tells its facts, as frames; and what a text puts in a fact's place.

"You live in Ghent" is the frame "you live in ..." about its fact: "you live in Toledo" fills it with another thing, in
any script and without a capital; "you live in a quiet town" does not, because its words are not all the thing itself.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple
from unicodedata import normalize

import regex

from lpm_kernel.owner.holders import Holders
from lpm_kernel.owner.note_facts import NoteFacts
from lpm_kernel.owner.units import CLAUSE, PART, PARTICLE, RUN, SHORTEST_STEM, Reader, Unit, fold

WIDEST_CONTEXT = 12
"""Words or signs before and after a fact that its frame holds."""
LONGEST_FACT = 3
"""Words of a place."""
CONTEXT, SIGNS_OF_CONTEXT = 1, 2
"""Words, or signs of a script without spaces, that are the same on a side of a place, where it is not the edge."""
SENTENCE_OF_SMALL_WORDS = 3
"""As many words are a frame where they are the whole clause, even if each of them is a small one."""
LONGEST_CLAUSE = 60
"""Words or signs of one that is compared."""
MOST_FRAMES = 200
"""Of one note; of more, the first by their words."""
LONGEST_ENDING = 2
"""Letters in which two inflections of one word differ, beyond what stems and particles are."""
DIGIT = regex.compile(r"\p{Nd}")
MORE_SIGNS = 2
"""That may fill a place in a script without spaces, beyond those of the fact."""
HIRAGANA = regex.compile(r"\p{Hiragana}+")
"""Mostly inflections and small words; a thing is written so where the note's is."""


class Frame(NamedTuple):
    """A place of a sentence: what stands before and after it, and what the note's facts in it look like."""

    before: tuple[str, ...]
    after: tuple[str, ...]
    facts: frozenset[str]
    places: tuple[str, ...]
    """As they are written."""


class Filling(NamedTuple):
    """What a text has in the place of facts."""

    text: str
    units: tuple[Unit, ...]
    facts: frozenset[str]
    around: frozenset[str]
    """What the sentence tells of the note around it."""


class Frames:
    """Of one owner's notes."""

    def __init__(self, holders: Holders, reader: Reader, facts: NoteFacts) -> None:
        self._holders, self._reader, self._facts = holders, reader, facts
        self._known: dict[str, tuple[Frame, ...]] = {}

    def of_note(self, note: str) -> tuple[Frame, ...]:
        """One for each place that a fact has in a stored answer."""
        if note not in self._known:
            facts: dict[tuple[tuple[str, ...], tuple[str, ...]], set[str]] = defaultdict(set)
            places: dict[tuple[tuple[str, ...], tuple[str, ...]], set[str]] = defaultdict(set)
            for answer in self._holders.stored(note):
                for words in _clauses(answer):
                    folded = tuple(map(fold, words))
                    for start, end, told in self._places(note, words):
                        context = folded[:start][-WIDEST_CONTEXT:], folded[end:][:WIDEST_CONTEXT]
                        facts[context] |= told
                        places[context].add(_text(words[start:end]))
            first = sorted(facts)[:MOST_FRAMES]
            self._known[note] = tuple(
                Frame(*context, frozenset(facts[context]), tuple(sorted(places[context]))) for context in first
            )
        return self._known[note]

    def _places(self, note: str, words: Sequence[str]) -> Iterator[tuple[int, int, frozenset[str]]]:
        """Where in a clause facts of the note stand: from, to, and which."""
        if any(map(RUN.match, words)):
            yield from self._stretches(note, words)
            return
        told = [self._facts.told_of(word, (note,)) for word in words]
        for start in range(len(words)):
            for end in range(start + 1, min(start + LONGEST_FACT, len(words)) + 1):
                if not told[end - 1]:
                    break
                yield start, end, frozenset().union(*told[start:end])

    def _stretches(self, note: str, words: Sequence[str]) -> Iterator[tuple[int, int, frozenset[str]]]:
        """Each fact by itself, and those that touch together."""
        text, starts = "".join(words), [0]
        for word in words:
            starts.append(starts[-1] + len(word))
        spans = []
        for fact in self._facts.told_of(text, (note,)):
            at = text.casefold().find(fact)
            if at in starts and at + len(fact) in starts:
                spans.append((starts.index(at), starts.index(at + len(fact)), frozenset((fact,))))
        spans.sort(key=lambda span: span[:2])
        yield from spans
        joined: list[tuple[int, int, frozenset[str]]] = []
        for start, end, told in spans:
            if joined and start <= joined[-1][1]:
                before = joined.pop()
                start, end, told = before[0], max(before[1], end), before[2] | told
            joined.append((start, end, told))
        yield from joined

    def fillings(self, note: str, text: str) -> Iterator[Filling]:
        """What the text says in place of the note's facts, of which it tells none there."""
        clauses = _clauses(text)
        told = self._facts.told_of(text, (note,))
        for frame in self.of_note(note):
            if told.isdisjoint(frame.facts):
                for words in clauses:
                    place = self._place(frame, words)
                    if (
                        place
                        and not any(_text(place) in fact or fact in _text(place) for fact in told)
                        and self._is_thing(frame, place)
                    ):
                        around = self._facts.told_of(_text(words), (note,))
                        yield Filling(_text(place), self._reader.units(_text(place)), frame.facts, around)

    def _place(self, frame: Frame, words: Sequence[str]) -> Sequence[str]:
        """What stands where the most of the frame surrounds it; nothing where what surrounds it says nothing."""
        folded = [fold(word) for word in words]
        least = SIGNS_OF_CONTEXT if any(map(RUN.match, words)) else CONTEXT
        best: tuple[int, int, int] = (0, 0, 0)
        for start in range(len(words)):
            before = _common(reversed(frame.before), reversed(folded[:start]))
            if start and before < min(least, len(frame.before) or least):
                continue
            for end in range(start + 1, len(words) + 1):
                after = _common(frame.after, folded[end:])
                if after < min(least, len(frame.after)) or (end < len(words) and not after):
                    continue
                around = (*frame.before[len(frame.before) - before :], *frame.after[:after])
                if before + after > best[0] and (self._reader.says(_text(around)) or _is_whole(frame, words, around)):
                    best = before + after, start, end
        return words[best[1] : best[2]]

    def _is_thing(self, frame: Frame, words: Sequence[str]) -> bool:
        """Whether no word of it is a small one, or known of the owner, and it looks like the note's."""
        text = _text(words)
        units = self._reader.units(text)
        is_new = units and not any(self._is_known(unit) or unit.is_number for unit in units)
        if not is_new or not self._reader.is_plain(text) or not self._reader.names_a_thing(text):
            return False
        if any(_inflects(text, place) for place in frame.places):
            return False
        return any(_looks_like(text, place) for place in frame.places)

    def _is_known(self, unit: Unit) -> bool:
        return any(map(self._holders.says, unit.forms)) or self._holders.is_background(unit)


def _looks_like(text: str, place: str) -> bool:
    """As long as what the note has there, with a capital or an ending where that has one; a word is no number."""
    if bool(RUN.search(text)) != bool(RUN.search(place)) or DIGIT.search(place):
        return False
    if RUN.search(text):
        is_kana = HIRAGANA.fullmatch(text) and not HIRAGANA.fullmatch(place)
        return not is_kana and len(text) <= max(2 * len(place), len(place) + MORE_SIGNS)
    endings = [bool(PARTICLE.search(one)) for one in (text, place)]
    capitals = not place[0].isupper() or text[0].isupper()
    return capitals and endings[0] == endings[1] and (" " not in text or _is_title(text, place))


def _inflects(text: str, place: str) -> bool:
    """Whether two words in small letters differ in their endings alone."""
    if text[0].isupper() or RUN.search(text):
        return False
    one, other = fold(text), fold(place)
    stem = _common(one, other)
    return stem >= SHORTEST_STEM and max(len(one), len(other)) - stem <= LONGEST_ENDING


def _is_title(text: str, place: str) -> bool:
    """Whether both are names of several words, and the new one of no more; small words would be a description."""
    words, theirs = text.split(), place.split()
    return len(words) <= len(theirs) and all(word[0].isupper() for word in (*words, *theirs))


def _is_whole(frame: Frame, words: Sequence[str], around: Sequence[str]) -> bool:
    """Whether a clause of words is all of the frame's, but for the place."""
    is_all = len(around) == len(frame.before) + len(frame.after)
    return is_all and len(around) >= SENTENCE_OF_SMALL_WORDS and not any(map(RUN.match, words))


def _clauses(text: str) -> list[list[str]]:
    found = (PART.findall(clause) for clause in CLAUSE.split(normalize("NFKC", text)))
    return [words for words in found if 0 < len(words) <= LONGEST_CLAUSE]


def _text(words: Sequence[str]) -> str:
    return ("" if any(map(RUN.match, words)) else " ").join(words)


def _common(one: Iterable[str], other: Iterable[str]) -> int:
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))))
