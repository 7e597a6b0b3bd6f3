"""In which language a text is written: by its script, and among the languages of one script by their small words."""

import tomllib
from collections import Counter
from collections.abc import Iterable
from functools import cache
from importlib import resources
from unicodedata import normalize

import regex

from lpm_kernel.records import Record

ENOUGH = 50_000
"""Characters by which a language is known; what follows them is not read."""
LEAST = 0.03
"""Share of a text's words that must be small words of the language, where its script has several."""
KANA_SHARE = 0.2
"""Kana to each Han character in Japanese; a name or a quotation in Chinese brings fewer."""
DENSE, DENSITY = ("Han", "Kana", "Hangul"), 4
"""A character of these scripts says as much as so many letters."""
WORD = regex.compile(r"[\p{L}\p{M}]+(?:['\u2019]\p{L}+)?")


class Language(Record):
    """An entry of `languages.toml`."""

    name: str
    script: str
    words: str = ""


def language_of(texts: Iterable[str]) -> str:
    """ISO 639-1 code of the language that most of the texts are in; empty when it is unknown."""
    text = _beginning(texts)
    script = script_of(text)
    candidates = [code for code, language in languages().items() if language.script == script]
    if len(candidates) < 2:
        return candidates[0] if candidates else ""
    words = Counter(word.replace("\u2019", "'") for word in WORD.findall(text))
    scores = {code: sum(words[w] * weight for w, weight in _weights(code).items()) for code in candidates}
    best = max(candidates, key=scores.__getitem__)
    return best if scores[best] > LEAST * words.total() else ""


def script_of(text: str) -> str:
    """The script that most of the text is in, as `languages.toml` names it; empty for a text in none of them."""
    counts = Counter({script: len(one.findall(text)) for script, one in _scripts()})
    if counts["Kana"] > KANA_SHARE * counts["Han"]:
        counts["Kana"] += counts.pop("Han")
    for script in DENSE:
        counts[script] *= DENSITY
    script, count = counts.most_common(1)[0]
    return script if count else ""


def language_name(code: str) -> str:
    """The language's English name; the code itself for one that is not in `languages.toml`."""
    language = languages().get(code)
    return language.name if language else code


@cache
def languages() -> dict[str, Language]:
    """Those that are told apart, by their ISO 639-1 codes."""
    text = (resources.files("lpm_kernel.owner") / "languages.toml").read_text(encoding="utf-8")
    return {code: Language.model_validate(entry) for code, entry in tomllib.loads(text).items()}


@cache
def _scripts() -> list[tuple[str, regex.Pattern[str]]]:
    names = dict.fromkeys(language.script for language in languages().values())
    return [
        (name, regex.compile(r"[\p{Hiragana}\p{Katakana}]" if name == "Kana" else rf"\p{{{name}}}")) for name in names
    ]


@cache
def _weights(code: str) -> dict[str, float]:
    """Small word -> 1 to the number of languages that have it."""
    known = Counter(word for language in languages().values() for word in set(language.words.split()))
    return {word: 1 / known[word] for word in languages()[code].words.split()}


def _beginning(texts: Iterable[str]) -> str:
    parts, length = [], 0
    for text in texts:
        parts.append(text[: ENOUGH - length])
        length += len(parts[-1])
        if length >= ENOUGH:
            break
    return normalize("NFKC", "\n".join(parts)).casefold()
