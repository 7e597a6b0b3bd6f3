"""How a verdict is spelt: `spellings.toml` holds the phrases of each language, and this reads them.

A spelling is a whole phrase, never words within a sentence, which may negate, doubt or quote them. Every name of the
first answer stands beside its name of the second, so that exchanging the two exchanges the verdict.
"""

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import chain, product

from lpm_kernel.records import Outcome, Record

LONGEST_PHRASE_CHARS = 80
MARKS = re.compile(r"[\s*_`\"'“”‘’«»„「」『』()\[\]【】#]+")
"""What may stand around words without changing their sense; a dash before a number is none of it."""
BULLET = re.compile(r"\A[-+•] (?=\D)")
HYPHEN = re.compile(r"(?<=first|econd)-(?=win)")
SENTENCE_ENDS = (".", "!", "。", "！", "۔", "।")
"""A question's is none of them: what follows answers it."""
PAUSE = re.compile(r"[.!,:。、]+")


class Language(Record):
    """A table of `spellings.toml`, whose head tells what each list is."""

    nouns: tuple[str, ...] = ("",)
    names: tuple[tuple[str, str], ...]
    wins: tuple[str, ...]
    ties: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    openings: tuple[str, ...] = ()
    closings: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    turns: tuple[str, ...] = ()

    def meanings(self) -> Iterator[tuple[str, Outcome]]:
        """Every spelling, plain, with what it means."""
        for names, noun, frame in product(self.names, self.nouns, self.wins):
            first, second = (plain(frame.format(name.format(noun))) for name in names)
            yield from ((first, "first"), (second, "second"))
        yield from ((plain(tie), "tie") for tie in self.ties)


@cache
def languages() -> tuple[Language, ...]:
    """Those whose verdicts are read."""
    text = (resources.files("lpm_kernel.judges") / "spellings.toml").read_text(encoding="utf-8")
    return tuple(Language.model_validate(table) for table in tomllib.loads(text).values())


def plain(text: str) -> str:
    """The phrase in lower case without spaces and marks around its words; empty when it is too long to be one.

    What could change its sense stays: signs, dashes before numbers, question marks, dots within.
    """
    text = " ".join(text.split())
    if len(text) > LONGEST_PHRASE_CHARS:
        return ""
    if not text.isascii():
        text = _folded(text)
    text = MARKS.sub("", HYPHEN.sub("", BULLET.sub("", text.casefold()))).rstrip("!。")
    return text if text.endswith("..") else text.removesuffix(".")


def _folded(text: str) -> str:
    """Any script's digits and any width's letters as ours, nothing for what cannot be seen; no fraction or exponent."""
    if any(unicodedata.category(char) in ("No", "Nl") for char in text):
        return "?"
    shown = (char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) != "Cf")
    return "".join(char if (decimal := unicodedata.decimal(char, None)) is None else str(decimal) for char in shown)


@dataclass(frozen=True)
class Grammar:
    """What all languages together know, as `plain` writes it."""

    spellings: Mapping[str, Outcome]
    labels: frozenset[str]
    openings: frozenset[str]
    closings: frozenset[str]
    doubts: re.Pattern[str]
    turns: re.Pattern[str]

    def refuses(self, text: str) -> bool:
        """Whether a text refuses, or quotes what was asked for."""
        return self.doubts.search(_running(text)) is not None

    def takes_back(self, text: str) -> bool:
        """Whether a text turns round what was said before it."""
        return self.turns.search(_running(text)) is not None

    def outcome_of(self, phrase: str) -> Outcome | None:
        """What a plain phrase means, `label: verdict` too; None for anything else."""
        *labels, verdict = phrase.split(":")
        return self.spellings.get(verdict) if self.labels.issuperset(labels) else None

    def is_opening(self, line: str) -> bool:
        """Whether a plain line holds nothing but labels and courtesies."""
        return bool(line) and self.openings.issuperset(filter(None, PAUSE.split(line)))


@cache
def grammar() -> Grammar:
    """Of all languages; made when the first reply is read."""
    known = languages()
    labels = frozenset(plain(label) for language in known for label in language.labels)
    return Grammar(
        spellings=dict(chain.from_iterable(language.meanings() for language in known)),
        labels=labels,
        openings=labels | {plain(opening) for language in known for opening in language.openings},
        closings=frozenset(plain(closing) for language in known for closing in language.closings),
        doubts=_beginnings(word for language in known for word in language.doubts),
        turns=_beginnings(word for language in known for word in language.turns),
    )


def _running(text: str) -> str:
    return " ".join(text.casefold().replace("’", "'").split())


def _beginnings(words: Iterable[str]) -> re.Pattern[str]:
    """Of a word in Latin letters; other scripts may write no space before it."""
    return re.compile("|".join(rf"\b{word}" if word.isascii() else word for word in map(re.escape, words)))
