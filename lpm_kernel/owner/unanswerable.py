"""Questions that no note answers, made of the owner's own: what a question is about gives way to what nobody noted.

A *topic* of a note is what at least half of the wordings of its questions name. It is exchanged for
1. another of its sort by `topics.toml`, which agrees with the words around it ("my boat", "my tractor");
2. a number, for the next that nothing of the owner's holds (2019, 2018);
3. where neither is there, in any language: an invented name of its script, in a frame that several notes' questions
   share ("Tell me about my ...", "... 어디에 있나요?").
What is put in stands nowhere in the owner's items, so no note can hold the answer. By its hash it belongs to one of two
sides: what pairs are made of is not what the evaluation asks about.
"""

import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import zip_longest
from typing import Literal

import regex

from lpm_kernel.files import key_of
from lpm_kernel.owner.facts import notes_of
from lpm_kernel.owner.items import same_question
from lpm_kernel.owner.language import language_of, script_of
from lpm_kernel.records import Prompt

QUESTIONS = frozenset({"memory", "diversity", "bio_qa", "dated", "exact_day"})
"""Variants whose user text is a question of the owner's."""
YEARS = range(1900, 2100)
DAYS = range(1, 29)
FEW = 8
"""With fewer questions, names are invented for others."""
MOST_NOTES = 1000
"""Of more notes, so many by hash are enough to make questions of."""
NEAR = 60
"""So far from a number another is looked for."""
EDGE = r"[\p{L}\p{M}\p{N}]"
LONGEST_RUN = 6
"""Characters of a topic in a script without spaces."""
RUN = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]+")
"""Scripts whose words no space parts."""
BLANK = "\x00"


@dataclass(frozen=True)
class Slot:
    """A question and where it names its topic."""

    prompt: Prompt
    note: str
    start: int
    end: int

    @property
    def topic(self) -> str:
        """As the question writes it."""
        return self.prompt.user[self.start : self.end]

    @property
    def frame(self) -> str:
        """The question around the topic."""
        return self.filled(BLANK).casefold()

    def filled(self, text: str) -> str:
        """The question with another topic."""
        return self.prompt.user[: self.start] + text + self.prompt.user[self.end :]


Exchange = Callable[[Slot], Iterable[str]]
"""A topic -> what may take its place, the best first."""
Side = Literal["asked", "paired"]
"""For the evaluation, or for pairs."""
Find = Callable[[str], Iterable[regex.Match[str]]]


def unanswerable(
    questions: Sequence[Prompt], items: Sequence[Prompt], count: int, *, seed: int, side: Side
) -> list[Prompt]:
    """At most so many, made of these questions of the owner's; fewer where they give no more. No item answers one."""
    owner = _Owner(questions, items, seed, side)
    known = [*owner.exchanged(owner.named(), owner.siblings), *owner.exchanged(owner.numbered(), owner.near)]
    made = {same_question(prompt): prompt for prompt in known}
    if len(made) < FEW:
        made |= {same_question(prompt): prompt for prompt in owner.exchanged(owner.unnamed(), owner.names)}
    return list(made.values())[:count]


class _Owner:
    """What the owner asks, by note, and what nothing of the owner's says."""

    def __init__(self, questions: Sequence[Prompt], items: Sequence[Prompt], seed: int, side: Side) -> None:
        self._seed, self._side = seed, side
        self._text = "\n".join(text for item in items for text in (item.user, item.target)).casefold()
        self._numbers = {int(found) for found in regex.findall(r"\p{Nd}{1,9}", self._text)}
        language = language_of(item.target for item in items)
        self._lexicon = _lexicon(language)
        self._word = _pattern(language)
        asking = [item for item in questions if item.variant in QUESTIONS]
        notes = sorted({notes_of(item)[0] for item in asking}, key=lambda note: key_of("unanswerable", seed, note))
        self._wordings: dict[str, dict[str, Prompt]] = {note: {} for note in notes[:MOST_NOTES]}
        for item in asking:
            if (wordings := self._wordings.get(notes_of(item)[0])) is not None:
                wordings.setdefault(same_question(item), item)

    # Where a topic stands ---------------------------------------------------------------------------------------------

    def named(self) -> Iterator[Slot]:
        """Topics that `topics.toml` knows."""
        return self._slots(lambda text: self._word.finditer(text) if self._word else ())

    def numbered(self) -> Iterator[Slot]:
        """Numbers: a year, or another where several wordings name it."""
        for slot in self._slots(lambda text: regex.finditer(r"\p{Nd}{1,9}", text)):
            if len(self._wordings[slot.note]) > 1 or int(slot.topic) in YEARS:
                yield slot

    def unnamed(self) -> Iterator[Slot]:
        """What one note's wordings name and no other's do, in a frame that notes share: the least of it."""
        askers: dict[str, str | None] = {}
        for note, wordings in self._wordings.items():
            for part in {part for item in wordings.values() for part in _parts(item.user)}:
                askers[part] = note if askers.get(part, note) == note else None
        found = []
        for note, wordings in self._wordings.items():
            counts = Counter(part for item in wordings.values() for part in _parts(item.user) if askers[part] == note)
            for topic in [part for part, number in counts.items() if 2 <= number >= len(wordings) / 2]:
                found += self._of_note(note, _bounded(topic).finditer)
        shared = _notes_by_frame(found)
        least: dict[str, Slot] = {}
        for slot in found:
            known = least.get(slot.prompt.id, slot)
            if len(shared[slot.frame]) > 1 and len(slot.topic) <= len(known.topic):
                least[slot.prompt.id] = slot
        yield from least.values()

    def _slots(self, find: Find) -> Iterator[Slot]:
        for note in self._wordings:
            yield from self._of_note(note, find)

    def _of_note(self, note: str, find: Find) -> list[Slot]:
        """Where the wordings of a note name, once, what at least half of them name."""
        found = {key: list(find(item.user)) for key, item in self._wordings[note].items()}
        counts = Counter(topic for matches in found.values() for topic in {m[0].casefold() for m in matches})
        return [
            Slot(self._wordings[note][key], note, match.start(), match.end())
            for key, matches in found.items()
            for match in matches
            if counts[match[0].casefold()] >= len(found) / 2
            and sum(m[0].casefold() == match[0].casefold() for m in matches) == 1
        ]

    # What takes its place ---------------------------------------------------------------------------------------------

    def siblings(self, slot: Slot) -> list[str]:
        """Others of its sort."""
        return self._unheld(slot, self._lexicon[slot.topic.casefold()])

    def names(self, slot: Slot) -> list[str]:
        """Invented names of its script."""
        return self._unheld(slot, _names().get(script_of(slot.topic), ()))

    def _unheld(self, slot: Slot, words: Iterable[str]) -> list[str]:
        """Those that the owner's items do not hold, in an order of the question's own."""
        unheld = [word for word in words if word.casefold() not in self._text and self._is_ours(word)]
        return sorted(unheld, key=lambda word: key_of(self._seed, slot.frame, word))

    def _is_ours(self, topic: str | int) -> bool:
        """Whether our side may put it in."""
        return (int(key_of("side", topic)[:4], 16) % 2 == 0) == (self._side == "asked")

    def near(self, slot: Slot) -> Iterator[str]:
        """The nearest numbers that the owner's items do not hold, written as it is; of a day, another day."""
        number = int(slot.topic)
        allowed = YEARS if number in YEARS else DAYS if number in range(1, 32) else range(10**9)
        for distance in range(1, NEAR):
            for other in (number - distance, number + distance):
                if other in allowed and other not in self._numbers and self._is_ours(other):
                    yield _written_like(slot.topic, other)

    def exchanged(self, slots: Iterable[Slot], exchange: Exchange) -> Iterator[Prompt]:
        """One question of each note in turn, those in frames that most notes share first."""
        by_note: dict[str, list[Slot]] = defaultdict(list)
        for slot in slots:
            by_note[slot.note].append(slot)
        shared = _notes_by_frame(slot for found in by_note.values() for slot in found)
        for found in by_note.values():
            found.sort(key=lambda slot: (-len(shared[slot.frame]), key_of(self._seed, slot.prompt.id, slot.start)))
        for turn in zip_longest(*by_note.values()):
            for slot in filter(None, turn):
                for other in exchange(slot):
                    yield _asking(slot.prompt, slot.filled(_cased_like(slot, other)))
                    break


def _asking(prompt: Prompt, user: str) -> Prompt:
    """The prompt with another question, which nothing of the owner's answers."""
    messages = (*prompt.messages[:-1], prompt.messages[-1].model_copy(update={"content": user}))
    new_id = key_of([m.model_dump() for m in messages], "")[:16]
    return prompt.model_copy(update={"id": new_id, "messages": messages, "target": "", "notes": (), "score": None})


def _notes_by_frame(slots: Iterable[Slot]) -> dict[str, set[str]]:
    shared: dict[str, set[str]] = defaultdict(set)
    for slot in slots:
        shared[slot.frame].add(slot.note)
    return shared


def _cased_like(slot: Slot, other: str) -> str:
    """As the owner writes: small throughout, or with a capital."""
    if slot.prompt.user == slot.prompt.user.lower():
        return other.lower()
    return other[0].upper() + other[1:] if slot.topic[0].isupper() else other


def _written_like(topic: str, number: int) -> str:
    """With as many digits of the same kind."""
    zero = ord(topic[0]) - int(topic[0])
    return "".join(chr(zero + int(digit)) for digit in f"{number:0{len(topic)}}")


def _parts(text: str) -> set[str]:
    """What might be a topic: words, and runs of characters where no space parts words; in small letters."""
    parts: set[str] = set()
    for word in regex.findall(r"[\p{L}\p{M}]+", text.casefold()):
        if RUN.match(word):
            parts |= {word[at : at + n] for n in range(2, LONGEST_RUN + 1) for at in range(len(word) - n + 1)}
        else:
            parts.add(word)
    return parts


def _bounded(word: str) -> regex.Pattern[str]:
    """The word where it does not continue: at a space, or where a script without spaces changes."""
    if RUN.fullmatch(word):
        return regex.compile(regex.escape(word))
    return regex.compile(rf"(?<!{EDGE}){regex.escape(word)}(?!{EDGE})", regex.IGNORECASE)


@cache
def _topics() -> dict[str, dict[str, dict[str, str]]]:
    return tomllib.loads((resources.files("lpm_kernel.owner") / "topics.toml").read_text(encoding="utf-8"))


@cache
def _names() -> dict[str, tuple[str, ...]]:
    text = (resources.files("lpm_kernel.owner") / "names.toml").read_text(encoding="utf-8")
    return {script: tuple(names.split()) for script, names in tomllib.loads(text).items()}


@cache
def _lexicon(language: str) -> dict[str, tuple[str, ...]]:
    """Word in small letters -> the others of its line."""
    lines = [line.split() for sorts in _topics().get(language, {}).values() for line in sorts.values()]
    return {word.casefold(): tuple(o for o in line if o != word) for line in lines for word in line}


@cache
def _pattern(language: str) -> regex.Pattern[str] | None:
    """Any word of the language's topics; None for a language without."""
    words = sorted(_lexicon(language), key=len, reverse=True)
    return regex.compile("|".join(_edged(word, language) for word in words), regex.IGNORECASE) if words else None


def _edged(word: str, language: str) -> str:
    """The word as it stands alone in the language's script; Chinese shows no edges, and Korean adds to the end."""
    escaped = regex.escape(word)
    if language == "zh":
        return escaped
    if language == "ko":
        return rf"(?<!{EDGE}){escaped}"
    kind = r"\p{Han}" if regex.search(r"\p{Han}", word) else r"[\p{Katakana}ー]" if RUN.fullmatch(word) else EDGE
    return rf"(?<!{kind}){escaped}(?!{kind})"
