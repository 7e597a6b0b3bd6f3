"""What each of the owner's notes says and the others do not, in any language; and what an answer tells of it.

A unit (`owner/units.py`) is a *fact* of a note when the note's stored answers hold it and no other note's answers, nor
any question of theirs, do; words of templates and the owner's name fall out by themselves, because they stand in many
notes. What the bio confirms weighs most; then names, numbers and what several stored answers repeat; an ordinary word
that stands once in all notes weighs half, and alone does not make an answer wrong. Where stored answers tell versions
of a fact that exclude one another, the bio says which of them is right.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import combinations, takewhile
from typing import Literal

import regex

from lpm_kernel.owner.items import same_question
from lpm_kernel.owner.units import RUN, Reader, Unit, shorter
from lpm_kernel.records import Prompt

CONFIRMED, SOLID, SLIGHT = 2.0, 1.0, 0.5
"""What a fact weighs: one that the bio holds too; a name, a number, a repeated word, a long stretch; another word."""
NOUNS_ARE_CAPITALISED = ("de", "lb")
SENTENCE = regex.compile(r"[.!?\n。！？؟।]+(?=\s|$|\P{ASCII})\s*")  # noqa: RUF001
CLAUSE = regex.compile(r"[.,;:!?\n。、，；：！？؟،।]+\s*")  # noqa: RUF001
NAME = regex.compile(r"\p{Lu}[\p{L}\p{M}-]+")
PART = regex.compile(r"[\p{Katakana}ー]+|[\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]|[\p{L}\p{M}\p{Nd}]+")
FEW_QUESTIONS = 5
"""Of so few, a word in one or two does not make a topic."""
SHORTEST_CORE, ECHO = 3, 0.6
"""Letters that inflections of a word share at least, and their share of the shorter one."""
MOST_ANSWERS = 32
"""Stored answers of one note to one question; more are no versions of a fact."""
LONGEST_PLACE = 4
"""Words, or characters of a script without spaces, in which two versions of a sentence may differ."""
LONGEST_SENTENCES = 200
"""Words and signs of two that are compared one by one."""
MOST_NEW_WORDS = 2
"""Ordinary words that the notes do not hold, beside the one thing that the bio's sentence exchanges."""
ORDINARY = "ordinary"
"""A word without a capital, which is never exchanged."""
Notes = tuple[str, ...]
"""Of one item, in order."""
Versions = tuple[frozenset[str], ...]
"""Of one fact, each by what it tells."""
Exchange = tuple[str, frozenset[str], frozenset[str]]
"""What the bio says in place of stored facts: as it reads, its forms, and those facts."""
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
        self._held: dict[str, Notes] = {}
        """Form -> the notes that all stored answers with it rest on; empty where answers of different notes hold it."""
        self._asked: dict[str, Notes] = {}
        """The same of the questions."""
        self._stored: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        """Note -> stored answer -> its questions."""
        unnoted: tuple[dict[str, Notes], dict[str, Notes]] = {}, {}
        for item in items:
            notes = tuple(sorted(notes_of(item)))
            held, asked = (self._held, self._asked) if item.notes else unnoted
            _note(held, self._forms(item.target), notes)
            _note(asked, self._forms(item.user), notes)
            for note in notes:
                self._stored[note][item.target].add(same_question(item))
        # What a note says stays its own when items without a note speak of it.
        self._asked = {form: notes for form, notes in unnoted[1].items() if form not in self._held} | self._asked
        self._held = unnoted[0] | self._held
        self._bio = frozenset(self._forms(bio))
        self._clauses = [frozenset(self._forms(clause)) for clause in CLAUSE.split(bio)]
        self._background = frozenset(self._forms("\n".join({*_systems(items), *_own_names(items, bio)})))
        """What the system prompts say, and the owner's names: told by no answer."""
        self._fact_of: dict[str, str] = {}
        """Form -> the fact that it tells, of the notes collected so far."""
        self._solid: set[str] = set()
        """Names and numbers."""
        self._repeated: set[str] = set()
        """Forms that several answers of their note hold, and no question."""
        self._capitalised: set[str] = set()
        """Words that open a sentence: names or not."""
        self._collected: set[str] = set()
        self._facts_of: dict[str, frozenset[str]] = {}
        self._versions: dict[str, tuple[Versions, ...]] = {}
        self._topics_of: dict[str, frozenset[str]] = {}
        self._exchanges: dict[str, tuple[Exchange, ...]] = {}
        self._sentences = [sentence.strip() for sentence in SENTENCE.split(bio) if sentence.strip()]
        self._speaks_of: dict[str, set[int]] = defaultdict(set)
        """Form -> the bio's sentences with it."""
        for at, sentence in enumerate(self._sentences):
            for form in self._forms(sentence):
                self._speaks_of[form].add(at)
        self._told_of = lru_cache(maxsize=1 << 10)(self._tell)
        """A text, some notes -> the facts of theirs in it."""

    def _collect(self, note: str) -> None:
        """Name the facts of a note, those shared with a note of lower name apart."""
        if note in self._collected:
            return
        self._collected.add(note)
        stored = self._stored.get(note, {})
        answers = sorted(stored)
        told = [[u for u in self._reader.units(answer) if self._notes_of(u.forms)[:1] == (note,)] for answer in answers]
        stands_in: dict[str, set[int]] = defaultdict(set)
        capitals_tell = self._reader.language not in NOUNS_ARE_CAPITALISED
        for number, units in enumerate(told):
            for unit in units:
                for form in unit.forms:
                    stands_in[form].add(number)
                if unit.is_number or (unit.is_name and capitals_tell):
                    self._solid.update(unit.forms)
                elif unit.is_capitalised:
                    self._capitalised.update(unit.forms)
        self._repeated.update(form for form, where in stands_in.items() if len(where) > 1 and form not in self._asked)
        topics = self._topics_of[note] = self._topics([stored[answer] for answer in answers], stands_in)
        self._name_words(
            {(u.text, u.forms) for units in told for u in units if u.piece < 0 and topics.isdisjoint(u.forms)}
        )
        for units in told:
            self._name_stretches([unit for unit in units if unit.piece >= 0], stands_in, topics)

    def _topics(self, questions: Sequence[set[str]], stands_in: Mapping[str, set[int]]) -> frozenset[str]:
        """What most of a note's questions ask of, or more of them than have an answer that says it; no name."""
        asked = Counter(form for question in set().union(*questions) for form in set(self._forms(question)))
        most = max(FEW_QUESTIONS, len(set().union(*questions))) / 2
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

    def _notes_of(self, forms: Iterable[str]) -> Notes:
        """The notes that alone say this; empty for what different notes say, or nobody."""
        notes: Notes | None = None
        for form in forms:
            held = self._held.get(form, ())
            notes = held if notes is None or notes == held else _both(notes, held)
            if notes and (asked := self._asked.get(form)) is not None and asked != notes:
                notes = _both(notes, asked)
            if not notes:
                return ()
        return notes or ()

    def _versions_of(self, note: str) -> tuple[Versions, ...]:
        """Groups of facts of which each answers one question: no stored answer tells two of them, and they either have
        nothing in common or fill one place of one sentence."""
        found = []
        questions_of = self._stored.get(note, {})
        answers: dict[str, set[str]] = defaultdict(set)
        for answer, questions in questions_of.items():
            for question in questions:
                answers[question].add(answer)
        disputed = {question: stored for question, stored in answers.items() if 1 < len(stored) <= MOST_ANSWERS}
        told = {answer: self._told_of(answer, (note,)) for answer in questions_of} if disputed else {}
        for question, stored in disputed.items():
            given = self._told_of(question, (note,))
            rivals: dict[str, frozenset[str]] = {}
            for one, other in combinations(sorted(stored), 2):
                ours, theirs = told[one] - told[other] - given, told[other] - told[one] - given
                together = any(ours & facts and theirs & facts for facts in told.values())
                apart = not told[one] & told[other] - given and self._is_solid(ours) and self._is_solid(theirs)
                if ours and theirs and not together and (apart or _fill_one_place(one, other)):
                    rivals[one] = rivals.get(one, ours) & ours
                    rivals[other] = rivals.get(other, theirs) & theirs
            versions = _joined(filter(None, rivals.values()))
            if len(versions) > 1:
                found.append(versions)
        return tuple(sorted(found, key=lambda versions: [sorted(version) for version in versions]))

    def _versions_in(self, note: str) -> tuple[Versions, ...]:
        if note not in self._versions:
            self._versions[note] = self._versions_of(note)
        return self._versions[note]

    def _is_solid(self, facts: Iterable[str]) -> bool:
        forms = {form for fact in facts for form in self._forms(fact)}
        return any(not forms.isdisjoint(known) for known in (self._solid, self._repeated, self._capitalised))

    @property
    def language(self) -> str:
        """The owner's, as ISO 639-1; empty where it is unknown."""
        return self._reader.language

    def forms_of(self, text: str) -> frozenset[str]:
        """All forms of what a text says, under which two texts meet that say the same."""
        return frozenset(self._forms(text))

    def of_note(self, note: str) -> frozenset[str]:
        """What the note says and no other does."""
        if note not in self._facts_of:
            stored = self._stored.get(note, ())
            self._facts_of[note] = frozenset[str]().union(*(self._told_of(answer, (note,)) for answer in stored))
        return self._facts_of[note]

    def notes_told(self, text: str) -> frozenset[str]:
        """The notes of which a text tells more than a slight word."""
        found = self._found(self._reader.units(text))
        return frozenset(
            note for notes, facts in found.items() if sum(map(self._weight, facts.values())) >= SOLID for note in notes
        )

    def versions(self, prompt: Prompt) -> tuple[frozenset[str], ...]:
        """Versions of what is asked that exclude one another, by the stored answers alone; empty without a dispute."""
        notes, told = notes_of(prompt), self._told_of(prompt.target, notes_of(prompt))
        groups = (group for note in notes for group in self._versions_in(note))
        return next((group for group in groups if any(version & told for version in group)), ())

    def measure(self, prompt: Prompt) -> Measure:
        """What an answer to this question must tell, and must not."""
        notes = notes_of(prompt) if prompt.notes else (*notes_of(prompt), *sorted(self.notes_told(prompt.target)))
        notes = tuple(dict.fromkeys(notes))
        given = frozenset(self._forms(prompt.user))
        facts = frozenset[str]().union(*map(self.of_note, notes))
        facts -= {self._fact_of[form] for form in given | self._background if form in self._fact_of}
        versions = self.versions(prompt)
        confirmed = self._confirmed(versions, prompt) or versions
        refuted = (
            frozenset[str]().union(*(v for v in versions if v not in confirmed)) if confirmed else frozenset[str]()
        )
        asked = (self._told_of(prompt.target, notes) & facts) or facts
        upheld = facts & {fact for version in confirmed for fact in version}
        asked = (asked | upheld) - refuted
        upheld = upheld if refuted else frozenset()
        corrected: dict[str, str] = {}
        for text, forms, stale in (exchange for note in notes for exchange in self._exchanged(note)):
            if given.isdisjoint(forms):
                corrected |= dict.fromkeys(forms, text)
                asked = asked - stale | {text} if asked & (stale | refuted) or stale & refuted else asked - stale
                refuted, upheld = refuted | stale, upheld | {text}
        held = frozenset(filter(self._is_confirmed, asked)) | asked & set(corrected.values())
        return Measure(self, notes, asked, refuted, upheld, given, held, corrected)

    def _exchanged(self, note: str) -> tuple[Exchange, ...]:
        """Where the bio's sentence about a note says all that a stored answer says, but one thing in place of one fact
        that the bio holds nowhere; none where two sentences claim it, or another note's answer fits as well."""
        if note not in self._exchanges:
            texts = (*self._stored[note], *set().union(*self._stored[note].values()))
            near = {at for text in texts for form in self._forms(text) for at in self._speaks_of.get(form, ())}
            found = {exchange for at in near for exchange in self._fitting(note, self._sentences[at])}
            found = {
                one for one in found if self._bio.isdisjoint(form for fact in one[2] for form in self._forms(fact))
            }
            news = {one[0] for one in found}
            self._exchanges[note] = tuple(sorted(found, key=lambda one: sorted(one[2]))) if len(news) == 1 else ()
        return self._exchanges[note]

    def _fitting(self, note: str, sentence: str) -> Iterator[Exchange]:
        self._collect(note)
        topics = self._topics_of[note]
        units = self._reader.units(sentence)
        said = {form for unit in units for form in unit.forms} - self._background
        words = {unit.text for unit in units if _kind(unit) == ORDINARY}
        if not any(form in topics or (self._held.get(form) or self._asked.get(form)) == (note,) for form in said):
            return
        questions = set().union(*self._stored[note].values())
        known = frozenset(form for text in (*self._stored[note], *questions) for form in self._forms(text))
        if any(unit.piece >= 0 for unit in units):
            yield from self._fitting_signs(note, sentence, known)
            return
        new = [unit for unit in units if not (self._is_in_notes(unit) or self._is_said(unit))]
        for answer in sorted(self._stored[note]):
            gone = [u for u in self._reader.units(answer) if said.isdisjoint(u.forms) and not self._is_said(u)]
            gone = [u for u in gone if _kind(u) != ORDINARY or not any(_echoes(u.text, word) for word in words)]
            facts = {self._fact_of[self._read(unit)[1]] for unit in gone if self._read(unit)[0]}
            alike = [unit for unit in new if gone and _kind(unit) == _kind(gone[0])]
            is_thing = gone and _kind(gone[0]) != ORDINARY
            plain = len([unit for unit in new if _kind(unit) == ORDINARY and unit not in alike]) <= MOST_NEW_WORDS
            alone = plain and all(unit in alike or _kind(unit) == ORDINARY for unit in new)
            if is_thing and alone and len(gone) == len(facts) == 1 and _is_one_thing(alike, units):
                yield self._exchange(note, " ".join(unit.text for unit in alike), facts)

    def _exchange(self, note: str, new: str, facts: Collection[str]) -> Exchange:
        """With a version of a fact its rivals go too."""
        stale = set(facts)
        for group in self._versions_in(note):
            if any(not version.isdisjoint(facts) for version in group):
                stale.update(*group)
        return new, frozenset(self._forms(new)), frozenset(stale)

    def _fitting_signs(self, note: str, sentence: str, known: frozenset[str]) -> Iterator[Exchange]:
        """In a script without spaces the new thing stands between the same signs as the old one."""
        found: dict[str, set[str]] = defaultdict(set)
        for answer in self._stored[note]:
            ours, theirs = PART.findall(answer.casefold()), PART.findall(sentence.casefold())
            if len(ours) + len(theirs) > LONGEST_SENTENCES:
                continue
            steps = SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes()
            places = [("".join(ours[i:j]), "".join(theirs[k:m])) for step, i, j, k, m in steps if step != "equal"]
            places = [(old, new) for old, new in places if any(map(self._reader.says, (old, new)))]
            shared = frozenset(
                form for step, i, j, *_ in steps if step == "equal" for form in self._forms("".join(ours[i:j]))
            )
            if len(places) == 1 and shared & known:
                old, new = places[0]
                facts = self._tell(old, (note,))
                if facts and len(new) <= len(old) + LONGEST_PLACE and not any(old in said for said in self._sentences):
                    found[new] |= facts
        for new, stale in found.items():
            exchange = self._exchange(note, new, stale)
            if exchange[1] and not any(form in self._held or form in self._asked for form in exchange[1]):
                yield exchange

    def _is_said(self, unit: Unit) -> bool:
        return not self._background.isdisjoint(unit.forms)

    def _is_in_notes(self, unit: Unit) -> bool:
        return any(form in self._held or form in self._asked for form in unit.forms)

    def _confirmed(self, versions: Collection[frozenset[str]], prompt: Prompt) -> Sequence[frozenset[str]]:
        """The versions that the bio holds; of several, those in the clauses that speak most of what is asked."""
        if not versions:
            return ()
        told = frozenset(self._forms(f"{prompt.user}\n{prompt.target}"))
        near = {}
        for version in versions:
            forms = {form for fact in version for form in self._forms(fact)}
            near[version] = max((len(told & clause - forms) for clause in self._clauses if clause & forms), default=-1)
        best = max(near.values(), default=-1)
        return [version for version, nearness in near.items() if nearness == best >= 0]

    def _is_confirmed(self, fact: str) -> bool:
        return self._weight(self._forms(fact)) == CONFIRMED

    def told(self, answer: str, measure: Measure) -> Told:
        """The facts of the owner in an answer, those asked for and the others.

        Slight words tell something only where there are several, or where the answer adds nothing else to the question.
        """
        units = [unit for unit in self._reader.units(answer) if not self._is_given(unit, measure)]
        found = self._found(units)
        names_tell = self._names_tell(units)
        invented = {
            unit.text
            for unit in units
            if not self._known(unit) and (unit.is_number or (unit.is_name and names_tell)) and not self._read(unit)[0]
        }
        weights = {fact: self._weight(forms) for facts in found.values() for fact, forms in facts.items()}
        weights |= dict.fromkeys(invented, CONFIRMED)
        corrected = {measure.corrected[f] for unit in units for f in unit.forms if f in measure.corrected}
        if corrected:
            units = [unit for unit in units if measure.corrected.keys().isdisjoint(unit.forms)]
            found, invented = self._found(units), {word for word in invented if word not in measure.corrected}
        weights |= dict.fromkeys(corrected, CONFIRMED)
        right = {fact for notes in found if not set(measure.notes).isdisjoint(notes) for fact in found[notes]}
        right |= corrected
        wrong = right & measure.refuted
        right = right - wrong if right & measure.upheld or not wrong else set()
        alone = not self._adds_more(units, invented)
        if not (alone and right & measure.asked) and sum(weights[fact] for fact in right) < self._enough(measure):
            right = set()
        for notes, facts in found.items():
            if not set(measure.notes).isdisjoint(notes):
                continue
            if alone or sum(weights[fact] for fact in facts) >= SOLID:
                wrong |= facts.keys()
        return Told(frozenset(right), frozenset(wrong | invented), weights)

    def _found(self, units: Iterable[Unit]) -> dict[Notes, dict[str, set[str]]]:
        """Notes -> their facts among the units -> the forms that tell each."""
        found: dict[Notes, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for unit in units:
            notes, form = self._read(unit)
            if notes:
                found[notes][self._fact_of[form]].update(unit.forms)
        return found

    def _is_given(self, unit: Unit, measure: Measure) -> bool:
        """Whether the question says it; of ordinary words, also in another inflection."""
        if not (measure.given.isdisjoint(unit.forms) and self._background.isdisjoint(unit.forms)):
            return True
        if unit.piece >= 0 or not self._read(unit)[0] or not self._solid.isdisjoint(unit.forms):
            return False
        return any(_echoes(unit.text, given) for given in measure.given)

    def _adds_more(self, units: Iterable[Unit], invented: Collection[str]) -> bool:
        """Whether there are words, or pieces of the answer, that tell no fact."""
        telling = {unit.piece for unit in units if unit.piece >= 0 and self._read(unit)[0]}
        return any(
            unit.piece not in telling and not self._read(unit)[0] and unit.text not in invented for unit in units
        )

    def _enough(self, measure: Measure) -> float:
        """The least weight that answers; where only slight words are asked for, one of them does."""
        most = max((self._weight(self._forms(fact)) for fact in measure.asked), default=SOLID)
        return min(SOLID, most)

    def _read(self, unit: Unit) -> tuple[Notes, str]:
        """The notes whose fact a unit tells, and by which form: its own where the owner's texts hold that."""
        for form in unit.forms[:1] if unit.text in self._held or unit.text in self._asked else unit.forms:
            notes = self._notes_of((form,))
            if notes:
                self._collect(notes[0])
                if form in self._fact_of:
                    return notes, form
        return (), ""

    def _weight(self, forms: Iterable[str]) -> float:
        """Of the forms under which one fact is told; what a question says too, and is no name, is its topic."""
        forms = set(forms)
        if forms.isdisjoint(self._solid) and not self._asked.keys().isdisjoint(forms):
            return SLIGHT
        if forms & self._bio:
            return CONFIRMED
        solid = forms & self._solid or forms & self._repeated
        return SOLID if solid or sum(bool(RUN.match(form)) for form in forms) > 1 else SLIGHT

    def _known(self, unit: Unit) -> bool:
        return any(form in self._held or form in self._asked or form in self._bio for form in unit.forms)

    def _names_tell(self, units: list[Unit]) -> bool:
        """Whether a capital marks a name: not in German, nor in a text that capitalises most words."""
        words = [unit for unit in units if unit.piece < 0 and not unit.is_number]
        few = 2 * sum(unit.is_name for unit in words) <= len(words) + 1
        return few and self._reader.language not in NOUNS_ARE_CAPITALISED

    def _tell(self, text: str, notes: tuple[str, ...]) -> frozenset[str]:
        found = self._found(self._reader.units(text))
        return frozenset(fact for held, facts in found.items() if not set(notes).isdisjoint(held) for fact in facts)

    def _forms(self, text: str) -> Iterator[str]:
        for unit in self._reader.units(text):
            yield from unit.forms


def notes_of(item: Prompt) -> tuple[str, ...]:
    """The item's notes; items without any belong together when they have the same answer."""
    return item.notes or (f"answer {item.target}",)


def _note(holders: dict[str, Notes], forms: Iterable[str], notes: Notes) -> None:
    for form in forms:
        held = holders.setdefault(form, notes)
        if held is not notes and held != notes:
            holders[form] = _both(held, notes)


def _both(some: Notes, others: Notes) -> Notes:
    return tuple(note for note in some if note in others)


def _systems(items: Iterable[Prompt]) -> set[str]:
    return {item.system for item in items}


def _own_names(items: Iterable[Prompt], bio: str) -> Iterator[str]:
    """What the bio writes beside the owner's name, as the prompts call them: their other names."""
    names = {name for system in _systems(items) for name in NAME.findall(system)}
    for name in sorted(names):
        for found in regex.finditer(rf"(?:{NAME.pattern} )*\b{regex.escape(name)}\b(?: {NAME.pattern})*", bio):
            yield found[0]


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


def _joined(versions: Iterable[frozenset[str]]) -> tuple[frozenset[str], ...]:
    """Those that share a fact are one."""
    joined: list[frozenset[str]] = []
    for version in versions:
        near = [known for known in joined if known & version]
        joined = [known for known in joined if not known & version] + [version.union(*near)]
    return tuple(sorted(joined, key=sorted))


def _kind(unit: Unit) -> str:
    return "number" if unit.is_number else "name" if unit.is_name else ORDINARY


def _is_one_thing(things: Sequence[Unit], units: Sequence[Unit]) -> bool:
    """One word or number, or a name of several words that follow one another."""
    if len(things) < 2:
        return len(things) == 1
    first = units.index(things[0])
    return all(unit.is_name for unit in things) and list(things) == list(units[first : first + len(things)])


def _echoes(word: str, given: str) -> bool:
    """Whether two words have most of the shorter and half of the longer one in common, as inflections of one have."""
    shared = SequenceMatcher(None, word, given, autojunk=False).find_longest_match().size
    shorter, longer = sorted((len(word), len(given)))
    return shared >= SHORTEST_CORE and shared > ECHO * shorter and 2 * shared >= longer


def _fill_one_place(one: str, other: str) -> bool:
    """Whether two sentences differ in one place only, by a few words or signs that the script does not separate."""
    ours, theirs = PART.findall(one.casefold()), PART.findall(other.casefold())
    shared = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(ours, theirs, strict=False))))
    ours, theirs = ours[shared:], theirs[shared:]
    after = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(ours[::-1], theirs[::-1], strict=False))))
    return max(len(ours), len(theirs)) - after <= LONGEST_PLACE and shared + after >= len(ours) - after
