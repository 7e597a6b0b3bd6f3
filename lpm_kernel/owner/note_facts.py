"""The facts of each note, named: what its stored answers hold and nothing of the other notes does.

Words of one stem, and stretches of one piece that touch, tell one fact. What a note's questions ask of is its topic and
no fact. Notes are read when they are first asked for.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from lpm_kernel.owner.holders import Holders, Notes
from lpm_kernel.owner.told import CONFIRMED, SLIGHT, SOLID
from lpm_kernel.owner.units import RUN, Reader, Unit, shorter

NOUNS_ARE_CAPITALISED = ("de", "lb")
FEW_QUESTIONS = 5
"""Of so few, a word in one or two does not make a topic."""


class Reading(NamedTuple):
    """What one unit of a text tells."""

    unit: Unit
    notes: Notes = ()
    """Whose fact it is."""
    fact: str = ""


class NoteFacts:
    """Of one owner's notes; the bio says what weighs most."""

    def __init__(self, holders: Holders, reader: Reader, bio: frozenset[str]) -> None:
        """`bio`: the forms of its units."""
        self._holders, self._reader, self._bio = holders, reader, bio
        self._fact_of: dict[str, str] = {}
        """Form -> the fact that it tells, of the notes collected so far."""
        self._solid: set[str] = set()
        """Names and numbers."""
        self._repeated: set[str] = set()
        """Forms that several answers of their note hold, and no question."""
        self._capitalised: set[str] = set()
        """Words that open a sentence: names or not."""
        self._topics_of: dict[str, frozenset[str]] = {}
        """Of the notes collected so far."""
        self._facts_of: dict[str, frozenset[str]] = {}
        self._of_background: set[str] = set()
        """Facts that the system prompts or the owner's names tell, of the notes collected so far."""
        self._weights: dict[str, float] = {}
        self.read = lru_cache(maxsize=1 << 10)(self._read)
        """What each unit of a text tells, in order."""

    @property
    def capitals_tell(self) -> bool:
        """Whether a capital within a sentence marks a name."""
        return self._reader.language not in NOUNS_ARE_CAPITALISED

    def of_note(self, note: str) -> frozenset[str]:
        """What the note says and no other does."""
        if note not in self._facts_of:
            stored = self._holders.stored(note)
            self._facts_of[note] = frozenset[str]().union(*(self.told_of(answer, (note,)) for answer in stored))
        return self._facts_of[note]

    def told_of(self, text: str, notes: Collection[str]) -> frozenset[str]:
        """The facts of some notes in a text."""
        return frozenset(fact for _, of, fact in self.read(text) if any(note in notes for note in of))

    def notes_told(self, text: str) -> frozenset[str]:
        """The notes of which a text tells more than a slight word."""
        return frozenset(
            note
            for notes, facts in found(self.read(text)).items()
            if sum(map(self.weight, facts.values())) >= SOLID
            for note in notes
        )

    def _read(self, text: str) -> tuple[Reading, ...]:
        return tuple(map(self.read_unit, self._reader.units(text)))

    def read_unit(self, unit: Unit) -> Reading:
        """What a unit tells, by the first of its forms that does; its own where the owner's texts hold that."""
        for form in unit.forms[:1] if self._holders.says(unit.text) else unit.forms:
            notes = self._holders.notes_of(form)
            if notes:
                self.collect(notes[0])
                if form in self._fact_of:
                    return Reading(unit, notes, self._fact_of[form])
        return Reading(unit)

    def untold_by(self, question: str, facts: frozenset[str]) -> frozenset[str]:
        """Of some facts, those that neither the question itself, nor a system prompt, nor the owner's names tell."""
        given = {self._fact_of[form] for form in self._reader.forms(question) if form in self._fact_of}
        return frozenset(fact for fact in facts if fact not in given and fact not in self._of_background)

    def topics(self, note: str) -> frozenset[str]:
        """What most of the note's questions ask of; no name."""
        self.collect(note)
        return self._topics_of[note]

    def weight(self, forms: Iterable[str]) -> float:
        """Of the forms under which one fact is told; what a question says too, and is no name, is its topic."""
        forms = set(forms)
        is_solid = not self._solid.isdisjoint(forms)
        if not is_solid and any(map(self._holders.asks, forms)):
            return SLIGHT
        if not self._bio.isdisjoint(forms):
            return CONFIRMED
        solid = is_solid or not self._repeated.isdisjoint(forms)
        return SOLID if solid or sum(bool(RUN.match(form)) for form in forms) > 1 else SLIGHT

    def weight_of(self, fact: str) -> float:
        """Of a fact by its name, of a note collected before."""
        if fact not in self._weights:
            self._weights[fact] = self.weight(self._reader.forms(fact))
        return self._weights[fact]

    def is_in(self, fact: str, said: Collection[str]) -> bool:
        """Whether a text with these forms holds a fact: a word of it in one form, of a stretch most of its parts."""
        forms = set(self._reader.forms(fact))
        held = sum(form in said for form in forms)
        return 2 * held >= len(forms) if any(map(RUN.match, forms)) else held > 0

    def is_name_or_number(self, unit: Unit) -> bool:
        """In a stored answer."""
        return not self._solid.isdisjoint(unit.forms)

    def is_solid(self, facts: Iterable[str]) -> bool:
        """Whether one of the facts is a name, a number, or a word that is repeated or capitalised."""
        forms = {form for fact in facts for form in self._reader.forms(fact)}
        return any(not forms.isdisjoint(known) for known in (self._solid, self._repeated, self._capitalised))

    def collect(self, note: str) -> None:
        """Name the facts of a note, those shared with a note of lower name apart."""
        if note in self._topics_of:
            return
        self._topics_of[note] = frozenset()
        stored = self._holders.stored(note)
        answers = sorted(stored)
        told = [self._own_units(answer, note) for answer in answers]
        stands_in: dict[str, set[int]] = defaultdict(set)
        for number, units in enumerate(told):
            for unit in units:
                for form in unit.forms:
                    stands_in[form].add(number)
                if unit.is_number or (unit.is_name and self.capitals_tell):
                    self._solid.update(unit.forms)
                elif unit.is_capitalised:
                    self._capitalised.update(unit.forms)
        repeated = (form for form, where in stands_in.items() if len(where) > 1)
        self._repeated.update(form for form in repeated if not self._holders.asks(form))
        topics = self._topics_of[note] = self._topics([stored[answer] for answer in answers], stands_in)
        self._name_words(
            {(u.text, u.forms) for units in told for u in units if u.piece < 0 and topics.isdisjoint(u.forms)}
        )
        for units in told:
            self._name_stretches([unit for unit in units if unit.piece >= 0], stands_in, topics)
        said = stands_in.keys() & self._holders.background
        self._of_background.update(self._fact_of[form] for form in said if form in self._fact_of)

    def _own_units(self, answer: str, note: str) -> list[Unit]:
        """What an answer says and other notes do not; of several notes that share it, the first one's."""
        owner_of = self._holders.notes_of_all
        return [unit for unit in self._reader.units(answer) if owner_of(unit.forms)[:1] == (note,)]

    def _topics(self, questions: Sequence[set[str]], stands_in: Mapping[str, set[int]]) -> frozenset[str]:
        """What most of a note's questions ask of, or more of them than have an answer that says it; no name."""
        all_questions = set().union(*questions)
        asked = Counter(form for question in all_questions for form in set(self._reader.forms(question)))
        most = max(FEW_QUESTIONS, len(all_questions)) / 2
        told = {form: len(set().union(*(questions[n] for n in stands_in.get(form, ())))) for form in asked}
        topics = {form for form, count in asked.items() if count > told[form] or count >= most}
        return frozenset(topics - self._solid)

    def _name_words(self, words: set[tuple[str, tuple[str, ...]]]) -> None:
        """A word's inflections tell one fact."""
        for text, forms in sorted(words, key=lambda word: (len(word[0]), word)):
            fact = next((self._fact_of[form] for form in forms if form in self._fact_of), text)
            for form in forms:
                self._fact_of.setdefault(form, fact)

    def _name_stretches(self, units: list[Unit], stands_in: Mapping[str, set[int]], topics: Collection[str]) -> None:
        """Of one answer, the shortest stretches that are the note's own, and no part of its topic: those that touch,
        and stand in the same answers, tell one fact."""
        topical = {(u.piece, at) for u in units if u.text in topics for at in range(u.at, u.at + len(u.text))}
        shortest = [
            u
            for u in units
            if stands_in.keys().isdisjoint(shorter(u.text))
            and not any((u.piece, at) in topical for at in range(u.at, u.at + len(u.text)))
        ]
        groups: dict[tuple[int, frozenset[int]], list[Unit]] = defaultdict(list)
        for unit in shortest:
            groups[unit.piece, frozenset(stands_in[unit.text])].append(unit)
        for group in groups.values():
            for text, forms in _merged(group):
                for form in forms:
                    known = self._fact_of.get(form, "")
                    self._fact_of[form] = max(known, text, key=lambda fact: (len(fact), fact))


def found(readings: Iterable[Reading]) -> dict[Notes, dict[str, set[str]]]:
    """Notes -> their facts that are told -> the forms that tell each."""
    found: dict[Notes, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for unit, notes, fact in readings:
        if notes:
            found[notes][fact].update(unit.forms)
    return found


def _merged(stretches: Iterable[Unit]) -> Iterator[tuple[str, list[str]]]:
    """Stretches of one piece that touch or overlap: what they say together, and they themselves."""
    text, end = "", 0
    forms: list[str] = []
    for unit in sorted(stretches, key=lambda unit: (unit.at, len(unit.text))):
        if forms and unit.at > end:
            yield text, forms
            text, forms = "", []
        text = text + unit.text[end - unit.at :] if forms else unit.text
        end = unit.at + len(unit.text)
        forms.append(unit.text)
    if forms:
        yield text, forms
