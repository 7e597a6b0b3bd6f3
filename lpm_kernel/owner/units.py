"""A text -> its units, which facts are made of: words with their forms, runs of characters, numbers.

Words stand where the script separates words; each has forms under which its inflections meet (Snowball's stem, a word
without Arabic and Hebrew clitics, without Korean particles). Where the script does not separate words, a *piece* is
what stands between two function words, and its units are all its stretches of 2 to 4 signs: a sign is a letter with
all that is written on, before and after it, as readers of Thai, Lao, Khmer and Burmese see one. A number is the same
number in any digits.
"""

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from importlib import resources
from itertools import accumulate
from typing import Any, NamedTuple

import regex
import snowballstemmer
import stopwordsiso

from lpm_kernel.owner.language import language_of

SHORTEST_RUN, LONGEST_RUN = 2, 4
"""Signs of a stretch, in a script without spaces."""
SHORTEST_STEM = 4
"""Letters; shorter ones are shared by words that have nothing in common."""
TOKEN = regex.compile(
    r"(?P<number>\p{Nd}+(?:[.,:/-]\p{Nd}+)*)"
    r"|(?P<run>(?:(?!\p{Nd})[\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])+)"
    r"|(?P<word>[\p{L}\p{M}][\p{L}\p{M}\p{Nd}]*)"
)
SENTENCE = regex.compile(r"[.!?\n。！？؟।]+(?=\s|$|\P{ASCII})\s*")  # noqa: RUF001
CLAUSE = regex.compile(r"[.,;:!?\n。、，；：！？؟،।]+\s*")  # noqa: RUF001
PART = regex.compile(r"[\p{Katakana}ー]+|[\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]|[\p{L}\p{M}\p{Nd}]+")
"""A word; a sign of a script that does not separate words."""
SCRIPTS = regex.compile(r"\p{Han}+|\p{Hiragana}+|[\p{Katakana}ー]+|[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]+")
RUN = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
SIGN = regex.compile(
    r"\p{Logical_Order_Exception}?\p{L}(?:[\p{M}ะาำຳະາ]|\p{InSC=Invisible_Stacker}\p{L})*|\p{M}+|.", regex.DOTALL
)
MARKED = regex.compile(r"[^\p{Han}\p{Hiragana}\p{Katakana}ー]")
WHOLE = regex.compile(r"[\p{Katakana}ー]+")
"""Katakana writes one word without a break."""
HANGUL = regex.compile(r"\p{Hangul}")
SYLLABLE = regex.compile(r"[^\p{Han}]")
"""A letter by itself is the rest of an inflection."""
GROUPED = regex.compile(r"\d{1,3}(?:[.,]\d{3})+")
GROUPED_MARK = regex.compile(r"[.,]")
BULLET = regex.compile(r"(?m)^\s*\p{Nd}{1,2}[.)](?=\s)")
"""The number of an item in a list tells nothing."""
MARKS = regex.compile(r"(?<=[\p{Latin}\p{Greek}\p{Cyrillic}\p{Arabic}\p{Hebrew}]\p{Mn}*)\p{Mn}+|\N{ARABIC TATWEEL}")
ALIKE = str.maketrans("ىةیکँ", "يهيكं")
"""Arabic letters, and Devanagari's two signs of a nasal, that are written one for the other."""
OPENS = regex.compile(r"(?:^|[.!?:;…。！？\n\[*#>•–—|-])[\s*_\"“”„«»'‘’(¿¡]*$")  # noqa: RUF001
CLITIC = regex.compile(r"(?:[وف]?(?:ال|[بلك](?:ال)?|لل)|[وف])(?=\p{Arabic}{3})|[והבלמשכ]{1,2}(?=\p{Hebrew}{3})")
PARTICLE = regex.compile(
    r"(?<=\p{Hangul})(?:이?(?:에요|지요|죠|지|네요|예요|었어요|였어요|었습니다|였습니다|었다|였다|다|라는|라고|란|랑|나|야)|요|입니다|인데|이고|이며"
    r"|에서는?|에게서?|에는?|으?로는?|으?로부터|께서?|한테서?|까지|부터|처럼|보다|마다|만|[은는이가을를의와과도]|하고)$"
)
MINE = (
    (re.compile(r"^(اب|اخ|ام|حم)[ويا]?ك$"), r"\1ي"),
    (re.compile(r"(?<=[ء-ي]{3})ك$"), "ي"),
)
"""Arabic "your ..." -> "my ...", as the question has it; a father and a brother change within too."""
NOT_NAMES = frozenset(("ai", "ki", "ia", "ии", "llm", "ok", "okay", "pdf"))

STEMMERS = {
    **{"ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english"},
    **{"es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish", "fr": "french"},
    **{"hi": "hindi", "hu": "hungarian", "hy": "armenian", "id": "indonesian", "it": "italian", "lt": "lithuanian"},
    **{"nb": "norwegian", "nl": "dutch", "pl": "polish", "pt": "portuguese", "ro": "romanian", "ru": "russian"},
    **{"sr": "serbian", "sv": "swedish", "ta": "tamil", "tr": "turkish"},
}
"""Snowball's stemmers by ISO 639-1 code."""


class Unit(NamedTuple):
    """One of a text's units; another text tells it when they share a form."""

    text: str
    """In Unicode form KC, case-folded, without accents."""
    forms: tuple[str, ...]
    """`text` first, then those of its inflections."""
    is_number: bool = False
    is_capitalised: bool = False
    is_name: bool = False
    """Capitalised within a sentence."""
    piece: int = -1
    """Which piece of the text a stretch belongs to; -1 for words and numbers."""
    at: int = 0
    """Where in its piece, in characters."""


class Reader:
    """Reads texts of one owner: their language says which words are function words, and how words are inflected."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.language = language_of(texts)
        stop = stopwordsiso.stopwords(self.language) if self.language else set()
        self.small = frozenset(map(fold, {*stop, *_more_small_words().get(self.language, "").split()}))
        """Function words, which are no facts; nor are the single letters that apostrophes leave."""
        self._vague = frozenset(
            form for word in _vague_words(self.language) for form in self._inflect(word) if not RUN.match(word)
        )
        self._inflections: dict[str, tuple[str, ...]] = {}
        """Of a case-folded word."""
        self._words: dict[str, tuple[Unit, Unit] | None] = {}
        """Word as it is written -> its unit opening a sentence and within one; None for what tells nothing."""
        self.units = lru_cache(maxsize=1 << 10)(self._units)
        """Of a text, all units that could tell something, in order."""

    def forms(self, text: str) -> list[str]:
        """Under which two texts meet that say the same."""
        return [form for unit in self.units(text) for form in unit.forms]

    def _units(self, text: str) -> tuple[Unit, ...]:
        text = BULLET.sub("", unicodedata.normalize("NFKC", text))
        units: list[Unit] = []
        piece = 0
        for token in TOKEN.finditer(text):
            if token.lastgroup == "word":
                word = token[0]
                known = self._words[word] if word in self._words else self._word(word)
                if known:
                    opening, within = known
                    is_name = within.is_name and not OPENS.search(text, max(0, token.start() - 8), token.start())
                    units.append(within if is_name else opening)
            elif token.lastgroup == "run":
                for stretch in _pieces(token[0], self.language):
                    units += _stretches(stretch, piece)
                    piece += 1
            else:
                number = _number(token[0])
                units.append(Unit(number, (number,), is_number=True))
        return tuple(units)

    def says(self, text: str) -> bool:
        """Whether a text is more than function words."""
        return any(True for _ in self.units(text))

    def is_plain(self, text: str) -> bool:
        """Whether there is no function word in a text."""
        if RUN.search(text):
            return not _small_words(self.language, anywhere=True).search(unicodedata.normalize("NFKC", text))
        return all(map(self.says, text.split()))

    def names_a_thing(self, text: str) -> bool:
        """Whether a text is more than vague words: "somewhere", "tasty", 遠い所 name nothing."""
        if RUN.search(text):
            return not _vague_run(self.language).fullmatch(unicodedata.normalize("NFKC", text))
        return any(self._vague.isdisjoint(unit.forms) for unit in self.units(text))

    def _word(self, word: str) -> tuple[Unit, Unit] | None:
        forms = self._inflections_of(word.casefold())
        known = None
        if (len(forms[0]) > 1 or not word.isascii()) and self.small.isdisjoint(forms):
            is_capitalised = word[0].isupper() and forms[0] not in NOT_NAMES
            opening = Unit(forms[0], forms, is_capitalised=is_capitalised)
            known = opening, opening._replace(is_name=True) if is_capitalised else opening
        self._words[word] = known
        return known

    def _inflections_of(self, word: str) -> tuple[str, ...]:
        if word not in self._inflections:
            self._inflections[word] = self._inflect(word)
        return self._inflections[word]

    def _inflect(self, word: str) -> tuple[str, ...]:
        found = [fold(word)]
        stemmer = _stemmer(self.language)
        if stemmer and word[0].isalpha():
            found.append(fold(stemmer.stemWord(word)))
        found.append(CLITIC.sub("", found[0], count=1) if CLITIC.match(found[0]) else found[0])
        mine = next((own.sub(form, found[0]) for own, form in MINE if own.search(found[0])), "")
        while (bare := PARTICLE.sub("", found[-1])) != found[-1]:
            found.append(bare)
        least = 2 if HANGUL.match(word) else 3 if CLITIC.match(found[0]) else SHORTEST_STEM
        forms = [found[0], *(form for form in found[1:] if len(form) >= least), *filter(None, [mine])]
        return tuple(dict.fromkeys(forms))


def fold(text: str) -> str:
    """Case-folded, in form KC, without accents and vowel points; Indic, Korean and Japanese marks stay."""
    text = unicodedata.normalize("NFKC", text).casefold()
    if text.isascii():
        return text
    bare = MARKS.sub("", unicodedata.normalize("NFD", text))
    return unicodedata.normalize("NFC", bare).translate(ALIKE)


def shorter(stretch: str) -> set[str]:
    """The stretches that are one sign shorter; none of a shortest one, or of a word."""
    signs = _signs(stretch)
    return {"".join(signs[1:]), "".join(signs[:-1])} if len(signs) > SHORTEST_RUN else set()


def _number(text: str) -> str:
    """In ASCII digits, without marks of thousands."""
    digits = text if text.isascii() else "".join(str(unicodedata.digit(s)) if s.isdecimal() else s for s in text)
    return GROUPED_MARK.sub("", digits) if GROUPED.fullmatch(digits) else digits


def _pieces(run: str, language: str) -> Iterator[str]:
    """A run, cut at function words and where the script changes."""
    for part in _small_words(language).split(run):
        yield from SCRIPTS.findall(part)


def _stretches(piece: str, number: int) -> list[Unit]:
    signs = _signs(piece)
    if len(signs) < SHORTEST_RUN or WHOLE.fullmatch(piece):
        return [] if SYLLABLE.fullmatch(piece) else [Unit(piece, (piece,), piece=number)]
    starts = range(len(piece) + 1) if signs is piece else list(accumulate(map(len, signs), initial=0))
    make = tuple.__new__  # a third of what `Unit` takes for each of millions
    return [
        make(Unit, (stretch, (stretch,), False, False, False, number, start))
        for length in range(SHORTEST_RUN, min(LONGEST_RUN, len(signs)) + 1)
        for start, end in zip(starts, starts[length:], strict=False)
        for stretch in (piece[start:end],)
    ]


def _signs(stretch: str) -> Sequence[str]:
    """What a reader sees as one letter each; in Han and kana every character is one."""
    return SIGN.findall(stretch) if MARKED.search(stretch) else stretch


@cache
def _small_words(language: str, *, anywhere: bool = False) -> re.Pattern[str]:
    """Cuts a run, the longest word first, and no sign of it (`re` is four times as fast here as `regex`).

    `anywhere`: finds single hiragana within words too.
    """
    small = set(unicodedata.normalize("NFKC", _more_small_words().get(language, "")).split())
    if any(RUN.match(word) for word in small):
        small.update(word for word in stopwordsiso.stopwords(language) if len(word) > 1 and RUN.match(word))
    small = {word for word in small if not unicodedata.category(word[0]).startswith("M")}
    ordered = sorted(small, key=lambda word: (-len(word), word))
    words = "|".join(word if anywhere else _edged(word) for word in ordered)
    return re.compile(rf"(?:{words})(?![ะ-ฺ็-๎])") if small else re.compile(r"(?!)")


def _edged(word: str) -> str:
    """A single hiragana is a particle where the hiragana begin or end, and may be part of a word within them."""
    is_kana = len(word) == 1 and "ぁ" <= word <= "ゖ"
    return rf"(?<![ぁ-ゖ]){word}|{word}(?![ぁ-ゖ])" if is_kana else word


@cache
def _more_small_words() -> dict[str, str]:
    return tomllib.loads((resources.files("lpm_kernel.owner") / "small_words.toml").read_text(encoding="utf-8"))


@cache
def _vague_run(language: str) -> re.Pattern[str]:
    words = sorted(_vague_words(language), key=lambda word: (-len(word), word))
    return re.compile(rf"(?:{'|'.join(words)})++") if words else re.compile(r"(?!)")


@cache
def _vague_words(language: str) -> tuple[str, ...]:
    """Indefinite words, general nouns and praise, which tell nothing in a thing's place."""
    words = tomllib.loads((resources.files("lpm_kernel.owner") / "vague_words.toml").read_text(encoding="utf-8"))
    return tuple(unicodedata.normalize("NFKC", words.get(language, "")).casefold().split())


@cache
def _stemmer(language: str) -> Any:
    name = STEMMERS.get(language)
    return snowballstemmer.stemmer(name) if name else None
