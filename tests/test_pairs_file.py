"""The documented pairs files are read and written in one place, and hold what they are given."""

import json
from pathlib import Path

import pytest

from lpm_kernel.errors import DataError
from lpm_kernel.files import write_json_list
from lpm_kernel.L2.dpo.utils import read_pairs, write_pairs
from lpm_kernel.records import Message, PreferencePair


def message(role: str, content: str) -> Message:
    return Message.model_validate({"role": role, "content": content})


PLAIN = PreferencePair(
    messages=(message("system", ""), message("user", "Where?\u2028\u0085 Größe 猫")), chosen="In Visby.", rejected="Hm."
)
TURNS = PreferencePair(
    messages=(message("user", "Where?"), message("assistant", "In Visby."), message("user", "Since when?")),
    chosen="1987",
    rejected="Long ago.",
    confidence=0.8,
)


def test_pairs_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs", [PLAIN, TURNS])
    assert read_pairs(tmp_path / "pairs") == [PLAIN, TURNS]


def test_a_plain_pair_has_the_documented_fields_and_no_others(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs", [PLAIN])
    (row,) = json.loads((tmp_path / "pairs").read_text(encoding="utf-8"))
    prompt = {"system": "", "user": PLAIN.messages[1].content}
    assert row == {"prompt": prompt, "chosen": "In Visby.", "rejected": "Hm."}


@pytest.mark.parametrize("rows", [[], [1], [{"a": "x\u2028y\x1c\n"}, {"b": [1, {"c": None}]}]])
def test_a_list_written_row_by_row_is_the_json_of_the_list(rows: list[object], tmp_path: Path) -> None:
    write_json_list(tmp_path / "list", rows)
    assert json.loads((tmp_path / "list").read_bytes()) == rows
    whole = json.dumps(rows, indent=2, ensure_ascii=False) + "\n"
    assert (tmp_path / "list").read_bytes() == whole.encode()


@pytest.mark.parametrize("turns", [[], [message("user", "a"), message("assistant", "b")]])
def test_a_pair_whose_prompt_does_not_end_with_the_user_is_refused(turns: list[Message], tmp_path: Path) -> None:
    row = {"prompt": [turn.model_dump() for turn in turns], "chosen": "a", "rejected": "b"}
    (tmp_path / "pairs").write_text(json.dumps([row]))
    with pytest.raises(DataError, match="row 0 does not end with the user's turn"):
        read_pairs(tmp_path / "pairs")


@pytest.mark.parametrize("confidence", [0.5, 1.1, "high"])
def test_a_confidence_that_is_no_probability_above_one_half_is_refused(confidence: object, tmp_path: Path) -> None:
    row = {"prompt": {"system": "", "user": "q"}, "chosen": "a", "rejected": "b", "confidence": confidence}
    (tmp_path / "pairs").write_text(json.dumps([row]))
    with pytest.raises(DataError, match="confidence"):
        read_pairs(tmp_path / "pairs")
