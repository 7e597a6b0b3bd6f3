"""`lpm pairs`: every filter and decision, for people and for machines, in every script; and the owner's editor."""

import json
from pathlib import Path

import pytest
from conftest import Lpm
from terminal import lpm_on_a_terminal
from words import BETTER, WORSE, evidence, judged_workspace, prompt, told_json

from lpm_kernel.demo import gift
from lpm_kernel.errors import UsageError
from lpm_kernel.files import append_jsonl, file_sha256, make_folder, read_jsonl
from lpm_kernel.judges.choices import NOT_ASKED, NOT_GIVEN
from lpm_kernel.records import PairChoice
from lpm_kernel.workspace.places import Workspace


@pytest.fixture
def mixed(tmp_path: Path) -> Workspace:
    """Pairs of three confidences, a tie, a flip of orders, and a pair below the floor."""
    low = evidence(prompt(5), strength=0.1)
    found = [
        *((p, evidence(p, confidence=0.6 + p.row / 10)) for p in map(prompt, range(3))),
        (prompt(3), evidence(prompt(3), ("tie", "tie"))),
        (prompt(4, "東京の家は？", variant="time_qa"), evidence(prompt(4), ("first", "second"))),  # noqa: RUF001
        (prompt(5), low.model_copy(update={"chosen": None, "rejected": None, "dropped": "low_confidence"})),
    ]
    return judged_workspace(tmp_path / "w", found)


@pytest.mark.parametrize(
    ("filters", "rows"),
    [
        ((), [0, 1, 2, 3, 4, 5]),
        (("--search", "東京"), [4]),
        (("--search", BETTER.upper() + " 2"), [2]),
        (("--dropped",), [3, 4, 5]),
        (("--reason", "tie"), [3]),
        (("--below", "0.75"), [0, 1]),
        (("--note", "note-5"), [5]),
        (("--variant", "time_qa"), [4]),
        (("--mine",), []),
        (("--limit", "2"), [0, 1]),
        (("--dropped", "--search", WORSE, "--variant", "memory"), [3, 5]),
    ],
)
def test_the_list_shows_what_the_filters_ask_for(filters: tuple[str, ...], rows: list[int], mixed: Workspace) -> None:
    found = told_json(mixed, "pairs", "list", *filters)
    assert [row["row"] for row in found["pairs"]] == rows
    assert (found["total"], found["shown"]) == (6, len(rows))


def test_every_decision_changes_the_pair_at_once_and_is_a_line_of_the_owners_file(mixed: Workspace) -> None:
    def pair(*arguments: str) -> tuple[str | None, str | None, str | None]:
        told = told_json(mixed, "pairs", *arguments)
        return told["chosen"], told["rejected"], told["dropped"]

    a, b = f"{BETTER} 1", f"{WORSE} 1"
    assert pair("flip", "0001") == (b, a, None)
    assert pair("reject", "0001") == (None, None, "rejected_by_owner")
    assert pair("edit", "0001", "--chosen", "Mine") == ("Mine", b, None)
    assert pair("undo", "0001") == (None, None, "rejected_by_owner")
    assert pair("undo", "0001") == (b, a, None)
    assert pair("flip", "0001") == (a, b, None)
    assert pair("accept", "0005") == (f"{BETTER} 5", f"{WORSE} 5", None)
    assert pair("accept", "0003", "--chosen", "2", "--rejected", "1") == (f"{WORSE} 3", f"{BETTER} 3", None)
    kinds = [line.kind for line in read_jsonl(mixed.place("choices"), PairChoice)]
    assert kinds == ["flip", "reject", "edit", "undo", "undo", "undo", "accept", "accept"]
    mine = told_json(mixed, "pairs", "list", "--mine")["pairs"]
    assert {row["row"]: (row["word"]["kind"], row["confidence"]) for row in mine} == {
        5: ("accept", 0.98),
        3: ("accept", 0.98),
    }
    shown = told_json(mixed, "pairs", "show", "0005")
    assert shown["judged"]["dropped"] == "low_confidence"
    assert [answer["text"] for answer in shown["answers"]] == [f"{BETTER} 5", f"{WORSE} 5"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("show", "ffff"), "no question has an id"),
        (("show", "000"), "6 questions have ids"),
        (("undo", "0001"), "nothing to take back"),
        (("flip", "0003"), "accept 0003abcdef123456 --chosen N"),
        (("edit", "0001", "--chosen", " "), "empty"),
        (("edit", "0001", "--chosen", f"{WORSE} 1"), "the same"),
        (("edit", "0003", "--chosen", "half a pair"), "empty"),
        (("accept", "0003", "--chosen", "1"), "belong together"),
        (("accept", "0003", "--chosen", "1", "--rejected", "3"), "no answer 3, expected 1 to 2"),
        (("list", "--variant", "memori"), "memory"),
    ],
)
def test_what_cannot_be_decided_says_why_and_leaves_no_line(
    arguments: tuple[str, ...], told: str, mixed: Workspace
) -> None:
    with pytest.raises(UsageError, match=told):
        told_json(mixed, "pairs", *arguments)
    assert not mixed.place("choices").exists()


def test_words_that_no_longer_apply_are_listed_with_the_reason(mixed: Workspace) -> None:
    for number, texts in ((1, ("gone", "too")), (77, ("a", "b"))):
        asked = prompt(number)
        pair = {"chosen": texts[0], "rejected": texts[1]}
        flip = {"prompt_id": asked.id, "question": asked.user, "kind": "flip", "at": "now"}
        append_jsonl(mixed.place("choices"), PairChoice.model_validate(flip | pair))
    found = told_json(mixed, "pairs", "list")
    assert {word["id"][:4]: word["why"] for word in found["no_longer_apply"]} == {"0001": NOT_GIVEN, "0077": NOT_ASKED}
    with mixed.place("choices").open("a") as file:
        file.write("{}\n")
    assert told_json(mixed, "pairs", "list")["damaged_lines"] == 1


EDITOR = """#!/bin/sh
sed -i "s/%s/Mine, in Trieste/" "$1"
"""


def test_the_owners_editor_opens_the_pair_and_what_it_leaves_counts(mixed: Workspace, tmp_path: Path, lpm: Lpm) -> None:
    editor = tmp_path / "editor"
    editor.write_text(EDITOR % f"{BETTER} 1")
    editor.chmod(0o700)
    place = ("--workspace", mixed.root)
    done = lpm("pairs", "edit", "0001", *place, env={"EDITOR": str(editor)})
    assert "+ Mine, in Trieste" in done.stdout
    assert f"- {WORSE} 1" in done.stdout
    again = lpm("pairs", "edit", "0001", *place, env={"EDITOR": "true"})
    assert (again.returncode, "nothing was changed" in again.stderr) == (0, True)
    editor.write_text("#!/bin/sh\necho nothing > $1\n")
    spoilt = lpm("pairs", "edit", "0001", *place, env={"EDITOR": str(editor)})
    assert (spoilt.returncode, "expected the lines" in spoilt.stderr) == (64, True)
    assert len(list(read_jsonl(mixed.place("choices"), PairChoice))) == 1


def test_hostile_answers_are_shown_harmless_at_forty_columns(tmp_path: Path) -> None:
    asked = prompt(1, "où?")
    bad = "\x1b]0;owned\x07\x1b[2J 日本" + "語" * 60
    workspace = judged_workspace(tmp_path, [(asked, evidence(asked, answers=(bad, "\x9b31m\n0002  pair")))])
    for command in (("list",), ("show", "0001")):
        with lpm_on_a_terminal("pairs", *command, "--workspace", workspace.root, columns=40) as screen:
            assert screen.end() == 0
        assert "\x1b]" not in screen.raw
        assert "\x1b[2J" not in screen.raw
        assert "\x9b" not in screen.raw
        assert "\n0002" not in screen.shown


def test_what_the_owner_said_of_the_demo_stays_when_it_is_taken_away_and_goes_along_when_it_moves(
    tmp_path: Path,
) -> None:
    for move in (False, True):
        workspace = Workspace(tmp_path / str(move))
        data = workspace.place("merged.json")
        make_folder(data.parent)
        data.write_text("[]")
        (workspace.root / gift.GIFT).write_text(json.dumps({"files": {"L2/data/merged.json": file_sha256(data)}}))
        asked = prompt(1)
        said = PairChoice(prompt_id=asked.id, question=asked.user, kind="reject", at="now")
        append_jsonl(workspace.place("choices"), said)
        before = workspace.place("choices").read_bytes()
        below = gift.move_away(workspace) if move else None
        assert move or gift.take_away(workspace)
        kept = Workspace(below) if below else workspace
        assert kept.place("choices").read_bytes() == before
        assert not data.exists()
        assert sum(path.name == "choices.jsonl" for path in workspace.root.rglob("*")) == 1


def test_a_pairs_file_of_the_owners_is_told_to_stay_as_it_is(mixed: Workspace, lpm: Lpm) -> None:
    mixed.place("dpo_direct.json").write_text("[]")
    told = lpm("pairs", "reject", "0001", "--workspace", mixed.root)
    assert "is yours as it stands" in told.stdout
    assert mixed.place("choices").exists()
