"""The owner's word on pairs: it stands above the judge's, survives a remake of the data, and is never lost."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from scripted_server import ScriptedServer
from words import BETTER, WORSE, evidence, judged_workspace, make_pairs, prompt, settings, twelve

from lpm_kernel.errors import DataError, OutputError, UsageError
from lpm_kernel.files import append_jsonl, read_jsonl, read_survivors
from lpm_kernel.judges.choices import (
    CONFIDENCE,
    NOT_ASKED,
    NOT_GIVEN,
    Words,
    as_judged,
    heard,
    not_believed,
    read_words,
    waiting,
)
from lpm_kernel.L2.dpo.utils import full_row_of, pair_of, read_pairs
from lpm_kernel.pipeline import step_named
from lpm_kernel.proof.agreement import AgreementConfig
from lpm_kernel.records import Evidence, PairChoice, Prompt, Vote
from lpm_kernel.runner.settings import resolve_all
from lpm_kernel.runner.state import state_of
from lpm_kernel.runner.word import OwnersWord
from lpm_kernel.workspace.places import Workspace

AT = "2026-11-21T20:00:00Z"


def choice(
    asked: Prompt, kind: str, chosen: str | None = None, rejected: str | None = None, at: str = AT
) -> PairChoice:
    fields = {"prompt_id": asked.id, "question": asked.user, "kind": kind, "chosen": chosen, "rejected": rejected}
    return PairChoice.model_validate(fields | {"at": at})


def vote(asked: Prompt, said: str, at: str = AT) -> Vote:
    shown = {"first": f"{BETTER} {asked.row}", "second": f"{WORSE} {asked.row}"}
    return Vote.model_validate({"prompt_id": asked.id, "question": asked.user, **shown, "vote": said, "at": at})


def texts(said: Evidence) -> tuple[str, str] | None:
    if said.chosen is None or said.rejected is None:
        return None
    return said.answers[said.chosen].text, said.answers[said.rejected].text


ASKED = prompt(1)
JUDGED = evidence(ASKED, confidence=0.7, weighed={"judge": 0.7})
A, B = f"{BETTER} 1", f"{WORSE} 1"
SAYINGS = [
    *(choice(ASKED, "flip", B, A), choice(ASKED, "reject"), choice(ASKED, "edit", "My own words", B)),
    *(choice(ASKED, "accept", A, B), choice(ASKED, "undo")),
    *(vote(ASKED, said) for said in ("first", "second", "tie", "skip", "undo")),
]


def words_of(*lines: Vote | PairChoice) -> Words:
    words = Words()
    for line in lines:
        words = words.plus(line)
    return words


@pytest.mark.parametrize(
    ("line", "pair", "dropped"),
    [
        (choice(ASKED, "flip", B, A), (B, A), None),
        (choice(ASKED, "reject"), None, "rejected_by_owner"),
        (choice(ASKED, "edit", "My own words", B), ("My own words", B), None),
        (choice(ASKED, "accept", A, B), (A, B), None),
        (vote(ASKED, "second"), (B, A), None),
        (vote(ASKED, "tie"), None, "tied_by_owner"),
    ],
)
def test_the_owners_word_makes_the_pair_and_the_judges_own_stays_beside_it(
    line: Vote | PairChoice, pair: tuple[str, str] | None, dropped: str | None
) -> None:
    said = heard(JUDGED, words_of(line))
    assert (texts(said), said.dropped) == (pair, dropped)
    assert said.confidence == (CONFIDENCE if pair else None)
    assert said.judged is not None
    assert (said.judged.chosen, said.judged.rejected, said.judged.confidence) == (0, 1, 0.7)
    assert said.verdicts == JUDGED.verdicts
    assert Evidence.model_validate_json(said.model_dump_json()) == said


@given(st.lists(st.sampled_from(SAYINGS), max_size=8))
def test_whatever_was_said_the_judges_word_can_be_had_back_and_hearing_twice_changes_nothing(
    lines: list[Vote | PairChoice],
) -> None:
    words = words_of(*lines)
    once = heard(JUDGED, words)
    assert as_judged(once) == as_judged(not_believed(once)) == JUDGED
    assert heard(once, words) == once
    assert heard(once, Words()) == JUDGED


@given(st.lists(st.sampled_from(SAYINGS), max_size=6), st.sampled_from([*SAYINGS[:4], *SAYINGS[5:9]]))
def test_an_undo_takes_back_exactly_one_word(lines: list[Vote | PairChoice], line: Vote | PairChoice) -> None:
    field = "vote" if isinstance(line, Vote) else "kind"
    undo = line.model_copy(update={field: "undo"})
    assert words_of(*lines, line, undo).standing == words_of(*lines).standing


def test_an_edited_pair_is_written_as_it_was_edited_with_what_the_owner_wrote_among_the_answers() -> None:
    said = heard(JUDGED, words_of(choice(ASKED, "edit", "My own words", "Not mine")))
    pair = pair_of(ASKED, said)
    assert (pair.chosen, pair.rejected, pair.confidence) == ("My own words", "Not mine", CONFIDENCE)
    assert full_row_of(ASKED, said, "rule").traces == (A, B, "My own words", "Not mine")
    assert [answer.finish_reason for answer in said.answers] == ["stop", "stop", "owner", "owner"]


def test_the_later_of_vote_and_choice_counts() -> None:
    early, late = "2026-11-21T20:00:00Z", "2026-11-21T20:00:09Z"
    flip, first = choice(ASKED, "flip", B, A, at=late), vote(ASKED, "first", at=early)
    assert texts(heard(JUDGED, words_of(flip, first))) == (B, A)
    again = vote(ASKED, "first", at="2026-11-21T21:00:00Z")
    assert texts(heard(JUDGED, words_of(flip, again))) == (A, B)


def test_a_word_waits_with_its_reason_until_its_prompt_and_its_answers_are_there_again() -> None:
    others = evidence(ASKED, answers=("Udine", "Rome"))
    flip, own = words_of(choice(ASKED, "flip", B, A)), words_of(choice(ASKED, "edit", "Mine", B))
    assert heard(others, flip) == others
    assert waiting(flip, {ASKED.id: others.answers}) == {ASKED.id: NOT_GIVEN}
    assert waiting(flip, {}) == waiting(own, {}) == {ASKED.id: NOT_ASKED}
    assert waiting(flip, {ASKED.id: JUDGED.answers}) == {}
    assert texts(heard(others, own)) == ("Mine", B)
    turned = words_of(choice(ASKED, "edit", "Mine", B), choice(ASKED, "flip", B, "Mine"))
    assert texts(heard(others, turned)) == (B, "Mine")


def test_flipping_twice_is_nothing_whatever_was_said_before(tmp_path: Path) -> None:
    for number, said in enumerate([None, "accept", "edit", "flip"]):
        owner = OwnersWord(twelve(tmp_path / str(number)), AgreementConfig())
        asked = owner.prompts[prompt(3).id]
        for _ in range(0 if said is None else 1):
            if said == "edit":
                owner.edit(asked, "My own words", "Not mine")
            else:
                getattr(owner, str(said))(asked)
        before = owner.pair(asked).evidence
        owner.flip(asked)
        flipped = owner.pair(asked)
        assert flipped.pair == tuple(reversed([*(texts(before) or ())]))
        owner.flip(asked)
        assert texts(owner.pair(asked).evidence) == texts(before)
        if said != "flip":  # where the second flip of three is the one that takes the first back
            assert owner.pair(asked).evidence == before


def test_a_dropped_prompt_is_accepted_by_naming_answers_and_a_cut_answer_is_never_chosen(tmp_path: Path) -> None:
    asked = prompt(1)
    tied = evidence(asked, ("tie", "tie"))
    cut = tied.answers[0].model_copy(update={"finish_reason": "length"})
    found = [(asked, tied.model_copy(update={"answers": (cut, tied.answers[1])}))]
    owner = OwnersWord(judged_workspace(tmp_path, found), AgreementConfig())
    for wrong, told in {(None, None): "lpm pairs accept", (1, 2): "cut", (2, 2): "the same", (2, 9): "1 to 2"}.items():
        with pytest.raises(UsageError, match=told):
            owner.accept(asked, *wrong)
    owner.accept(asked, 2, 1)
    assert owner.pair(asked).pair == (f"{WORSE} 1", f"{BETTER} 1")


# The files --------------------------------------------------------------------------------------------------------


def test_a_choice_survives_a_remake_of_the_data_and_the_pairs_file_says_so(workspace: Workspace) -> None:
    choices, votes = workspace.place("choices"), workspace.place("votes")
    with ScriptedServer() as server:
        make_pairs(workspace, server)
        first = [e for e in read_jsonl(workspace.place("verdicts"), Evidence) if e.chosen is not None]
        asked = {p.id: p for p in read_jsonl(workspace.place("prompts"), Prompt)}
        flipped, rejected, edited, voted, gone = (asked[e.prompt_id] for e in first[:5])
        pair, shown = texts(first[0]), texts(first[3])
        assert pair
        assert shown
        append_jsonl(choices, choice(flipped, "flip", pair[1], pair[0]))
        append_jsonl(choices, choice(rejected, "reject"))
        append_jsonl(choices, choice(edited, "edit", "Mine", "Not mine"))
        append_jsonl(choices, choice(gone, "flip", "said by nobody", "nor this"))
        second = vote(voted, "second").model_copy(update={"first": shown[0], "second": shown[1]})
        append_jsonl(votes, second)
        calls = len(server.calls)
        account = make_pairs(workspace, server)
        assert len([c for c in server.calls[calls:] if "Say hello" not in c.user]) == 0
        pairs = {p.messages[-1].content: p for p in read_pairs(workspace.place("dpo_direct.json"))}
        again = make_pairs(workspace, server, "seed=7").owner
    owner = account.owner
    assert (owner.flipped, owner.rejected, owner.edited, owner.gold) == (1, 1, 1, 1)
    assert owner.no_longer_apply == {NOT_GIVEN: 1}
    assert (pairs[flipped.user].chosen, pairs[voted.user].chosen) == (pair[1], shown[1])
    assert pairs[edited.user].chosen == "Mine"
    assert rejected.user not in pairs
    assert account.prompts == account.pairs + sum(account.dropped.values())
    assert (again.rejected, again.edited, again.flipped, again.gold) == (1, 1, 0, 0)
    assert again.no_longer_apply == {NOT_GIVEN: 3}


def test_another_owners_file_is_refused_before_anything_is_asked_and_left_as_it_is(workspace: Workspace) -> None:
    votes = workspace.place("votes")
    append_jsonl(votes, vote(prompt(99, "Whose dog is it?"), "first"))
    before = votes.read_bytes()
    with ScriptedServer() as server, pytest.raises(DataError, match=r"Whose dog is it\?.*another owner.*mv ") as caught:
        make_pairs(workspace, server)
    assert (caught.value.exit_code, votes.read_bytes(), server.calls) == (65, before, [])


def test_damaged_lines_are_counted_and_told_and_the_others_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "votes.jsonl"
    good = vote(ASKED, "first").model_dump_json()
    path.write_bytes(b"\n".join([b"{", good.encode(), b"\xff\xfe", b"", b'{"vote": "first"}', good.encode()]) + b"\n")
    words = read_words(path, None, {ASKED.id})
    assert (len(words.votes), words.damaged) == (1, 3)
    assert "3 of 5 lines cannot be read and count for nothing (line 1, 3, 5)" in caplog.text


@pytest.mark.parametrize("kept_bytes", [1, 20, -1])
def test_half_a_line_at_the_end_is_set_aside_and_a_whole_one_counts(kept_bytes: int, tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    line = vote(ASKED, "first").model_dump_json().encode()
    path.write_bytes(line + b"\n" + (line[:kept_bytes] if kept_bytes > 0 else line))
    append_jsonl(path, vote(ASKED, "tie"))
    votes, damaged = read_survivors(path, Vote)
    assert (damaged, [v.vote for v in votes]) == ([], ["first", "tie"] if kept_bytes > 0 else ["first", "first", "tie"])
    aside = tmp_path / "votes.jsonl.damaged-1"
    assert (aside.read_bytes() if kept_bytes > 0 else b"") == (line[:kept_bytes] if kept_bytes > 0 else b"")


def test_nothing_is_written_through_a_link_or_into_what_is_no_file(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("")
    (tmp_path / "link").symlink_to(elsewhere)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "folder", "pipe"):
        with pytest.raises(OutputError):
            append_jsonl(tmp_path / name, vote(ASKED, "first"))
    assert elsewhere.read_text() == ""


def test_two_writers_at_once_and_a_kill_in_between_lose_no_line_that_was_told(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from lpm_kernel.files import append_jsonl\n"
        "from lpm_kernel.records import PairChoice\n"
        "for n in range(10**6):\n"
        "    line = PairChoice(prompt_id=f'{sys.argv[2]}-{n}', question='q' * 500, kind='reject', at='now')\n"
        "    append_jsonl(Path(sys.argv[1]), line); print(n, flush=True)\n"
    )
    path = tmp_path / "choices.jsonl"
    writers = [
        subprocess.Popen([sys.executable, "-c", script, path, str(w)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for w in range(2)
    ]
    told: list[int] = []
    for writer, count in zip(writers, (40, 25), strict=True):
        assert writer.stdout
        lines = [writer.stdout.readline() for _ in range(count)]
        writer.send_signal(signal.SIGKILL)
        told.append(int([*lines, *writer.stdout.read().splitlines()][-1]))
        writer.wait()
        writer.stdout.close()
    append_jsonl(path, choice(ASKED, "reject"))
    found, damaged = read_survivors(path, PairChoice)
    names = [line.prompt_id for line in found]
    assert (damaged, len(names)) == ([], len(set(names)))
    for writer_number, last in enumerate(told):
        assert {f"{writer_number}-{n}" for n in range(last + 1)} <= set(names)


# Staleness --------------------------------------------------------------------------------------------------------


def test_the_pairs_are_stale_when_a_word_comes_changes_or_goes(workspace: Workspace) -> None:
    step = step_named("dpo-data")

    def reason() -> str:
        place = Workspace(workspace.root)
        return state_of(step, place, resolve_all(place, assignments=settings(server))[step.name]).reason

    with ScriptedServer() as server:
        make_pairs(workspace, server)
        assert reason().startswith("made ")
        asked = next(read_jsonl(workspace.place("prompts"), Prompt))
        append_jsonl(workspace.place("choices"), choice(asked, "reject"))
        assert reason() == "choices came"
        assert make_pairs(workspace, server).owner.rejected == 1
        assert reason().startswith("made ")
        append_jsonl(workspace.place("choices"), choice(asked, "undo"))
        assert reason() == "choices changed"
        assert make_pairs(workspace, server).owner.rejected == 0
        workspace.place("choices").unlink()
        assert reason() == "choices is gone"
