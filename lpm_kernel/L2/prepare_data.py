"""Split the owner's items: prompts for the preference pairs, and held-out questions for the verdict.

Notes are held out, not single questions: no item of a held-out note becomes a pair. A part of such a note's
items are the questions of the evaluation, seen by no training; the others stay with SFT, which must teach the
note for the question to be fair. An item without `doc_id` that tells a fact of a held-out note is set aside too.
"""

import sys
from pathlib import Path

if __package__ is None:
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from lpm_kernel.by_path import enter

    enter()

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import Field

from lpm_kernel.errors import DataError
from lpm_kernel.hashing import key_of
from lpm_kernel.judges.facts import facts_of
from lpm_kernel.preferences.bio import read_bio
from lpm_kernel.preferences.second_me import SecondMeConfig, read_rows
from lpm_kernel.progress import say, tally
from lpm_kernel.records import Prompt, write_json, write_jsonl


class StageConfig(SecondMeConfig):
    """How items are split."""

    held_out_share: float = Field(0.2, ge=0, lt=1, description="Share of the notes held out from the pairs.")
    question_share: float = Field(0.5, gt=0, le=1, description="Share of a held-out note's items asked in evaluation.")
    sample_fraction: float = Field(1.0, gt=0, le=1, description="Share of the remaining items sampled for pairs.")
    min_items: int = Field(10, ge=1, description="Fewer usable items than this are refused.")
    min_score: float | None = Field(None, description="Items that a filter scored lower become no prompt.")
    seed: int = Field(42, ge=0, description="Seed of the split.")


@dataclass(frozen=True)
class Split:
    """Every usable item stands in exactly one of the three."""

    prompts: list[Prompt]
    held_out: list[Prompt]
    set_aside: Counter[str]


def run(
    config: StageConfig,
    *,
    merged_path: Path,
    bio_path: Path,
    prompts_path: Path,
    held_out_path: Path,
    account_path: Path,
) -> None:
    """Raises MissingInputError or DataError when there is nothing sound to work on."""
    bio = read_bio(bio_path)
    items, skipped = read_rows(merged_path, config)
    account = {"read": len(items) + skipped.total(), "usable": len(items), "skipped": dict(sorted(skipped.items()))}
    say(f"items: {account['read']} read = {len(items)} usable + {skipped.total()} skipped{tally(skipped)}")
    if len(items) < config.min_items:
        raise DataError(
            f"{merged_path} holds {len(items)} usable items; at least {config.min_items} are needed. "
            f"Add notes, or lower --min-items. {skipped.total()} were skipped{tally(skipped)}"
        )
    split = split_items(items, bio, config)
    if not split.prompts:
        raise DataError(f"no item is left for pairs{tally(split.set_aside)}; lower --held-out-share")
    write_jsonl(prompts_path, split.prompts)
    write_jsonl(held_out_path, split.held_out)
    write_json(
        account_path,
        account
        | {
            "prompts": len(split.prompts),
            "held_out": len(split.held_out),
            "set_aside": dict(sorted(split.set_aside.items())),
            "variants": dict(sorted(Counter(p.variant for p in items).items())),
        },
    )
    say(
        f"split: {len(items)} usable = {len(split.prompts)} prompts + {len(split.held_out)} held-out questions "
        f"+ {split.set_aside.total()} set aside{tally(split.set_aside)}"
    )


def split_items(items: Sequence[Prompt], bio: str, config: StageConfig) -> Split:
    """Hold out whole notes; every item lands in exactly one place."""
    sound = [p for p in items if not _is_low(p, config)]
    groups = _groups(sound)
    noted = {name: members for name, members in groups.items() if len(members) > 1} or groups
    order = sorted(noted, key=lambda name: key_of("note", config.seed, name))
    chosen = set(order[: math.ceil(config.held_out_share * len(order))])

    held_out: list[Prompt] = []
    for name in sorted(chosen):
        members = sorted(groups[name], key=lambda p: key_of("question", config.seed, p.id))
        held_out += members[: math.ceil(config.question_share * len(members))]
    hidden = {p.id for name in chosen for p in groups[name]}
    told = _telling_facts(groups, chosen, bio)

    set_aside: Counter[str] = Counter()
    prompts: dict[tuple[str, str], Prompt] = {}
    asked = {p.id for p in held_out}
    held_texts = {(p.system, p.user) for p in held_out}
    for item in items:
        if item.id in asked:
            continue
        reason = _set_aside(item, config, hidden, held_texts, prompts, told, bio)
        if reason:
            set_aside[reason] += 1
        else:
            prompts[item.system, item.user] = item
    kept = _sample(list(prompts.values()), config)
    set_aside["not_sampled"] = len(prompts) - len(kept)
    return Split(kept, sorted(held_out, key=lambda p: p.row), +set_aside)


def _set_aside(
    item: Prompt,
    config: StageConfig,
    hidden: set[str],
    held_texts: set[tuple[str, str]],
    prompts: dict[tuple[str, str], Prompt],
    told: frozenset[str],
    bio: str,
) -> str | None:
    """Why the item becomes no prompt, or None."""
    if item.id in hidden:
        return "note_is_held_out"
    if (item.system, item.user) in held_texts:
        return "question_is_held_out"
    if _is_low(item, config):
        return "low_score"
    if not item.notes and facts_of(item.reference, bio, "") & told:
        return "tells_a_held_out_note"
    if (item.system, item.user) in prompts:
        return "same_question"
    return None


def _groups(items: Iterable[Prompt]) -> dict[str, list[Prompt]]:
    """Items by note; notes that share an item are one group, named by their smallest id."""
    parent: dict[str, str] = {}

    def root(note: str) -> str:
        parent.setdefault(note, note)
        while parent[note] != note:
            parent[note] = parent[parent[note]]
            note = parent[note]
        return note

    items = list(items)
    for item in items:
        for note in item.notes[1:]:
            low, high = sorted((root(item.notes[0]), root(note)))
            parent[high] = low
    groups: dict[str, list[Prompt]] = defaultdict(list)
    for item in items:
        groups[f"note {root(item.notes[0])}" if item.notes else f"item {item.id}"].append(item)
    return dict(groups)


def _telling_facts(groups: dict[str, list[Prompt]], chosen: set[str], bio: str) -> frozenset[str]:
    """Facts that the held-out notes tell and no other note does."""
    facts: dict[bool, set[str]] = {True: set(), False: set()}
    for name, members in groups.items():
        if members[0].notes:
            for member in members:
                facts[name in chosen] |= facts_of(member.reference, bio, "")
    return frozenset(facts[True] - facts[False])


def _is_low(item: Prompt, config: StageConfig) -> bool:
    return config.min_score is not None and item.score is not None and item.score < config.min_score


def _sample(prompts: list[Prompt], config: StageConfig) -> list[Prompt]:
    count = max(1, round(config.sample_fraction * len(prompts))) if prompts else 0
    kept = random.Random(config.seed).sample(prompts, count)
    return sorted(kept, key=lambda p: p.row)


if __name__ == "__main__":
    from lpm_kernel.cli import main

    main(["run", "prepare", *sys.argv[1:]])
