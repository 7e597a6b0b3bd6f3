"""Whole notes are held out, and nothing of them leaks into the pairs."""

import json
import math
import time
from pathlib import Path

import pytest
from conftest import owner_items

from lpm_kernel.errors import DataError
from lpm_kernel.files import read_jsonl
from lpm_kernel.L2 import prepare_data
from lpm_kernel.L2.prepare_data import StageConfig, run, split_items
from lpm_kernel.owner.items import read_items, same_question
from lpm_kernel.records import Prompt

CONFIG = StageConfig(held_out_share=0.25)


def prepared(tmp_path: Path, merged_path: Path, bio_path: Path, config: StageConfig = CONFIG) -> dict[str, Path]:
    made = {f"{name}_path": tmp_path / name for name in ("prompts", "held_out", "probes", "items", "account")}
    run(config, merged_path=merged_path, bio_path=bio_path, **made)
    return made


def test_no_note_of_a_held_out_question_is_among_the_prompts(tmp_path: Path, merged_path: Path, bio_path: Path) -> None:
    made = prepared(tmp_path, merged_path, bio_path)
    prompts, held_out = (list(read_jsonl(made[name], Prompt)) for name in ("prompts_path", "held_out_path"))
    asked = {note for p in held_out for note in p.notes}
    assert asked
    assert not asked & {note for p in prompts for note in p.notes}
    assert not {p.user for p in held_out} & {p.user for p in prompts}


def test_every_usable_item_is_written_for_sft_whatever_the_split(
    tmp_path: Path, merged_path: Path, bio_path: Path
) -> None:
    made = prepared(tmp_path, merged_path, bio_path)
    items = list(read_jsonl(made["items_path"], Prompt))
    assert items == read_items(merged_path, CONFIG)[0]
    assert len(items) > len(list(read_jsonl(made["prompts_path"], Prompt)))


def test_usable_equals_prompts_plus_held_out_plus_set_aside(tmp_path: Path, merged_path: Path, bio_path: Path) -> None:
    account = json.loads(prepared(tmp_path, merged_path, bio_path)["account_path"].read_text())
    assert account["usable"] == account["prompts"] + account["held_out"] + sum(account["set_aside"].values())
    assert account["read"] == account["usable"] + sum(account["skipped"].values())


def test_an_item_without_note_that_tells_a_held_out_fact_is_set_aside(merged_path: Path) -> None:
    tellers = [
        {"user": f"Tell me {w}", "assistant": f"I think of {w}."} for w in ("Trieste", "Quark", "1987", "Rossetti")
    ]
    merged_path.write_text(json.dumps([*owner_items(), *tellers]))
    items, _ = read_items(merged_path, CONFIG)
    split = split_items(items, CONFIG)
    assert split.set_aside["tells_a_held_out_note"] == len({n for p in split.held_out for n in p.notes}) > 0
    assert sum(p.user.startswith("Tell me") for p in split.prompts) == 4 - split.set_aside["tells_a_held_out_note"]


def test_the_split_is_the_same_for_a_seed_and_for_any_order_of_items(merged_path: Path) -> None:
    items, _ = read_items(merged_path, CONFIG)
    held = {p.id for p in split_items(items, CONFIG).held_out}
    assert held == {p.id for p in split_items(items[::-1], CONFIG).held_out}
    others = [split_items(items, StageConfig(held_out_share=0.25, seed=s)).held_out for s in range(8)]
    assert any({p.id for p in other} != held for other in others)


def test_notes_that_share_items_do_not_swallow_the_split(merged_path: Path) -> None:
    chained = [{"user": f"Q{n}?", "assistant": f"A{n}.", "doc_id": [n, n + 1]} for n in range(100)]
    merged_path.write_text(json.dumps(chained))
    items, _ = read_items(merged_path, CONFIG)
    split = split_items(items, CONFIG)
    asked = {note for p in split.held_out for note in p.notes}
    assert len(split.held_out) >= 8
    assert len(split.prompts) >= 20
    assert not asked & {note for p in split.prompts for note in p.notes}


def test_a_question_in_another_guise_does_not_leak(merged_path: Path) -> None:
    guises = [i | {"user": f"  {i['user'].upper()} ", "doc_id": None} for i in owner_items()]
    merged_path.write_text(json.dumps([*owner_items(), *guises]))
    items, _ = read_items(merged_path, CONFIG)
    split = split_items(items, CONFIG)
    assert not {same_question(p) for p in split.held_out} & {same_question(p) for p in split.prompts}


def test_low_scores_become_no_prompt(merged_path: Path) -> None:
    scored = [item | {"score": n % 2} for n, item in enumerate(owner_items())]
    merged_path.write_text(json.dumps(scored))
    items, _ = read_items(merged_path, CONFIG)
    split = split_items(items, StageConfig(held_out_share=0.25, min_score=1))
    assert all(p.score == 1 for p in [*split.prompts, *split.held_out])


def test_the_work_grows_as_the_notes_do(merged_path: Path) -> None:
    def seconds(notes: int) -> float:
        rows = [{"user": f"Q{n}?", "assistant": f"A{n} of Via {n}.", "doc_id": [n]} for n in range(notes)]
        merged_path.write_text(json.dumps(rows))
        items, _ = read_items(merged_path, CONFIG)
        start = time.process_time()
        split_items(items, CONFIG)
        return time.process_time() - start

    assert seconds(8000) < 30 * seconds(800)


def test_each_held_out_note_is_asked_its_share_and_no_more_notes_are_taken_than_needed(merged_path: Path) -> None:
    rows = [{"user": f"Q{n}?", "assistant": f"A{n}.", "doc_id": [n // 4, n // 4 + n % 2]} for n in range(400)]
    merged_path.write_text(json.dumps(rows))
    items, _ = read_items(merged_path, CONFIG)
    chosen, asked = prepare_data._hold_out(items, CONFIG)
    assert len(chosen) == math.ceil(CONFIG.held_out_share * 101)
    assert asked == prepare_data._questions(items, chosen, CONFIG)
    assert len(asked) >= prepare_data.MIN_QUESTIONS


def test_fewer_than_ten_items_are_refused_with_the_cure(tmp_path: Path, merged_path: Path, bio_path: Path) -> None:
    merged_path.write_text(json.dumps(owner_items()[:9]))
    with pytest.raises(DataError, match=r"9 usable items.*at least 10.*--min-items"):
        prepared(tmp_path, merged_path, bio_path)


def test_the_documented_tenth_of_a_small_file_is_not_empty(tmp_path: Path, merged_path: Path, bio_path: Path) -> None:
    made = prepared(tmp_path, merged_path, bio_path, StageConfig(sample_fraction=0.01))
    assert len(list(read_jsonl(made["prompts_path"], Prompt))) == 1
