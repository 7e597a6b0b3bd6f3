"""The questions of the evaluation beside those of the held-out notes: contested, paraphrase, unanswerable, general.

Contested questions and paraphrases are the owner's own items, *withheld by wording*: notes that give pairs lose some of
their questions to the evaluation, and no training sees these. Unanswerable and general ones are made and cost no item.
Nothing here depends on the bio, so that to edit the bio makes no trained model stale.
"""

import tomllib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from importlib import resources
from math import ceil
from typing import Literal

from pydantic import Field

from lpm_kernel.config import Config
from lpm_kernel.files import key_of
from lpm_kernel.owner.facts import notes_of
from lpm_kernel.owner.items import ItemConfig, question_messages, same_question
from lpm_kernel.owner.language import language_of
from lpm_kernel.owner.unanswerable import QUESTIONS, unanswerable
from lpm_kernel.records import Probe, Prompt, Record

Withheld = Literal["contested", "paraphrase"]
LEAST_LEFT = 2
"""Questions that a note keeps when one of them is withheld as a paraphrase."""
DEFAULT_LANGUAGE = "en"


class ProbeConfig(Config):
    """How many questions are asked beside those of the held-out notes."""

    contested_share: float = Field(
        0.25, ge=0, lt=1, description="Share of the wordings of contested questions kept for the evaluation."
    )
    paraphrase_share: float = Field(
        0.05, ge=0, lt=1, description="Share of the prompts kept for the evaluation as other wordings, one of a note."
    )
    unanswerable: int = Field(24, ge=0, le=1000, description="Most questions that no note answers.")
    unanswerable_share: float = Field(
        0.25, ge=0, le=1, description="As many questions that no note answers, as a share of the prompts, for pairs."
    )
    general: int = Field(8, ge=0, le=1000, description="Most instructions that have nothing to do with the owner.")


class General(Record):
    """An entry of `general.toml`."""

    instructions: tuple[str, ...]
    refusals: tuple[str, ...]
    """As they stand in an answer that declines, in small letters."""


def withheld(
    prompts: Sequence[Prompt], items: Iterable[Prompt], contested: Collection[str], config: ProbeConfig, seed: int
) -> dict[str, Withheld]:
    """The questions, by `same_question` as `contested` is, that are asked in the evaluation and seen by no training.

    Of each note with contested questions a share of these, at least one and never all that the note asks; of the other
    notes with more than LEAST_LEFT questions of their own one each, up to a share of the prompts.
    """
    wordings: dict[str, set[str]] = defaultdict(set)
    for prompt in prompts:
        if prompt.variant in QUESTIONS:
            wordings[notes_of(prompt)[0]].add(same_question(prompt))
    askers = Counter(key for key, _ in {(same_question(item), notes_of(item)[0]) for item in items})

    def first(keys: Iterable[str], count: int) -> list[str]:
        return sorted(keys, key=lambda key: key_of("withheld", seed, key))[:count]

    found: dict[str, Withheld] = {}
    paraphrases: dict[str, str] = {}
    for note, known in wordings.items():
        disputed = known.intersection(contested)
        own = [key for key in known if askers[key] == 1]
        if disputed:
            most = min(ceil(config.contested_share * len(disputed)), len(known) - 1)
            found |= dict.fromkeys(first(disputed, most), "contested")
        elif len(own) > LEAST_LEFT:
            paraphrases[note] = first(own, 1)[0]
    notes = sorted(paraphrases, key=lambda note: key_of("paraphrase", seed, note))
    for note in notes[: round(config.paraphrase_share * len(prompts))]:
        found[paraphrases[note]] = "paraphrase"
    return found


def made(items: Sequence[Prompt], config: ProbeConfig, rendering: ItemConfig, seed: int) -> list[Probe]:
    """Unanswerable questions, and instructions in the owner's language, or in English where there are none in it."""
    unknown = unanswerable(items, items, config.unanswerable, seed=seed, side="asked")
    probes = [Probe(kind="unanswerable", prompt=prompt) for prompt in unknown]
    instructions = general().get(language_of(item.target for item in items), general()[DEFAULT_LANGUAGE]).instructions
    return probes + [_instruction(text, rendering) for text in instructions[: config.general]]


@cache
def general() -> dict[str, General]:
    """By language, as ISO 639-1 code."""
    text = (resources.files("lpm_kernel.owner") / "general.toml").read_text(encoding="utf-8")
    return {code: General.model_validate(entry) for code, entry in tomllib.loads(text).items()}


def _instruction(text: str, rendering: ItemConfig) -> Probe:
    messages = question_messages(text, rendering)
    new_id = key_of([m.model_dump() for m in messages], "")[:16]
    return Probe(kind="general", prompt=Prompt(id=new_id, row=0, variant="general", messages=messages, target=""))
