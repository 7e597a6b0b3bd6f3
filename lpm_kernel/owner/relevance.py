"""Which sections of the bio matter to a question: all of a short bio; of a long one those that speak of it.

A section speaks of a question when it holds facts of the note that is asked for; where none does, when it shares with
question and answer what few other sections hold. A section too long to be shown counts by its paragraphs.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from textwrap import wrap

from lpm_kernel.owner.bio import sections
from lpm_kernel.owner.facts import Facts, Measure

SHORT_BIO_CHARS = 1000
"""About 250 tokens in Latin scripts; a bio up to this length is shown whole."""
PASSAGE_CHARS = 2000
MOST_CHARS = 6000
"""Of the bio in one question to a judge."""
NEAR = 0.5
"""A section that is worth this share of the best one matters too."""


def relevant(bio: str, question: str, target: str, measure: Measure) -> str:
    """What of the bio matters to a question, in its order; `measure` tells the facts of the note that is asked for.

    Where nothing of a long bio speaks of the question, its beginning: who the owner is.
    """
    if len(bio) <= SHORT_BIO_CHARS:
        return bio
    index, forms_of = _index(bio, measure.facts), measure.facts.forms_of
    facts = forms_of(" ".join(sorted(measure.asked | measure.refuted)))
    found = index.best(facts) or index.best(forms_of(f"{question}\n{target}")) or [0]
    texts, room = {}, MOST_CHARS
    for number in found:
        text = index.passages[number]
        if len(text) <= room:
            texts[number] = text
            room -= len(text)
    return "\n\n".join(texts[number] for number in sorted(texts))


@dataclass(frozen=True)
class _Index:
    """Of one bio."""

    passages: tuple[str, ...]
    holders: dict[str, list[int]]
    """Form of a unit -> the passages that hold it."""

    def best(self, wanted: Iterable[str]) -> list[int]:
        """The passages that hold most of what few others do, the best one first."""
        worth: defaultdict[int, float] = defaultdict(float)
        for form in sorted(wanted):
            holders = self.holders.get(form, [])
            for number in holders:
                worth[number] += math.log(len(self.passages) / len(holders))
        least = NEAR * max(worth.values(), default=0.0)
        ranked = sorted(worth, key=lambda number: (-worth[number], number))
        return [number for number in ranked if worth[number] >= least and worth[number] > 0]


@lru_cache(maxsize=4)
def _index(bio: str, facts: Facts) -> _Index:
    passages = tuple(passage for section in sections(bio) for passage in _passages(section.text))
    holders: dict[str, list[int]] = defaultdict(list)
    for number, passage in enumerate(passages):
        for form in facts.forms_of(passage):
            holders[form].append(number)
    return _Index(passages, dict(holders))


def _passages(text: str) -> Iterator[str]:
    """A section; one that is too long in pieces, each below the section's heading."""
    if len(text) <= PASSAGE_CHARS:
        yield text
        return
    heading, _, _ = text.partition("\n") if text.startswith("## ") else ("", "", "")
    body = text.removeprefix(heading).strip()
    for paragraph in body.split("\n\n"):
        whole = len(paragraph) <= PASSAGE_CHARS
        for piece in [paragraph] if whole else wrap(paragraph, PASSAGE_CHARS, break_on_hyphens=False):
            yield f"{heading[:PASSAGE_CHARS]}\n\n{piece}".strip()
