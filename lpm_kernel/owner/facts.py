"""What each of the owner's notes says and the others do not, in any language; and what an answer tells of it.

A unit (`owner/units.py`) is a *fact* of a note when the note's stored answers hold it and no other note's answers, nor
any question of theirs, do; words of templates and the owner's name fall out by themselves, because they stand in many
notes. What the bio confirms weighs most; then names, numbers and what several stored answers repeat; an ordinary word
that stands once in all notes weighs half, and alone does not make an answer wrong. Where stored answers tell versions
of a fact that exclude one another (`owner/versions.py`), the bio says which of them is right, or tells one of its own
(`owner/exchanges.py`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lpm_kernel.owner.exchanges import Exchanges, echoes
from lpm_kernel.owner.frames import Filling, Frames
from lpm_kernel.owner.holders import Holders, notes_of
from lpm_kernel.owner.items import same_question
from lpm_kernel.owner.note_facts import NoteFacts, Reading, found
from lpm_kernel.owner.told import CONFIRMED, SLIGHT, SOLID, Kind, Told
from lpm_kernel.owner.units import CLAUSE, PART, Reader, Unit
from lpm_kernel.owner.versions import Contested
from lpm_kernel.records import Prompt

__all__ = ["CONFIRMED", "SLIGHT", "SOLID", "Facts", "Kind", "Measure", "Told", "notes_of"]


@dataclass(frozen=True)
class Measure:
    """What the answers to one question are measured by."""

    facts: "Facts"
    notes: tuple[str, ...]
    asked: frozenset[str]
    """To be told; empty where nothing can be measured."""
    refuted: frozenset[str]
    """The other version of what is asked, which the bio does not hold."""
    upheld: frozenset[str]
    """The version of it that the bio holds; empty, as `refuted`, where nothing is contested."""
    given: frozenset[str]
    """What the question says itself."""
    confirmed: frozenset[str] = frozenset()
    """Of what is asked, what the bio holds too."""
    corrected: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Form -> the fact that the bio alone tells, in place of what is refuted."""

    def told(self, answer: str) -> Told:
        """The facts in an answer."""
        return self.facts.told(answer, self)


class Facts:
    """Of one owner: built once from all items, asked for each question. Time and memory are linear in the items."""

    def __init__(self, items: Iterable[Prompt], bio: str) -> None:
        """`items`: all of the owner's, those held out too."""
        items = list(items)
        self._reader = Reader(text for item in items for text in (item.user, item.target))
        self._bio = frozenset(self._reader.forms(bio))
        self._clauses = [frozenset(self._reader.forms(clause)) for clause in CLAUSE.split(bio)]
        self._holders = Holders(items, bio, self._reader)
        self._of_notes = NoteFacts(self._holders, self._reader, self._bio)
        self._frames = Frames(self._holders, self._reader, self._of_notes)
        self._contested = Contested(self._holders, self._of_notes)
        self._exchanges = Exchanges(bio, self._holders, self._reader, self._of_notes, self._contested)

    @property
    def language(self) -> str:
        """The owner's, as ISO 639-1; empty where it is unknown."""
        return self._reader.language

    def forms_of(self, text: str) -> frozenset[str]:
        """All forms of what a text says, under which two texts meet that say the same."""
        return frozenset(self._reader.forms(text))

    def of_note(self, note: str) -> frozenset[str]:
        """What the note says and no other does."""
        return self._of_notes.of_note(note)

    def notes_told(self, text: str) -> frozenset[str]:
        """The notes of which a text tells more than a slight word."""
        return self._of_notes.notes_told(text)

    def versions(self, prompt: Prompt) -> tuple[frozenset[str], ...]:
        """Versions of what is asked that exclude one another, by the stored answers alone; empty without a dispute."""
        return self._contested.asked_by(prompt.target, notes_of(prompt))

    def measure(self, prompt: Prompt) -> Measure:
        """What an answer to this question must tell, and must not."""
        notes = notes_of(prompt) if prompt.notes else (*notes_of(prompt), *sorted(self.notes_told(prompt.target)))
        versions = self.versions(prompt)
        disputed = frozenset[str]().union(*versions)
        askers = self._holders.askers(same_question(prompt)) if versions else ()
        notes = tuple(dict.fromkeys((*notes, *(note for note in askers if disputed & self.of_note(note)))))
        given = frozenset(self._reader.forms(prompt.user))
        facts = self._of_notes.untold_by(prompt.user, frozenset().union(*map(self.of_note, notes)))
        confirmed = self._confirmed(versions, prompt) or versions
        refuted = frozenset[str]().union(*(version for version in versions if version not in confirmed))
        asked = (self._of_notes.told_of(prompt.target, notes) & facts) or facts
        upheld = facts & {fact for version in confirmed for fact in version}
        asked = (asked | upheld) - refuted
        upheld = upheld if refuted else frozenset()
        corrected: dict[str, str] = {}
        for text, forms, stale in (exchange for note in notes for exchange in self._exchanges.of_note(note)):
            if given.isdisjoint(forms):
                corrected |= dict.fromkeys(forms, text)
                asked = asked - stale | {text} if asked & (stale | refuted) or stale & refuted else asked - stale
                refuted, upheld = refuted | stale, upheld | {text}
        held = frozenset(filter(self._is_confirmed, asked)) | asked & set(corrected.values())
        return Measure(self, notes, asked, refuted, upheld, given, held, corrected)

    def _confirmed(self, versions: Collection[frozenset[str]], prompt: Prompt) -> Sequence[frozenset[str]]:
        """The versions that the bio holds; of several, those in the clauses that speak most of what is asked."""
        if not versions:
            return ()
        told = self.forms_of(f"{prompt.user}\n{prompt.target}")
        near = {}
        for version in versions:
            forms = {form for fact in version for form in self._reader.forms(fact)}
            telling = (
                clause for clause in self._clauses if any(self._of_notes.is_in(fact, clause) for fact in version)
            )
            near[version] = max((len(told & clause - forms) for clause in telling), default=-1)
        best = max(near.values(), default=-1)
        return [version for version, nearness in near.items() if nearness == best >= 0]

    def _is_confirmed(self, fact: str) -> bool:
        return self._of_notes.weight_of(fact) == CONFIRMED

    def told(self, answer: str, measure: Measure) -> Told:
        """The facts of the owner in an answer, those asked for and the others.

        Slight words tell something only where there are several, or where the answer adds nothing else to the question.
        """
        readings = [told for told in self._of_notes.read(answer) if not self._is_given(told, measure)]
        filled = self._filled(answer, readings, measure)
        invented = self._invented(answer, readings) | {filling.text for filling in filled}
        told = found(readings)
        weights = {fact: self._of_notes.weight(forms) for facts in told.values() for fact, forms in facts.items()}
        weights |= dict.fromkeys(invented, CONFIRMED)
        corrected = {measure.corrected[f] for unit, *_ in readings for f in unit.forms if f in measure.corrected}
        if corrected:
            readings = [one for one in readings if measure.corrected.keys().isdisjoint(one.unit.forms)]
            told, invented = found(readings), invented - measure.corrected.keys()
        weights |= dict.fromkeys(corrected, CONFIRMED)
        right = {fact for notes in told if not set(measure.notes).isdisjoint(notes) for fact in told[notes]}
        right = right.difference(*(filling.around for filling in filled)) | corrected
        wrong = right & measure.refuted
        right = right - wrong if right & measure.upheld or not wrong else set()
        alone = not _adds_more(readings, invented | {unit.text for filling in filled for unit in filling.units})
        if not (alone and right & measure.asked) and sum(weights[fact] for fact in right) < self._enough(measure):
            right = set()
        for notes, facts in told.items():
            if not set(measure.notes).isdisjoint(notes):
                continue
            if sum(weights[fact] for fact in facts) >= SOLID or (alone and any(map(self._reader.names_a_thing, facts))):
                wrong |= facts.keys()
        return Told(frozenset(right), frozenset(wrong | invented), weights)

    def _invented(self, answer: str, readings: Sequence[Reading]) -> set[str]:
        """Numbers and names that nothing of the owner's holds."""
        names_tell = self._of_notes.capitals_tell and not _is_mostly_names(answer, [unit for unit, *_ in readings])
        unclaimed = (unit for unit, notes, _ in readings if not notes and not self._is_known(unit))
        return {unit.text for unit in unclaimed if unit.is_number or (unit.is_name and names_tell)}

    def _filled(self, answer: str, readings: Sequence[Reading], measure: Measure) -> list[Filling]:
        """What stands in place of facts of the asked notes, and nothing of the owner's holds; where the answer tells
        something that is asked for, only in place of what weighs as much."""
        if all(notes or unit.is_number or self._is_known(unit) for unit, notes, _ in readings):
            return []
        told = {fact for _, _, fact in readings if fact in measure.asked}
        least = max(map(self._of_notes.weight_of, told), default=0.0)
        fillings = (filling for note in measure.notes for filling in self._frames.fillings(note, answer))
        return [
            one
            for one in fillings
            if one.facts & measure.asked
            and self._is_another(one, measure)
            and max(map(self._of_notes.weight_of, one.facts)) >= least
        ]

    def _is_another(self, filling: Filling, measure: Measure) -> bool:
        """Whether neither the bio, nor its own version, nor the question in another inflection says it."""
        if any(self._is_known(unit) or any(form in measure.corrected for form in unit.forms) for unit in filling.units):
            return False
        return not any(echoes(unit.text, given) for unit in filling.units for given in measure.given if unit.piece < 0)

    def _is_given(self, told: Reading, measure: Measure) -> bool:
        """Whether the question says it; of ordinary words, also in another inflection."""
        unit = told.unit
        if not measure.given.isdisjoint(unit.forms) or self._holders.is_background(unit):
            return True
        if unit.piece >= 0 or not told.notes or self._of_notes.is_name_or_number(unit):
            return False
        return any(echoes(unit.text, given) for given in measure.given)

    def _enough(self, measure: Measure) -> float:
        """The least weight that answers; where only slight words are asked for, one of them does."""
        return min(SOLID, max(map(self._of_notes.weight_of, measure.asked), default=SOLID))

    def _is_known(self, unit: Unit) -> bool:
        return any(self._holders.says(form) or form in self._bio for form in unit.forms)


def _is_mostly_names(text: str, units: Sequence[Unit]) -> bool:
    """A text that capitalises most words, small ones too, marks no name by a capital."""
    words = [unit for unit in units if unit.piece < 0 and not unit.is_number]
    if 2 * sum(unit.is_name for unit in words) <= len(words) + 1:
        return False
    written = [word for word in PART.findall(text) if word[0].isalpha()]
    return bool(2 * sum(word[0].isupper() for word in written) > len(written) + 1)


def _adds_more(readings: Sequence[Reading], invented: Collection[str]) -> bool:
    """Whether there are words, or pieces of the answer, that tell no fact."""
    telling = {unit.piece for unit, notes, _ in readings if unit.piece >= 0 and notes}
    return any(unit.piece not in telling and not notes and unit.text not in invented for unit, notes, _ in readings)
