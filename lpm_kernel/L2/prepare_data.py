"""Read and render the owner's items, once for all steps; split them into prompts and held-out questions.

Notes are held out, not single questions: no item of a held-out note becomes a pair. A part of such a note's
items are the questions of the evaluation, seen by no training; the others stay with SFT, which must teach the
note for the question to be fair. An item without `doc_id` that tells a fact of a held-out note is set aside too.
"""

import sys
from pathlib import Path

if __package__ is None:
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from lpm_kernel.checkout import enter

    enter()

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import Field

from lpm_kernel.errors import DataError, Finding
from lpm_kernel.files import key_of, write_json, write_jsonl
from lpm_kernel.owner.bio import read_bio
from lpm_kernel.owner.facts import Facts
from lpm_kernel.owner.items import ItemConfig, read_items, same_question
from lpm_kernel.progress import progress, say, tally
from lpm_kernel.records import ItemsAccount, Prompt

MIN_QUESTIONS = 8
"""Below this no evaluation can tell anything."""


class StageConfig(ItemConfig):
    """How items are split."""

    held_out_share: float = Field(0.2, ge=0, lt=1, description="Share of the notes held out from the pairs.")
    question_share: float = Field(0.5, gt=0, le=1, description="Share of a held-out note's items asked in evaluation.")
    sample_fraction: float = Field(1.0, gt=0, le=1, description="Share of the remaining items sampled for pairs.")
    min_items: int = Field(10, ge=1, description="Fewer usable items than this are refused.")
    min_score: float | None = Field(None, description="Items that a filter scored lower become no prompt.")
    seed: int = Field(42, ge=0, description="Seed of the split.")


def preflight(config: StageConfig) -> list[Finding]:
    """Whether the owner has said their name; prompts that SFT was not trained on make answers worse."""
    unsaid = config.user_name == StageConfig.model_fields["user_name"].default
    cure = "the name that SFT called you by: lpm init --name NAME"
    return [Finding("your name", f"{config.user_name}{' (the default)' if unsaid else ''}", not unsaid, cure)]


@dataclass(frozen=True)
class ItemSplit:
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
    items_path: Path,
    account_path: Path,
) -> None:
    """Raises MissingInputError or DataError when there is nothing sound to work on."""
    read_bio(bio_path)
    items, skipped = read_items(merged_path, config)
    read = len(items) + skipped.total()
    say(f"items: {read} read = {len(items)} usable + {skipped.total()} skipped{tally(skipped)}")
    if len(items) < config.min_items:
        raise DataError(
            f"{merged_path} holds {len(items)} usable items; at least {config.min_items} are needed. "
            f"Add notes, or lower --min-items. {skipped.total()} were skipped{tally(skipped)}"
        )
    split = split_items(items, config)
    if not split.prompts:
        raise DataError(f"no item is left for pairs{tally(split.set_aside)}; add notes, or lower --held-out-share")
    write_jsonl(items_path, items)
    write_jsonl(prompts_path, split.prompts)
    write_jsonl(held_out_path, split.held_out)
    account = ItemsAccount(
        read=read,
        usable=len(items),
        skipped=dict(sorted(skipped.items())),
        prompts=len(split.prompts),
        held_out=len(split.held_out),
        set_aside=dict(sorted(split.set_aside.items())),
        variants=dict(sorted(Counter(item.variant for item in items).items())),
    )
    write_json(account_path, account)
    say(
        f"split: {len(items)} usable = {len(split.prompts)} prompts + {len(split.held_out)} held-out questions "
        f"+ {split.set_aside.total()} set aside{tally(split.set_aside)}"
    )


def split_items(items: Sequence[Prompt], config: StageConfig) -> ItemSplit:
    """Hold out whole notes; every item lands in exactly one place."""
    sound = [item for item in items if not _is_low(item, config)]
    chosen, held_out = _hold_out(sound, config)
    asked = {item.id for item in held_out}
    questions = {same_question(item) for item in held_out}
    telling = _telling(items, chosen)

    set_aside: Counter[str] = Counter()
    prompts: dict[tuple[str, str], Prompt] = {}
    for item in items:
        if item.id in asked:
            continue
        if not chosen.isdisjoint(_notes(item)):
            set_aside["note_is_held_out"] += 1
        elif same_question(item) in questions:
            set_aside["question_is_held_out"] += 1
        elif _is_low(item, config):
            set_aside["low_score"] += 1
        elif item.id in telling:
            set_aside["tells_a_held_out_note"] += 1
        elif prompts.setdefault((item.system, item.user), item) is not item:
            set_aside["same_question"] += 1
    kept = _sample(list(prompts.values()), config)
    set_aside["not_sampled"] = len(prompts) - len(kept)
    return ItemSplit(kept, held_out, +set_aside)


def _hold_out(items: Sequence[Prompt], config: StageConfig) -> tuple[set[str], list[Prompt]]:
    """The held-out notes, and the questions asked of them: a part of the items that rest on held-out notes alone.

    Notes are taken in the order of their hash until both the share and MIN_QUESTIONS are reached, at most half of them.
    """
    noted = [item for item in items if item.notes] or list(items)
    notes = sorted({note for item in noted for note in _notes(item)}, key=lambda n: key_of("note", config.seed, n))
    most = math.ceil(len(notes) / 2) if config.held_out_share else 0
    complete = _completed_by(noted, notes)
    members: Counter[str] = Counter()
    count = asked = 0
    while count < most and not (count >= config.held_out_share * len(notes) and asked >= MIN_QUESTIONS):
        for note in complete[notes[count]]:
            asked -= _asked_of(members[note], config)
            members[note] += 1
            asked += _asked_of(members[note], config)
        count += 1
    chosen = set(notes[:count])
    return chosen, _questions(noted, chosen, config)


def _completed_by(items: Iterable[Prompt], notes: Sequence[str]) -> dict[str, list[str]]:
    """Note -> of each item whose last note it is, in the order of `notes`, the first note, which asks it."""
    turn = {note: number for number, note in enumerate(notes)}
    complete: dict[str, list[str]] = defaultdict(list)
    for item in items:
        complete[max(_notes(item), key=turn.__getitem__)].append(_notes(item)[0])
    return complete


def _asked_of(count: int, config: StageConfig) -> int:
    """How many of a held-out note's items are asked."""
    return math.ceil(config.question_share * count)


def _questions(items: Iterable[Prompt], chosen: set[str], config: StageConfig) -> list[Prompt]:
    """Of each held-out note a part of its items, by hash; the others are left to SFT."""
    of_note: dict[str, list[Prompt]] = defaultdict(list)
    for item in items:
        if chosen.issuperset(_notes(item)):
            of_note[_notes(item)[0]].append(item)
    asked = []
    for members in of_note.values():
        members.sort(key=lambda item: key_of("question", config.seed, item.id))
        asked += members[: _asked_of(len(members), config)]
    return sorted(asked, key=lambda item: item.row)


def _notes(item: Prompt) -> tuple[str, ...]:
    """The item's notes; an item without any is a note of its own."""
    return item.notes or (f"item {item.id}",)


def _telling(items: Iterable[Prompt], chosen: set[str]) -> set[str]:
    """Items without a note that tell a fact of a held-out note; without the bio, so that its edits move no item."""
    unnoted = [item for item in items if not item.notes]
    if not unnoted:
        return set()
    facts = Facts(items, bio="")
    telling = set()
    with progress("answers compared with the held-out notes", len(unnoted)) as shown:
        for item in unnoted:
            if not chosen.isdisjoint(facts.notes_told(item.target)):
                telling.add(item.id)
            shown.advance()
    return telling


def _is_low(item: Prompt, config: StageConfig) -> bool:
    return config.min_score is not None and item.score is not None and item.score < config.min_score


def _sample(prompts: list[Prompt], config: StageConfig) -> list[Prompt]:
    count = max(1, round(config.sample_fraction * len(prompts))) if prompts else 0
    kept = random.Random(config.seed).sample(prompts, count)
    return sorted(kept, key=lambda p: p.row)


if __name__ == "__main__":
    from lpm_kernel.commands.app import main

    main(["run", "prepare", *sys.argv[1:]])
