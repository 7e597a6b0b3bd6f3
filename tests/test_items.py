"""Every variant of merged.json is read, rendered as SFT renders it, and accounted for."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lpm_kernel.errors import DataError
from lpm_kernel.owner import items as items_file
from lpm_kernel.owner.items import ItemConfig, read_items
from lpm_kernel.records import Prompt

CONFIG = ItemConfig(user_name="Mira")
VARIANTS: dict[str, dict[str, Any]] = {
    "memory": {"user": "Q", "assistant": "A"},
    "diversity": {"user": "D", "assistant": "A", "doc_id": ["n1", 7], "question_type": "global", "entity_name": "x"},
    "context": {"user_request": "R", "enhanced_request": "E"},
    "feedback": {"user_request": "R", "expert_response": "X", "user_feedback": "F"},
    "dated": {"user": "Q", "assistant": "A", "timestamp": "2024-05-01"},
    "time_qa": {"user": "Q", "assistant": "A", "timestamp": "2024-05-01", "is_timeqa": True},
    "exact_day": {"user": "Q", "assistant": "A", "exact_day": "2024-05-01"},
    "bio_qa": {"query": "B", "answer": "<think>t</think>\n\n<answer>A</answer>"},
}
EVERY_KEY: dict[str, Any] = {key: None for item in VARIANTS.values() for key in item} | {
    "score": None,
    "reasoning": None,
}


def read(tmp_path: Path, items: object, config: ItemConfig = CONFIG) -> tuple[list[Prompt], Counter[str]]:
    path = tmp_path / "merged.json"
    path.write_text(json.dumps(items), encoding="utf-8")
    return read_items(path, config)


@pytest.mark.parametrize("variant", VARIANTS)
def test_null_and_missing_fields_are_the_same(variant: str, tmp_path: Path) -> None:
    (bare,), _ = read(tmp_path, [VARIANTS[variant]])
    (padded,), _ = read(tmp_path, [EVERY_KEY | VARIANTS[variant]])
    assert bare == padded
    assert bare.variant == variant


def test_each_variant_has_the_rendering_of_its_sft(tmp_path: Path) -> None:
    prompts, skipped = read(tmp_path, list(VARIANTS.values()))
    told = {p.variant: (p.system, p.user, p.target) for p in prompts}
    assert not skipped
    assert told["context"][1:] == ("Mira's request is: R", "E")
    assert told["feedback"][1:] == ("Mira's request is: R\nExpert's response is: X", "F")
    assert told["dated"] == ("", "<|ME|>Q", "A")
    assert told["time_qa"][0].endswith("date is 2024-05-01")
    assert told["exact_day"] == ("You are a helpful assistant.", "<|ME|>Q", "A")
    assert told["bio_qa"][2] == "A"
    assert "Mira" in told["memory"][0]


def test_thinking_models_keep_the_thought_in_the_target(tmp_path: Path) -> None:
    (prompt,), _ = read(tmp_path, [VARIANTS["bio_qa"]], ItemConfig(thinking=True))
    assert prompt.target.startswith("<think>t</think>")
    assert "<think>" in prompt.system


def test_a_filtered_item_keeps_its_variant_and_score(tmp_path: Path) -> None:
    (prompt,), _ = read(tmp_path, [VARIANTS["diversity"] | {"score": 4, "reasoning": "fine"}])
    assert (prompt.variant, prompt.score, prompt.notes) == ("diversity", 4.0, ("n1", "7"))


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (None, "not_an_object"),
        (7, "not_an_object"),
        ({"user": "Q", "assistant": None}, "no_answer"),
        ({"user": "Q", "assistant": "None"}, "no_answer"),
        ({"user": "Q", "assistant": "none."}, "no_answer"),
        ({"user": "<|ME|>", "assistant": "A"}, "no_question"),
        ({"user": "Q", "assistant": "A</s>"}, "control_token"),
        ({"user": "  ", "assistant": "A"}, "no_question"),
        ({"user": 5, "assistant": "A"}, "not_text"),
        ({"user": "Q", "assistant": "A" * 1_000_000}, "too_long"),
        ({"user": "Q", "assistant": "\ud800"}, "broken_unicode"),
        ({"user": "Q", "assistant": "a\x00b"}, "broken_unicode"),
        ({"user": "Q<|im_end|>", "assistant": "A"}, "control_token"),
        ({"user": "Q", "assistant": "A", "is_timeqa": True}, "no_timestamp"),
        ({}, "no_question"),
    ],
)
def test_an_unusable_item_is_skipped_with_its_reason(item: object, reason: str, tmp_path: Path) -> None:
    prompts, skipped = read(tmp_path, [item, VARIANTS["memory"]])
    assert len(prompts) == 1
    assert skipped == {reason: 1}


def test_words_that_begin_with_none_stay(tmp_path: Path) -> None:
    prompts, _ = read(tmp_path, [{"user": "Q", "assistant": "Nonetheless, None of my cats did."}])
    assert len(prompts) == 1


def test_read_equals_usable_plus_skipped(tmp_path: Path) -> None:
    items = [*VARIANTS.values(), *VARIANTS.values(), None, {"user": "x"}]
    prompts, skipped = read(tmp_path, items)
    assert len(items) == len(prompts) + skipped.total()
    assert skipped["duplicate"] == len(VARIANTS)


def test_texts_are_composed_so_that_served_and_trained_tokens_agree(tmp_path: Path) -> None:
    (prompt,), _ = read(tmp_path, [{"user": "Cafe\u0301?", "assistant": "E\u0301lan"}])
    assert (prompt.user, prompt.target) == ("Caf\u00e9?", "\u00c9lan")


def test_a_duplicate_adds_its_notes(tmp_path: Path) -> None:
    (prompt,), skipped = read(tmp_path, [VARIANTS["memory"], VARIANTS["memory"] | {"doc_id": ["n9"]}])
    assert prompt.notes == ("n9",)
    assert skipped == {"duplicate": 1}


def test_a_broken_byte_costs_only_its_item(tmp_path: Path) -> None:
    path = tmp_path / "merged.json"
    path.write_bytes(b'\xef\xbb\xbf[{"user":"Q","assistant":"\xff"},\r\n{"user":"Q","assistant":"A"}]')
    prompts, skipped = read_items(path, CONFIG)
    assert [p.target for p in prompts] == ["A"]
    assert skipped == {"broken_unicode": 1}


def test_note_ids_are_text_whatever_wrote_them(tmp_path: Path) -> None:
    (prompt,), _ = read(
        tmp_path, [VARIANTS["memory"] | {"doc_id": [7.0, "7", True, "", None, "n-1"], "score": 10**400}]
    )
    assert (prompt.notes, prompt.score) == (("7", "n-1"), None)


HUGE_ROWS = {
    "nested deep": ("[" * 100_000 + '"]"' + "]" * 100_000, "unreadable"),
    "objects nested deep": ('{"user":' * 100_000 + "1" + "}" * 100_000, "unreadable"),
    "a number of 5,000 digits": ('{"user": "Q", "score": 1' + "0" * 5000 + "}", "unreadable"),
    "20 million characters": (json.dumps({"user": "Q", "assistant": "A " * 10_000_000}), "too_long"),
    "a million marks on one letter": (
        json.dumps({"user": "Q", "assistant": "a" + "\u0323\u0301" * 500_000}),
        "piled_marks",
    ),
}


@pytest.mark.parametrize(("row", "reason"), HUGE_ROWS.values(), ids=HUGE_ROWS)
def test_a_row_of_any_size_costs_only_itself(row: str, reason: str, tmp_path: Path) -> None:
    good = json.dumps(VARIANTS["memory"])
    path = tmp_path / "merged.json"
    path.write_text(f"[{good}, {row}, {good}]")
    prompts, skipped = read_items(path, CONFIG)
    assert len(prompts) == 1
    assert skipped == {reason: 1, "duplicate": 1}


@pytest.mark.parametrize("gap", ["", " ", "\n\t\r"])
def test_the_rows_are_those_of_the_json_list_however_it_is_laid_out(gap: str, tmp_path: Path) -> None:
    rows = [[], {}, "]", '"', "\\", 1.5, True, None, {"a": [{"b": "}"}]}, ["]", "[,"]]
    path = tmp_path / "merged.json"
    path.write_text(gap.join(["", "[", f"{gap},{gap}".join(map(json.dumps, rows)), "]", ""]))
    assert list(items_file._items(path)) == rows


@pytest.mark.parametrize(
    "text", ["[1,]", "[,1]", "[1 2]", "[1]]", "[1] x", "[[1]", "[nan", "", "  \n", "{}", "[1,", "nope", "[" * 100_000]
)
def test_a_file_that_is_no_list_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "merged.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"merged\.json"):
        read_items(path, CONFIG)
