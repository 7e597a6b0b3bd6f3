"""Who says what: each form of the owner's stored texts -> the notes that all texts with it rest on."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import regex

from lpm_kernel.owner.items import same_question
from lpm_kernel.owner.units import Reader, Unit
from lpm_kernel.records import Prompt

NAME = regex.compile(r"\p{Lu}[\p{L}\p{M}-]+")
MOST_NOTES = 8
"""That answer one question about the same thing; one that more answer asks each of something else."""
Notes = tuple[str, ...]
"""Of one item, in order."""


class Holders:
    """Of one owner's items. Time and memory are linear in them."""

    def __init__(self, items: Sequence[Prompt], bio: str, reader: Reader) -> None:
        self._reader = reader
        self._held: dict[str, Notes] = {}
        """Form -> the notes that all stored answers with it rest on; empty where answers of different notes hold it."""
        self._asked: dict[str, Notes] = {}
        """The same of the questions."""
        self._stored: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        """Note -> stored answer -> its questions."""
        self._askers: dict[str, tuple[str, ...]] = {}
        """Question -> the notes that answer it."""
        unnoted: tuple[dict[str, Notes], dict[str, Notes]] = {}, {}
        for item in items:
            notes = tuple(sorted(notes_of(item)))
            held, asked = (self._held, self._asked) if item.notes else unnoted
            _add(held, reader.forms(item.target), notes)
            _add(asked, reader.forms(item.user), notes)
            question = same_question(item)
            for note in notes:
                self._stored[note][item.target].add(question)
                askers = self._askers.get(question, ())
                if note not in askers[-1:] and len(askers) <= MOST_NOTES:
                    self._askers[question] = tuple(dict.fromkeys((*askers, note)))
        # What a note says stays its own when items without a note speak of it.
        for form, notes in unnoted[1].items():
            if form not in self._held:
                self._asked.setdefault(form, notes)
        for form, notes in unnoted[0].items():
            self._held.setdefault(form, notes)
        systems = {item.system for item in items}
        self.background = frozenset(reader.forms("\n".join({*systems, *_own_names(systems, bio)})))
        """What the system prompts say, and the owner's names: told by no answer."""

    def stored(self, note: str) -> Mapping[str, set[str]]:
        """The note's stored answers -> their questions."""
        return self._stored.get(note, {})

    def askers(self, question: str) -> tuple[str, ...]:
        """The notes that answer a question, by `same_question`, in order; none of one that very many answer."""
        askers = self._askers.get(question, ())
        return tuple(sorted(askers)) if len(askers) <= MOST_NOTES else ()

    def notes_of(self, form: str) -> Notes:
        """The notes that alone say this; empty for what different notes say, or nobody."""
        held = self._held.get(form, ())
        if not held or (asked := self._asked.get(form, held)) == held:
            return held
        return _both(held, asked)

    def notes_of_all(self, forms: Iterable[str]) -> Notes:
        """The notes that alone say each of these."""
        notes: Notes | None = None
        for form in forms:
            of_form = self.notes_of(form)
            notes = of_form if notes is None or notes == of_form else _both(notes, of_form)
            if not notes:
                return ()
        return notes or ()

    def says(self, form: str) -> bool:
        """Whether a stored answer or a question holds this."""
        return form in self._held or form in self._asked

    def asks(self, form: str) -> bool:
        """Whether a question holds this."""
        return form in self._asked

    def is_only_of(self, note: str, form: str) -> bool:
        """Whether this stands in the texts of one note alone."""
        return (self._held.get(form) or self._asked.get(form)) == (note,)

    def is_background(self, unit: Unit) -> bool:
        """Whether the system prompts say it, or it is a name of the owner's."""
        return not self.background.isdisjoint(unit.forms)


def notes_of(item: Prompt) -> tuple[str, ...]:
    """The item's notes; items without any belong together when they have the same answer."""
    return item.notes or (f"answer {item.target}",)


def _add(holders: dict[str, Notes], forms: Iterable[str], notes: Notes) -> None:
    for form in forms:
        held = holders.setdefault(form, notes)
        if held is not notes and held != notes:
            holders[form] = _both(held, notes)


def _both(some: Notes, others: Notes) -> Notes:
    return tuple(note for note in some if note in others)


def _own_names(systems: Iterable[str], bio: str) -> Iterator[str]:
    """What the bio writes beside the owner's name, as the prompts call them: their other names."""
    names = {name for system in systems for name in NAME.findall(system)}
    for name in sorted(names):
        for found in regex.finditer(rf"(?:{NAME.pattern} )*\b{regex.escape(name)}\b(?: {NAME.pattern})*", bio):
            yield found[0]
