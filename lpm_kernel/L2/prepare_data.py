"""Read and render the owner's items, once for all steps; split them into prompts and questions of the evaluation.

Notes are held out, not single questions: no item of a held-out note becomes a pair. A part of such a note's
items are the questions of the evaluation, seen by no training; the others stay with SFT, which must teach the
note for the question to be fair. An item without `doc_id` that tells a fact of a held-out note is set aside too.
Notes that say the same count as one. Beside the owner's own, questions that no note answers become prompts, so that a
model learns to say so; those of the evaluation are about other things.
Beside the held-out questions stand the probes of `owner/probes.py`, among them contested questions, which are withheld
by wording: so contested notes are held out last.
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
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from pydantic import Field

from lpm_kernel.errors import DataError, Finding
from lpm_kernel.files import key_of, write_json, write_jsonl
from lpm_kernel.owner import probes
from lpm_kernel.owner.bio import read_bio
from lpm_kernel.owner.facts import Facts, notes_of
from lpm_kernel.owner.items import ItemConfig, read_items, same_question, same_text
from lpm_kernel.owner.probes import ProbeConfig
from lpm_kernel.owner.unanswerable import unanswerable
from lpm_kernel.progress import progress, say, tally
from lpm_kernel.records import ItemsAccount, Probe, Prompt

MIN_QUESTIONS = 8
"""Below this no evaluation can tell anything."""


class StageConfig(ItemConfig, ProbeConfig):
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
    """Every usable item stands in exactly one of the first three."""

    prompts: list[Prompt]
    held_out: list[Prompt]
    set_aside: Counter[str]
    withheld: list[Probe]
    """Of those set aside, the ones that the evaluation asks."""


def run(
    config: StageConfig,
    *,
    merged_path: Path,
    bio_path: Path,
    prompts_path: Path,
    held_out_path: Path,
    probes_path: Path,
    items_path: Path,
    account_path: Path,
) -> None:
    """Raises MissingInputError or DataError when there is nothing sound to work on."""
    read_bio(bio_path)
    items, skipped = _usable_items(merged_path, config)
    split = split_items(items, config)
    if not split.prompts:
        raise DataError(
            f"{merged_path}: {_all_the_same(items)}, so none is left for pairs{tally(split.set_aside)}; add notes "
            "about other things, or make pairs that no evaluation follows: --held-out-share 0"
        )
    most = round(config.unanswerable_share * len(split.prompts))
    made = unanswerable(split.prompts, items, most, seed=config.seed, side="paired")
    asked = split.withheld + (probes.made(items, config, config, config.seed) if config.held_out_share else [])
    write_jsonl(items_path, items)
    write_jsonl(prompts_path, split.prompts + made)
    write_jsonl(held_out_path, split.held_out)
    write_jsonl(probes_path, asked)
    write_json(account_path, _account(items, skipped, split, made))
    say(
        f"split: {len(items)} usable = {len(split.prompts)} prompts + {len(split.held_out)} held-out questions "
        f"+ {split.set_aside.total()} set aside{tally(split.set_aside)}"
    )
    kinds: Counter[str] = Counter(probe.kind for probe in asked)
    say(f"asked for pairs beside the prompts: {len(made)}{tally({'unanswerable': len(made)})}")
    say(f"asked beside the held-out questions: {kinds.total()}{tally(kinds)}")


def _usable_items(merged_path: Path, config: StageConfig) -> tuple[list[Prompt], Counter[str]]:
    """The owner's items, and how many were skipped by reason; raises DataError where they are too few."""
    items, skipped = read_items(merged_path, config)
    read = len(items) + skipped.total()
    say(f"items: {read} read = {len(items)} usable + {skipped.total()} skipped{tally(skipped)}")
    if len(items) < config.min_items:
        raise DataError(
            f"{merged_path} holds {len(items)} usable items; at least {config.min_items} are needed. "
            f"Add notes, or lower --min-items. {skipped.total()} were skipped{tally(skipped)}"
        )
    return items, skipped


def _account(items: Sequence[Prompt], skipped: Counter[str], split: ItemSplit, made: Sequence[Prompt]) -> ItemsAccount:
    return ItemsAccount(
        read=len(items) + skipped.total(),
        usable=len(items),
        skipped=dict(sorted(skipped.items())),
        prompts=len(split.prompts),
        made=len(made),
        held_out=len(split.held_out),
        set_aside=dict(sorted(split.set_aside.items())),
        variants=dict(sorted(Counter(item.variant for item in items).items())),
    )


def _all_the_same(items: Sequence[Prompt]) -> str:
    """Why there is nothing to hold out beside what pairs are made of."""
    notes = {note for item in items for note in item.notes}
    if len(notes) > 1:
        return f"all {len(items)} usable items rest on {len(notes)} notes that are held out or say the same"
    return f"all {len(items)} usable items " + ("rest on one note" if notes else "have the same answer")


def split_items(items: Sequence[Prompt], config: StageConfig) -> ItemSplit:
    """Hold out whole notes, and of the others some wordings; every item lands in exactly one place."""
    original = {item.id: item for item in items}
    items = _as_one(items)
    facts = Facts(items, bio="")
    sound = [item for item in items if not _is_low(item, config)]
    contested = [item for item in sound if facts.versions(item)]
    chosen, held_out = _hold_out(sound, config, last={note for item in contested for note in notes_of(item)})
    asked = {item.id for item in held_out}
    questions = {same_question(item) for item in held_out}
    telling = _telling(items, chosen, facts)

    set_aside: Counter[str] = Counter()
    prompts: dict[tuple[str, str], Prompt] = {}
    for item in items:
        if item.id in asked:
            continue
        if not chosen.isdisjoint(notes_of(item)):
            set_aside["note_is_held_out"] += 1
        elif same_question(item) in questions:
            set_aside["question_is_held_out"] += 1
        elif _is_low(item, config):
            set_aside["low_score"] += 1
        elif item.id in telling:
            set_aside["tells_a_held_out_note"] += 1
        elif prompts.setdefault((item.system, item.user), item) is not item:
            set_aside["same_question"] += 1
    disputed = {same_question(item) for item in contested}
    wordings = {}
    if config.held_out_share:
        wordings = probes.withheld(list(prompts.values()), items, disputed, config, config.seed)
    left, withheld = [], []
    for prompt in prompts.values():
        kind = wordings.get(same_question(prompt))
        if kind is None:
            left.append(original[prompt.id])
        else:
            set_aside[f"asked_as_{kind}"] += 1
            withheld.append(Probe(kind=kind, prompt=original[prompt.id]))
    kept = _sample(left, config)
    set_aside["not_sampled"] = len(left) - len(kept)
    return ItemSplit(kept, [original[item.id] for item in held_out], +set_aside, withheld)


def _as_one(items: Sequence[Prompt]) -> list[Prompt]:
    """The items, with one note in place of those that say the same."""
    answers: dict[str, set[str]] = defaultdict(set)
    for item in items:
        for note in item.notes:
            answers[note].add(same_text(item.target))
    first: dict[frozenset[str], str] = {}
    same = {note: first.setdefault(frozenset(answers[note]), note) for note in sorted(answers)}

    def one(item: Prompt) -> Prompt:
        notes = tuple(dict.fromkeys(same[note] for note in item.notes))
        return item if notes == item.notes else item.model_copy(update={"notes": notes})

    return [one(item) for item in items]


def _hold_out(
    items: Sequence[Prompt], config: StageConfig, last: Collection[str] = ()
) -> tuple[set[str], list[Prompt]]:
    """The held-out notes, and the questions asked of them: a part of the items that rest on held-out notes alone.

    Notes are taken in the order of their hash, those of `last` behind the others, until both the share and
    MIN_QUESTIONS are reached, at most half of them.
    """
    noted = [item for item in items if item.notes] or list(items)
    notes = sorted(
        {note for item in noted for note in notes_of(item)}, key=lambda n: (n in last, key_of("note", config.seed, n))
    )
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
        complete[max(notes_of(item), key=turn.__getitem__)].append(notes_of(item)[0])
    return complete


def _asked_of(count: int, config: StageConfig) -> int:
    """How many of a held-out note's items are asked."""
    return math.ceil(config.question_share * count)


def _questions(items: Iterable[Prompt], chosen: set[str], config: StageConfig) -> list[Prompt]:
    """Of each held-out note a part of its items, by hash; the others are left to SFT."""
    of_note: dict[str, list[Prompt]] = defaultdict(list)
    for item in items:
        if chosen.issuperset(notes_of(item)):
            of_note[notes_of(item)[0]].append(item)
    asked = []
    for members in of_note.values():
        members.sort(key=lambda item: key_of("question", config.seed, item.id))
        asked += members[: _asked_of(len(members), config)]
    return sorted(asked, key=lambda item: item.row)


def _telling(items: Iterable[Prompt], chosen: set[str], facts: Facts) -> set[str]:
    """Items without a note that tell a fact of a held-out note; `facts` are without the bio."""
    unnoted = [item for item in items if not item.notes]
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
