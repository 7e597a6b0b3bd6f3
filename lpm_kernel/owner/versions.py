"""Contested facts: what a note's stored answers tell in versions that exclude one another, whatever the bio says."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from itertools import combinations, takewhile

from lpm_kernel.owner.holders import Holders
from lpm_kernel.owner.note_facts import NoteFacts
from lpm_kernel.owner.units import PART

MOST_ANSWERS = 32
"""Stored answers of one note to one question; more are no versions of a fact."""
LONGEST_PLACE = 4
"""Words, or characters of a script without spaces, in which two versions of a sentence may differ."""
Versions = tuple[frozenset[str], ...]
"""Of one fact, each by what it tells."""


class Contested:
    """The contested facts of one owner's notes."""

    def __init__(self, holders: Holders, facts: NoteFacts) -> None:
        self._holders, self._facts = holders, facts
        self._known: dict[str, tuple[Versions, ...]] = {}

    def of_note(self, note: str) -> tuple[Versions, ...]:
        """Groups of facts of which each answers one question: no stored answer tells two of them, and they either have
        nothing in common or fill one place of one sentence; of two notes, they fill one place."""
        if note not in self._known:
            disputed = self._disputed(note)
            stored = self._holders.stored(note) if disputed else ()
            told = {answer: self._facts.told_of(answer, (note,)) for answer in stored}
            found = []
            for question, answers in disputed.items():
                notes = {note, *answers.values()}
                of_others = {text: self._facts.told_of(text, (of,)) for text, of in answers.items() if of != note}
                given = self._facts.told_of(question, notes)
                found.append(_rivals(told | of_others, answers, given, self._facts))
            groups = sorted(filter(None, found), key=lambda versions: [sorted(version) for version in versions])
            self._known[note] = tuple(groups)
        return self._known[note]

    def asked_by(self, target: str, notes: Collection[str]) -> Versions:
        """Of the notes' contested facts the one that a stored answer tells; empty where it tells none."""
        groups = [group for note in notes for group in self.of_note(note)]
        told = self._facts.told_of(target, notes) if groups else frozenset[str]()
        return next((group for group in groups if any(version & told for version in group)), ())

    def _disputed(self, note: str) -> Mapping[str, Mapping[str, str]]:
        """Question -> its stored answers, each with its note, of those with several; other notes' too."""
        answers: dict[str, dict[str, str]] = defaultdict(dict)
        for answer, questions in self._holders.stored(note).items():
            for question in questions:
                answers[question][answer] = note
        for question, known in answers.items():
            for other in self._holders.askers(question):
                for answer, questions in self._holders.stored(other).items() if other != note else ():
                    if question in questions:
                        known.setdefault(answer, other)
        return {question: stored for question, stored in answers.items() if 1 < len(stored) <= MOST_ANSWERS}


def _rivals(
    told: Mapping[str, frozenset[str]], note_of: Mapping[str, str], given: frozenset[str], facts: NoteFacts
) -> Versions:
    """Among the answers to one question, which tells `given` itself; `told` is what each stored answer tells."""
    rivals: dict[str, frozenset[str]] = {}
    for one, other in combinations(sorted(note_of), 2):
        ours, theirs = told[one] - told[other] - given, told[other] - told[one] - given
        together = any(ours & known and theirs & known for known in told.values())
        apart = not told[one] & told[other] - given and facts.is_solid(ours) and facts.is_solid(theirs)
        apart = apart and note_of[one] == note_of[other]
        if ours and theirs and not together and (apart or _fill_one_place(one, other)):
            rivals[one] = rivals.get(one, ours) & ours
            rivals[other] = rivals.get(other, theirs) & theirs
    versions = _joined(filter(None, rivals.values()))
    return versions if len(versions) > 1 else ()


def _joined(versions: Iterable[frozenset[str]]) -> Versions:
    """Those that share a fact are one."""
    joined: list[frozenset[str]] = []
    for version in versions:
        near = [known for known in joined if known & version]
        joined = [known for known in joined if not known & version] + [version.union(*near)]
    return tuple(sorted(joined, key=sorted))


def _fill_one_place(one: str, other: str) -> bool:
    """Whether two sentences differ in one place only, by a few words or signs, and have as many in common as one has
    there."""
    ours, theirs = PART.findall(one.casefold()), PART.findall(other.casefold())
    shared = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(ours, theirs, strict=False))))
    ours, theirs = ours[shared:], theirs[shared:]
    after = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(ours[::-1], theirs[::-1], strict=False))))
    return (
        max(len(ours), len(theirs)) - after <= LONGEST_PLACE and shared + after >= min(len(ours), len(theirs)) - after
    )
