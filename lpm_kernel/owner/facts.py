"""What each of the owner's notes says and the others do not, in any language; and what an answer tells of it.

A unit (`owner/units.py`) is a *fact* of a note when the note's stored answers hold it and no other note's answers, nor
any question of theirs, do; words of templates and the owner's name fall out by themselves, because they stand in many
notes. What the bio confirms weighs most; then names, numbers and what several stored answers repeat; an ordinary word
that stands once in all notes weighs half, and alone does not make an answer wrong. Where stored answers tell versions
of a fact that exclude one another, the bio says which of them is right.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations, groupby
from typing import Literal

from lpm_kernel.owner.units import Reader, Unit
from lpm_kernel.records import Prompt

CONFIRMED, SOLID, SLIGHT = 2.0, 1.0, 0.5
"""What a fact weighs: one that the bio holds too; a name, a number, a repeated word, a long stretch; another word."""
NOUNS_ARE_CAPITALISED = ("de", "lb")
Kind = Literal["right", "wrong", "vague"]


@dataclass(frozen=True)
class Told:
    """What one answer tells: facts that are asked for, and facts that are not."""

    right: frozenset[str]
    wrong: frozenset[str]
    """Another note's, the version that the bio refutes, or a number or name that nothing of the owner's holds."""
    weights: Mapping[str, float] = field(default_factory=dict, repr=False)
    """Of the facts told; 1 for what is not in it."""

    @property
    def kind(self) -> Kind:
        """By the greater weight; as much wrong as right is wrong."""
        right, wrong = self._weigh(self.right), self._weigh(self.wrong)
        if not right and not wrong:
            return "vague"
        return "right" if right > wrong else "wrong"

    @property
    def shares(self) -> tuple[float, float, float]:
        """Of the weight told the right and the wrong part, and 1 for an answer that tells none; they sum to 1."""
        right, wrong = self._weigh(self.right), self._weigh(self.wrong)
        told = right + wrong
        return (right / told, wrong / told, 0.0) if told else (0.0, 0.0, 1.0)

    def _weigh(self, facts: Iterable[str]) -> float:
        return sum(self.weights.get(fact, SOLID) for fact in facts)


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
    """What the question says itself, and the system prompt."""
    confirmed: frozenset[str] = frozenset()
    """Of what is asked, what the bio holds too."""

    def told(self, answer: str) -> Told:
        """The facts in an answer."""
        return self.facts.told(answer, self)


class Facts:
    """Of one owner: built once from all items, asked for each question. Time and memory are linear in the items."""

    def __init__(self, items: Iterable[Prompt], bio: str) -> None:
        """`items`: all of the owner's, those held out too."""
        items = list(items)
        self._reader = Reader(text for item in items for text in (item.user, item.target))
        self._held: dict[str, str | None] = {}
        """Form -> the note whose stored answers alone hold it; None where several do."""
        self._asked: dict[str, str | None] = {}
        """Form -> the note whose questions alone hold it."""
        self._solid: set[str] = set()
        for item in items:
            self._count(item)
        self._bio = frozenset(self._forms(bio))
        self._fact_of: dict[str, str] = {}
        """Form -> the fact that it tells."""
        self._facts_of: dict[str, set[str]] = defaultdict(set)
        stretches: dict[str, set[str]] = defaultdict(set)
        words: dict[str, set[Unit]] = defaultdict(set)
        for item in items:
            self._collect(item, words, stretches)
        for note in words.keys() | stretches.keys():
            self._name_facts(note, words.get(note, set()), stretches.get(note, set()))
        self._versions = {note: list(self._versions_of(answers)) for note, answers in self._answers(items).items()}

    def _count(self, item: Prompt) -> None:
        """Which note alone holds each form, and which forms are names, or are repeated."""
        capitals_tell = self._reader.language not in NOUNS_ARE_CAPITALISED
        for note in notes_of(item):
            for unit in self._reader.units(item.target):
                for form in unit.forms:
                    if self._held.setdefault(form, note) != note:
                        self._held[form] = None
                if unit.is_number or (unit.is_name and capitals_tell) or (len(unit.text) > 2 and unit.piece >= 0):
                    self._solid.update(unit.forms)
            for form in self._forms(item.user):
                if self._asked.setdefault(form, note) != note:
                    self._asked[form] = None

    def _collect(self, item: Prompt, words: dict[str, set[Unit]], stretches: dict[str, set[str]]) -> None:
        for note in notes_of(item):
            units = list(self._reader.units(item.target))
            words[note].update(u for u in units if u.piece < 0 and self._note_of(u.forms) == note)
            stretches[note].update(_merged(u for u in units if u.piece >= 0 and self._note_of(u.forms) == note))

    def _note_of(self, forms: Iterable[str]) -> str | None:
        """The one note that says this; None for what several say, or nobody."""
        notes = {self._held.get(form) for form in forms}
        note = notes.pop() if len(notes) == 1 else None
        return note if all(self._asked.get(form, note) == note for form in forms) else None

    def _name_facts(self, note: str, words: set[Unit], stretches: set[str]) -> None:
        """A word's inflections are one fact, and so are a stretch and its parts."""
        for unit in sorted(words, key=lambda unit: (len(unit.text), unit.text)):
            known = sorted(self._fact_of[form] for form in unit.forms if form in self._fact_of)
            fact = known[0] if known else unit.text
            self._facts_of[note].add(fact)
            for form in unit.forms:
                self._fact_of.setdefault(form, fact)
        for text in sorted(stretches, key=lambda text: (-len(text), text)):
            forms = [unit.text for unit in self._reader.units(text) if self._note_of(unit.forms) == note]
            if any(self._fact_of.setdefault(form, text) == text for form in forms):
                self._facts_of[note].add(text)

    def _answers(self, items: Iterable[Prompt]) -> dict[str, dict[str, set[frozenset[str]]]]:
        """Note -> question -> what each stored answer to it tells of the note."""
        answers: dict[str, dict[str, set[frozenset[str]]]] = defaultdict(lambda: defaultdict(set))
        for item in items:
            given = self._told_of(item.user, notes_of(item))
            for note in notes_of(item):
                answers[note][_question_key(item.user)].add(self._told_of(item.target, (note,)) - given)
        return answers

    def _versions_of(self, answers: Mapping[str, set[frozenset[str]]]) -> Iterator[tuple[frozenset[str], ...]]:
        """Groups of facts that answer one question in turn, and that no stored answer tells together."""
        together = {pair for told in answers.values() for facts in told for pair in combinations(sorted(facts), 2)}
        for told in answers.values():
            versions: list[frozenset[str]] = []
            for facts in sorted(filter(None, told), key=sorted):
                near = [version for version in versions if version & facts]
                versions = [version for version in versions if not version & facts] + [facts.union(*near)]
            apart = all(
                not any(tuple(sorted(pair)) in together for pair in ((a, b) for a in one for b in other))
                for one, other in combinations(versions, 2)
            )
            if len(versions) > 1 and apart:
                yield tuple(sorted(versions, key=sorted))

    @property
    def language(self) -> str:
        """The owner's, as ISO 639-1; empty where it is unknown."""
        return self._reader.language

    def forms_of(self, text: str) -> frozenset[str]:
        """All forms of what a text says, under which two texts meet that say the same."""
        return frozenset(self._forms(text))

    def of_note(self, note: str) -> frozenset[str]:
        """What the note says and no other does."""
        return frozenset(self._facts_of.get(note, ()))

    def versions(self, prompt: Prompt) -> tuple[frozenset[str], ...]:
        """Versions of what is asked that exclude one another, by the stored answers alone; empty without a dispute."""
        notes, told = notes_of(prompt), self._told_of(prompt.target, notes_of(prompt))
        groups = (group for note in notes for group in self._versions.get(note, ()))
        return next((group for group in groups if any(version & told for version in group)), ())

    def measure(self, prompt: Prompt) -> Measure:
        """What an answer to this question must tell, and must not."""
        notes = notes_of(prompt)
        given = frozenset(self._forms(f"{prompt.system}\n{prompt.user}"))
        gone = {self._fact_of[form] for form in given if form in self._fact_of}
        facts = frozenset(fact for note in notes for fact in self._facts_of.get(note, ())) - gone
        versions = self.versions(prompt)
        confirmed = {version for version in versions if self._confirms(version)}
        refuted = facts.intersection(*(frozenset().union(*set(versions) - confirmed),)) if confirmed else frozenset()
        asked = self._told_of(prompt.target, notes) & facts
        if asked <= refuted:
            asked = frozenset().union(*confirmed) & facts if refuted else facts
        asked -= refuted
        return Measure(self, notes, asked, refuted, given, frozenset(filter(self._is_confirmed, asked)))

    def _confirms(self, version: Iterable[str]) -> bool:
        return any(map(self._is_confirmed, version))

    def _is_confirmed(self, fact: str) -> bool:
        return not self._bio.isdisjoint(unit.text for unit in self._reader.units(fact)) or fact in self._bio

    def told(self, answer: str, measure: Measure) -> Told:
        """The facts of the owner in an answer, those asked for and the others."""
        units = [unit for unit in self._reader.units(answer) if measure.given.isdisjoint(unit.forms)]
        found: dict[str, dict[str, float]] = defaultdict(dict)
        invented: dict[str, float] = {}
        names_tell = self._names_tell(units)
        for unit in units:
            note, fact, weight = self._read(unit)
            if note is not None:
                found[note][fact] = max(weight, found[note].get(fact, 0))
            elif not self._known(unit) and (unit.is_number or (unit.is_name and names_tell)):
                invented[unit.text] = CONFIRMED
        right = {fact: weight for note in measure.notes for fact, weight in found.pop(note, {}).items()}
        wrong = {fact: right.pop(fact) for fact in measure.refuted & right.keys()}
        enough = min(SOLID, sum(self._weight(fact) for fact in measure.asked) / 2)
        if sum(right.values()) < enough:
            right = {}
        for facts in found.values():
            if sum(facts.values()) >= SOLID:
                wrong |= facts
        wrong |= invented
        return Told(frozenset(right), frozenset(wrong), right | wrong)

    def _read(self, unit: Unit) -> tuple[str | None, str, float]:
        """Whose fact a unit tells, which, and its weight: by its own form where the owner's texts hold that."""
        forms = unit.forms[:1] if unit.text in self._held or unit.text in self._asked else unit.forms
        for form in forms:
            note = self._note_of((form,))
            if note is not None and form in self._fact_of:
                return note, self._fact_of[form], self._weight(form)
        return None, "", 0.0

    def _weight(self, form: str) -> float:
        if form in self._bio:
            return CONFIRMED
        return SOLID if form in self._solid or (len(form) > 2 and not form.isalpha()) else SLIGHT

    def _known(self, unit: Unit) -> bool:
        return any(form in self._held or form in self._asked or form in self._bio for form in unit.forms)

    def _names_tell(self, units: list[Unit]) -> bool:
        """Whether a capital marks a name: not in German, nor in a text that capitalises most words."""
        words = [unit for unit in units if unit.piece < 0 and not unit.is_number]
        few = 2 * sum(unit.is_name for unit in words) <= len(words) + 1
        return few and self._reader.language not in NOUNS_ARE_CAPITALISED

    def _told_of(self, text: str, notes: tuple[str, ...]) -> frozenset[str]:
        read = (self._read(unit) for unit in self._reader.units(text))
        return frozenset(fact for note, fact, _ in read if note in notes)

    def _forms(self, text: str) -> Iterator[str]:
        for unit in self._reader.units(text):
            yield from unit.forms


def notes_of(item: Prompt) -> tuple[str, ...]:
    """The item's notes; items without any belong together when they have the same answer."""
    return item.notes or (f"answer {item.target}",)


def _merged(stretches: Iterable[Unit]) -> Iterator[str]:
    """What stretches of one piece that touch say together."""
    pieces: dict[int, dict[int, str]] = defaultdict(dict)
    for unit in stretches:
        pieces[unit.piece] |= dict(enumerate(unit.text, unit.at))
    for signs in pieces.values():
        for _, run in groupby(enumerate(sorted(signs)), key=lambda pair: pair[1] - pair[0]):
            yield "".join(signs[at] for _, at in run)


def _question_key(text: str) -> str:
    """Equal for one question in another case, spacing or punctuation."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(sign if sign.isalnum() else " " for sign in folded).strip()
