"""Where the bio tells another version than the stored answers: one thing in place of one fact of a note's sentence."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from difflib import SequenceMatcher

from lpm_kernel.owner.holders import Holders
from lpm_kernel.owner.note_facts import NoteFacts
from lpm_kernel.owner.units import PART, SENTENCE, Reader, Unit
from lpm_kernel.owner.versions import LONGEST_PLACE, Contested

SHORTEST_CORE, ECHO = 3, 0.6
"""Letters that inflections of a word share at least, and their share of the shorter one."""
LONGEST_SENTENCES = 200
"""Words and signs of two that are compared one by one."""
MOST_NEW_WORDS = 2
"""Ordinary words that the notes do not hold, beside the one thing that the bio's sentence exchanges."""
ORDINARY = "ordinary"
"""A word without a capital, which is never exchanged."""
Exchange = tuple[str, frozenset[str], frozenset[str]]
"""What the bio says in place of stored facts: as it reads, its forms, and those facts."""


class Exchanges:
    """What the bio exchanges in each of one owner's notes."""

    def __init__(self, bio: str, holders: Holders, reader: Reader, facts: NoteFacts, contested: Contested) -> None:
        self._holders, self._reader, self._facts, self._contested = holders, reader, facts, contested
        self._bio = frozenset(reader.forms(bio))
        self._sentences = [sentence.strip() for sentence in SENTENCE.split(bio) if sentence.strip()]
        self._speaks_of: dict[str, set[int]] = defaultdict(set)
        """Form -> the bio's sentences with it."""
        for at, sentence in enumerate(self._sentences):
            for form in reader.forms(sentence):
                self._speaks_of[form].add(at)
        self._known: dict[str, tuple[Exchange, ...]] = {}

    def of_note(self, note: str) -> tuple[Exchange, ...]:
        """Where the bio's sentence about a note says all that a stored answer says, but one thing in place of one fact
        that the bio holds nowhere; none where two sentences claim it, or another note's answer fits as well."""
        if note not in self._known:
            near = {at for form in self._forms_of(note) for at in self._speaks_of.get(form, ())}
            found = {exchange for at in near for exchange in self._fitting(note, self._sentences[at])}
            found = {one for one in found if not any(self._facts.is_in(fact, self._bio) for fact in one[2])}
            news = {one[0] for one in found}
            self._known[note] = tuple(sorted(found, key=lambda one: sorted(one[2]))) if len(news) == 1 else ()
        return self._known[note]

    def _forms_of(self, note: str) -> Iterator[str]:
        """Of its answers and questions."""
        stored = self._holders.stored(note)
        for text in (*stored, *set[str]().union(*stored.values())):
            yield from self._reader.forms(text)

    def _fitting(self, note: str, sentence: str) -> Iterator[Exchange]:
        topics = self._facts.topics(note)
        units = self._reader.units(sentence)
        said = {form for unit in units for form in unit.forms} - self._holders.background
        if not any(form in topics or self._holders.is_only_of(note, form) for form in said):
            return
        if any(unit.piece >= 0 for unit in units):
            yield from self._fitting_signs(note, sentence)
        else:
            yield from self._fitting_words(note, units, said)

    def _fitting_words(self, note: str, units: Sequence[Unit], said: Collection[str]) -> Iterator[Exchange]:
        words = {unit.text for unit in units if _kind(unit) == ORDINARY}
        new = [unit for unit in units if not self._is_known(unit)]
        for answer in sorted(self._holders.stored(note)):
            missing = [u for u in self._reader.units(answer) if not any(form in said for form in u.forms)]
            gone = [u for u in missing if not self._holders.is_background(u)]
            gone = [u for u in gone if _kind(u) != ORDINARY or not any(echoes(u.text, word) for word in words)]
            facts = {told.fact for told in map(self._facts.read_unit, gone) if told.notes}
            alike = [unit for unit in new if gone and _kind(unit) == _kind(gone[0])]
            is_thing = gone and _kind(gone[0]) != ORDINARY
            plain = len([unit for unit in new if _kind(unit) == ORDINARY and unit not in alike]) <= MOST_NEW_WORDS
            alone = plain and all(unit in alike or _kind(unit) == ORDINARY for unit in new)
            if is_thing and alone and len(gone) == len(facts) == 1 and _is_one_thing(alike, units):
                yield self._exchange(note, " ".join(unit.text for unit in alike), facts)

    def _fitting_signs(self, note: str, sentence: str) -> Iterator[Exchange]:
        """In a script without spaces the new thing stands between the same signs as the old one."""
        known = frozenset(self._forms_of(note))
        found: dict[frozenset[str], tuple[str, set[str]]] = {}
        for answer in self._holders.stored(note):
            ours, theirs = PART.findall(answer.casefold()), PART.findall(sentence.casefold())
            if len(ours) + len(theirs) > LONGEST_SENTENCES:
                continue
            places, equal = _compare(ours, theirs)
            places = [(old, new) for old, new in places if any(map(self._reader.says, (old, new)))]
            shared = {form for text in equal for form in self._reader.forms(text)}
            if len(places) == 1 and shared & known:
                old, new = places[0]
                facts = self._facts.told_of(old, (note,))
                if facts and len(new) <= len(old) + LONGEST_PLACE and not any(old in said for said in self._sentences):
                    told, stale = found.setdefault(frozenset(self._reader.forms(new)), (new, set()))
                    found[frozenset(self._reader.forms(new))] = min(told, new, key=len), stale | facts
        for forms, (new, stale) in found.items():
            if forms and not any(map(self._holders.says, forms)):
                yield self._exchange(note, new, stale)

    def _exchange(self, note: str, new: str, facts: Collection[str]) -> Exchange:
        """With a version of a fact its rivals go too."""
        stale = set(facts)
        for group in self._contested.of_note(note):
            if any(not version.isdisjoint(facts) for version in group):
                stale.update(*group)
        return new, frozenset(self._reader.forms(new)), frozenset(stale)

    def _is_known(self, unit: Unit) -> bool:
        return any(map(self._holders.says, unit.forms)) or self._holders.is_background(unit)


def _compare(ours: Sequence[str], theirs: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Where two sentences differ, as the one and the other have it, and what they have in common; a sign that two
    different things happen to share, with more of them on both sides, is part of them."""
    steps = SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes()
    differ = [(i, j, k, m) for step, i, j, k, m in steps if step != "equal"]
    merged: list[tuple[int, int, int, int]] = []
    for i, j, k, m in differ:
        if merged and i - merged[-1][1] == 1 and max(j - merged[-1][0], m - merged[-1][2]) <= LONGEST_PLACE:
            i, k = merged[-1][0], merged.pop()[2]
        merged.append((i, j, k, m))
    ends = [(0, 0), *((j, m) for _, j, _, m in merged)]
    begins = [*((i, k) for i, _, k, _ in merged), (len(ours), len(theirs))]
    equal = ["".join(ours[end:begin]) for (end, _), (begin, _) in zip(ends, begins, strict=True)]
    return [("".join(ours[i:j]), "".join(theirs[k:m])) for i, j, k, m in merged], equal


def echoes(word: str, given: str) -> bool:
    """Whether two words have most of the shorter and half of the longer one in common, as inflections of one have."""
    shared = SequenceMatcher(None, word, given, autojunk=False).find_longest_match().size
    shorter, longer = sorted((len(word), len(given)))
    return shared >= SHORTEST_CORE and shared > ECHO * shorter and 2 * shared >= longer


def _kind(unit: Unit) -> str:
    return "number" if unit.is_number else "name" if unit.is_name else ORDINARY


def _is_one_thing(things: Sequence[Unit], units: Sequence[Unit]) -> bool:
    """One word or number, or a name of several words that follow one another."""
    if len(things) < 2:
        return len(things) == 1
    first = units.index(things[0])
    return all(unit.is_name for unit in things) and list(things) == list(units[first : first + len(things)])
