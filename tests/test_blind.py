"""The blind test: nothing of the judge is told before a vote, no vote is lost, and the agreement is counted right."""

import asyncio
import dataclasses
import random
import re
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Lpm
from evaluated import evaluated
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from scripted_server import ScriptedServer
from terminal import lpm_on_a_terminal
from words import BETTER, WORSE, evidence, judged_workspace, make_pairs, prompt, told_json, twelve

from lpm_kernel.commands.word import show_question
from lpm_kernel.errors import DataError, MissingInputError, UsageError
from lpm_kernel.files import append_jsonl, file_sha256, read_jsonl, write_json
from lpm_kernel.journal import open_journal
from lpm_kernel.judges.choices import CONFIDENCE
from lpm_kernel.L2.dpo.utils import read_pairs
from lpm_kernel.proof.agreement import AgreementConfig, agreement, told
from lpm_kernel.proof.blind import (
    blind_questions,
    preference,
    preference_of,
    told_preference,
)
from lpm_kernel.proof.evaluation import Model, Models, OwnersPreference
from lpm_kernel.records import Answer, ModelVote, Outcome, Prompt, Vote
from lpm_kernel.runner.word import OwnersWord
from lpm_kernel.serving import sampling
from lpm_kernel.serving.sampling import SamplingConfig
from lpm_kernel.workspace.manifest import Manifest, manifest_path
from lpm_kernel.workspace.places import Workspace

Table = list[tuple[Outcome, Outcome]]


def owner_of(workspace: Workspace, **settings: Any) -> OwnersWord:
    return OwnersWord(workspace, AgreementConfig.model_validate(settings))


def times(count: int, owner: Outcome, judge: Outcome) -> Table:
    return [(owner, judge)] * count


# Agreement --------------------------------------------------------------------------------------------------------


def test_kappa_equals_a_table_worked_out_by_hand() -> None:
    """Cohen 1960: 20 both first, 15 both second, 5 + 10 apart: 0.7 agree, 0.5 by chance, kappa 0.4."""
    table = times(20, "first", "first") + times(5, "first", "second")
    table += times(10, "second", "first") + times(15, "second", "second")
    found = agreement(table, AgreementConfig())
    assert (found.votes, found.agreed, found.agreement, found.chance) == (50, 35, 0.7, 0.5)
    assert found.kappa == pytest.approx(0.4)
    assert found.believed is True
    with_ties = agreement(table + times(10, "tie", "first"), AgreementConfig())
    assert with_ties.chance == pytest.approx((25 * 40 + 25 * 20 + 10 * 0) / 60**2)
    assert with_ties.kappa == pytest.approx((35 / 60 - 1500 / 3600) / (1 - 1500 / 3600))


def test_the_bounds_of_kappa_are_those_of_the_agreement() -> None:
    found = agreement(times(5, "first", "first") + times(5, "second", "second"), AgreementConfig())
    assert found.kappa_ci95 == pytest.approx((0.383, 1.0), abs=1e-3)


@given(st.lists(st.tuples(*[st.sampled_from(["first", "second", "tie"])] * 2), min_size=1, max_size=50))
def test_kappa_lies_in_its_bounds_and_is_undefined_only_when_all_said_the_same(table: Table) -> None:
    found = agreement(table, AgreementConfig())
    same = len({label for pair in table for label in pair}) == 1
    assert (found.kappa is None) == same
    assert ("undefined" in told(found, AgreementConfig())) == same
    if found.kappa is not None and found.kappa_ci95 is not None:
        assert -1 <= found.kappa_ci95[0] <= found.kappa <= found.kappa_ci95[1] <= 1


@pytest.mark.parametrize(
    ("agree", "differ", "believed", "words"),
    [(9, 0, None, "10 are needed"), (12, 2, True, "mostly prefers"), (5, 9, False, "not what you prefer")],
)
def test_what_agreement_means_depends_on_how_many_votes_there_are(
    agree: int, differ: int, believed: bool | None, words: str
) -> None:
    table = times(agree // 2, "first", "first") + times(agree - agree // 2, "second", "second")
    table += times(differ // 2, "first", "second") + times(differ - differ // 2, "second", "first")
    found = agreement(table, AgreementConfig())
    assert found.believed is believed
    assert words in told(found, AgreementConfig())


# Questions --------------------------------------------------------------------------------------------------------


def test_the_judges_favourite_stands_first_as_often_as_second() -> None:
    asked = [prompt(number) for number in range(1000)]
    found = blind_questions({p.id: p for p in asked}, [evidence(p) for p in asked], seed=42)
    first = sum(question.first.startswith(BETTER) for question in found)
    assert len(found) == 1000
    assert 450 < first < 550  # more than 3 standard deviations each way
    assert all((question.judge == "first") == question.first.startswith(BETTER) for question in found)


def test_the_same_seed_asks_the_same_and_another_turns_other_answers() -> None:
    asked = [prompt(number) for number in range(100)]
    prompts, said = {p.id: p for p in asked}, [evidence(p) for p in asked]
    firsts = [{q.prompt.id: q.first for q in blind_questions(prompts, said, seed)} for seed in (1, 1, 2)]
    assert firsts[0] == firsts[1]
    assert 30 < sum(firsts[0][p.id] != firsts[2][p.id] for p in asked) < 70


def test_the_least_certain_pairs_come_first_and_every_third_is_one_that_the_judge_left_open() -> None:
    pairs = [(p, evidence(p, confidence=0.6 + p.row / 100)) for p in map(prompt, range(6))]
    flips = [(p, evidence(p, ("first", "second"))) for p in map(prompt, range(6, 8))]
    ties = [(p, evidence(p, ("tie", "tie"))) for p in map(prompt, range(8, 10))]
    failed = [(p, evidence(p, ("failed", "failed"))) for p in map(prompt, range(10, 12))]
    everything = [*failed, *ties, *flips, *reversed(pairs)]
    found = blind_questions({p.id: p for p, _ in everything}, [e for _, e in everything], seed=1)
    assert [q.prompt.row for q in found if q.trains] == [0, 1, 2, 3, 4, 5]
    assert [q.trains for q in found] == [True, True, False] * 3 + [False]
    assert {q.prompt.row for q in found if not q.trains} == {6, 7, 8, 9}
    assert {q.prompt.row for q in found[:6] if not q.trains} == {6, 7}


# At the terminal --------------------------------------------------------------------------------------------------


def votes_of(workspace: Workspace) -> list[Vote]:
    path = workspace.place("votes")
    return list(read_jsonl(path, Vote)) if path.exists() else []


def test_a_round_is_voted_with_single_keys_and_ends_with_the_agreement(tmp_path: Path) -> None:
    workspace = twelve(tmp_path)
    with lpm_on_a_terminal("blind", "--workspace", workspace.root) as screen:
        assert "q(uit)" in screen.wait_for("u(ndo)")
        for number in range(1, 13):
            text = screen.wait_for(f"{number} of 12")
            text = screen.wait_for("q(uit)", after=screen.shown.index(f"{number} of 12"))
            screen.press("1" if text.index(BETTER) < text.index(WORSE) else "2")
        assert screen.end() == 0
    assert "agree on 12 of 12 of its pairs (100%, exact 95 % bounds 74% to 100%)" in screen.shown.replace("\n", " ")
    assert "Cohen's kappa 1.00" in screen.shown.replace("\n", " ")
    assert [v.first if v.vote == "first" else v.second for v in votes_of(workspace)] == [
        f"{BETTER} {int(v.prompt_id[:4])}" for v in votes_of(workspace)
    ]


def test_the_screen_shows_neither_model_nor_verdict_before_the_votes(tmp_path: Path) -> None:
    workspace = twelve(tmp_path)
    with lpm_on_a_terminal("blind", "--workspace", workspace.root) as screen:
        for number in range(1, 12):
            screen.wait_for("q(uit)", after=screen.wait_for(f"{number} of 12").index(f"{number} of 12"))
            screen.press("1")
        screen.wait_for("12 of 12")
        screen.press("q")
        assert screen.end() == 0
    assert "SECRET" not in screen.shown
    for hint in ("agree", "kappa", "chosen", "rejected", "prefer"):
        assert hint not in screen.shown.lower()


def test_what_is_shown_is_the_same_whatever_the_judge_said(capsys: pytest.CaptureFixture[str]) -> None:
    asked = prompt(1)
    (question,) = blind_questions({asked.id: asked}, [evidence(asked)], seed=1)
    told_all = set()
    rulings: list[tuple[Outcome, float, bool]] = [("first", 0.1, True), ("second", 0.9, True), ("tie", 0.5, False)]
    for judge, doubt, trains in rulings:
        show_question(dataclasses.replace(question, judge=judge, doubt=doubt, trains=trains), 1, 2)
        told_all.add(capsys.readouterr().out)
    assert len(told_all) == 1
    assert question.first in told_all.pop()


def test_stopped_it_goes_on_where_it_was_and_a_vote_can_be_taken_back(tmp_path: Path) -> None:
    workspace = twelve(tmp_path)
    with lpm_on_a_terminal("blind", "--workspace", workspace.root) as screen:
        screen.wait_for("1 of 12")
        screen.press("x1")
        screen.wait_for("2 of 12")
        screen.press("s")
        screen.wait_for("3 of 12")
        screen.press("T")
        screen.wait_for("4 of 12")
        screen.press("u")
        screen.wait_for("the last vote is taken back")
        screen.press("\uff12\x04")
        assert screen.end() == 0
    assert "stopped: 3 done, 9 left" in screen.shown
    assert [v.vote for v in votes_of(workspace)] == ["first", "skip", "tie", "undo", "second"]
    with lpm_on_a_terminal("blind", "--workspace", workspace.root) as screen:
        screen.wait_for("4 of 12")
        screen.press("q")
        assert screen.end() == 0
    assert "1 of 12" not in screen.shown
    owner = owner_of(workspace)
    assert {q.prompt.id for q in owner.round(20, 42).left}.isdisjoint(v.prompt_id for v in votes_of(workspace))


def test_kill_9_at_any_moment_loses_at_most_the_vote_under_way(tmp_path: Path) -> None:
    workspace, draw = twelve(tmp_path), random.Random(9)
    kept = 0
    while kept < 5:
        with lpm_on_a_terminal("blind", "--workspace", workspace.root) as screen:
            screen.wait_for(f"{len(votes_of(workspace)) + 1} of 12")
            told_before = kept
            for _ in range(draw.randint(1, 3)):
                screen.press("1")
                if draw.random() < 0.5:
                    screen.wait_for(f"{len(votes_of(workspace)) + 1} of 12")
            time.sleep(draw.random() * 0.05)
            screen.process.kill()
            screen.end()
            told_before += screen.shown.count("kept: 1")
        kept = len(votes_of(workspace))
        assert told_before <= kept <= told_before + 1
    assert len({vote.prompt_id for vote in votes_of(workspace)}) == kept


HOSTILE = (
    "\x1b]0;owned\x07\x1b[2J\x9b31m\r\x00 \N{RIGHT-TO-LEFT OVERRIDE}evil [bold]no markup[/] 你好世界"
    + "長" * 50
    + " مرحبا" * 9
)


def test_an_answer_sends_nothing_to_the_terminal_and_nothing_is_wider_than_forty_columns(tmp_path: Path) -> None:
    asked = prompt(1, "东京在哪里" + "你" * 60)
    found = [(asked, evidence(asked, answers=(HOSTILE, "في اليابان\n\x1b[31m2 of 9\n" + "x" * 90)))]
    workspace = judged_workspace(tmp_path, found)
    with lpm_on_a_terminal("blind", "--workspace", workspace.root, columns=40) as screen:
        screen.wait_for("q(uit)")
        screen.press("q")
        assert screen.end() == 0
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u202e]", screen.raw)
    assert "\x1b" not in re.sub(r"\x1b\[[0-9;]*m", "", screen.raw)
    asked_lines = screen.shown[screen.shown.index("1 of 1") :].partition("q(uit)")[0].splitlines()
    assert 38 <= max(map(cell_len, asked_lines)) <= 40
    assert "\n2 of 9" not in screen.shown
    assert "[bold]no markup[/]" in screen.shown.replace("\n   ", "")


# For programs -----------------------------------------------------------------------------------------------------


def test_without_a_terminal_it_says_what_to_do(tmp_path: Path, lpm: Lpm) -> None:
    told_then = lpm("blind", "--workspace", twelve(tmp_path / "w").root)
    assert (told_then.returncode, told_then.stdout) == (64, "")
    assert "lpm blind --json" in told_then.stderr
    assert "--vote ID 1|2|tie" in told_then.stderr


def test_programs_list_and_vote_and_are_told_the_agreement_at_the_end(tmp_path: Path) -> None:
    workspace = twelve(tmp_path)
    listed = told_json(workspace, "blind", "--questions", "5")
    assert (listed["done"], listed["left"], "agreement" in listed) == (0, 5, False)
    assert "SECRET" not in str(listed)
    for question, said in zip(listed["questions"], ("1", "2", "tie", "skip", "1"), strict=True):
        last = told_json(workspace, "blind", "--questions", "5", "--vote", question["id"], said)
        assert last["voted"] == question["id"]
    assert (last["done"], last["left"], last["agreement"]["votes"]) == (5, 0, 4)
    shown = {question["id"]: question["first"] for question in listed["questions"]}
    assert {vote.prompt_id: vote.first for vote in votes_of(workspace)} == shown
    for id_and_vote in (("nobody", "1"), (question["id"], "3")):
        with pytest.raises(UsageError, match="expected one"):
            told_json(workspace, "blind", "--vote", *id_and_vote)
    assert len(votes_of(workspace)) == 5


def test_without_answers_to_compare_it_says_what_makes_them(tmp_path: Path, lpm: Lpm) -> None:
    empty = lpm("blind", "--json", "--workspace", tmp_path / "nothing")
    assert (empty.returncode, "lpm run dpo-data" in empty.stderr) == (66, True)
    asked = prompt(1)
    alike = judged_workspace(tmp_path / "w", [(asked, evidence(asked, ("failed", "failed")))])
    wrong = lpm("blind", "--json", "--workspace", alike.root)
    assert (wrong.returncode, "nothing to compare" in wrong.stderr) == (65, True)


def test_votes_of_another_owner_are_refused_and_kept(tmp_path: Path, lpm: Lpm) -> None:
    workspace = twelve(tmp_path / "w")
    stranger = Vote(prompt_id="f" * 16, question="Whose dog?", first="a", second="b", vote="first", at="now")
    append_jsonl(workspace.place("votes"), stranger)
    before = workspace.place("votes").read_bytes()
    for command in (("blind", "--json"), ("pairs", "list")):
        wrong = lpm(*command, "--workspace", workspace.root)
        assert wrong.returncode == 65
        assert "Whose dog?" in wrong.stderr
    assert workspace.place("votes").read_bytes() == before


# What follows for the pairs ---------------------------------------------------------------------------------------


def vote_on_all(workspace: Workspace, with_the_judge: bool) -> int:
    owner = owner_of(workspace)
    asked = owner.round(50, 42).left
    for question in asked:
        preferred = question.judge if with_the_judge else {"first": "second", "second": "first"}[question.judge]
        owner.vote(question, preferred)
    return len(asked)


def test_a_judge_that_the_votes_contradict_does_not_train_unless_told(workspace: Workspace) -> None:
    with ScriptedServer() as server:
        pairs = make_pairs(workspace, server).pairs
        voted = vote_on_all(workspace, with_the_judge=False)
        owner = owner_of(workspace)
        last = next(read_jsonl(workspace.place("prompts"), Prompt))
        owner.take_back(last)
        account = make_pairs(workspace, server)
        told_all = make_pairs(workspace, server, "accept_judge_pairs=true")
    assert pairs == voted > 10
    assert account.dropped == {"judge_disagrees_with_owner": 1}
    assert account.pairs == account.owner.gold == pairs - 1
    assert account.owner.agreement is not None
    assert account.owner.agreement.believed is False
    assert (told_all.pairs, told_all.owner.gold) == (pairs, pairs - 1)
    confidences = [pair.confidence for pair in read_pairs(workspace.place("dpo_direct.json"))]
    assert (confidences.count(CONFIDENCE), min(confidences) < CONFIDENCE) == (pairs - 1, True)


def test_ties_alone_leave_no_pair_and_the_message_has_the_figures_and_the_next_moves(workspace: Workspace) -> None:
    with ScriptedServer() as server:
        make_pairs(workspace, server)
        owner = owner_of(workspace)
        for question in owner.round(50, 42).left:
            owner.vote(question, "tie")
        with pytest.raises(
            DataError, match=r"no pair is left.*agree on 0 of 1.*kappa 0\.00.*--judge-model.*--accept-judge-pairs"
        ):
            make_pairs(workspace, server)


# Two models -------------------------------------------------------------------------------------------------------

OLD, NEW = "0" * 64, "1" * 64


def evaluated_workspace(root: Path) -> Workspace:
    """Twelve held-out questions that two models answered, and their evaluation, as `evaluate` leaves them."""
    workspace = twelve(root)
    asked = [prompt(number) for number in range(12)]
    workspace.place("prompts").rename(workspace.place("held_out"))
    models = Models(
        before=Model(name="a", file="SECRET-A", sha256=OLD), after=Model(name="b", file="SECRET-B", sha256=NEW)
    )
    path = workspace.place("evaluation.json")
    path.parent.mkdir(parents=True)
    write_json(path, evaluated(models=models))
    config = SamplingConfig(temperature=0.3)
    about: dict[str, Any] = {
        "flags": (),
        "inputs": {},
        "seconds": 1.0,
        "made_at": "2026-11-21T20:00:00Z",
        "versions": {},
    }
    manifest = Manifest(step="evaluate", making="m", config=config.recorded(), files={"": file_sha256(path)}, **about)
    manifest_path(path).write_text(manifest.sealed().model_dump_json())

    async def fill() -> None:
        with open_journal(workspace.work_path("evaluate") / "journal.sqlite") as journal:
            for question in asked:
                for model, text in ((OLD, WORSE), (NEW, BETTER)):
                    (key,) = sampling._keys(question, config, 1, model)
                    await journal.put(key, Answer(text=f"{text} {question.row}", finish_reason="stop").model_dump())

    asyncio.run(fill())
    return workspace


def test_two_models_are_compared_unseen_and_the_votes_say_which_is_preferred(tmp_path: Path) -> None:
    workspace = evaluated_workspace(tmp_path)
    with lpm_on_a_terminal("blind", "--models", "--workspace", workspace.root) as screen:
        for number in range(1, 13):
            screen.wait_for(f"{number} of 12")
            text = screen.wait_for("q(uit)", after=screen.shown.index(f"{number} of 12"))
            screen.press("1" if text.index(BETTER) < text.index(WORSE) else "2")
            assert "SECRET" not in screen.shown
        assert screen.end() == 0
    assert "you preferred the new model 12 times, the old one 0 times" in " ".join(screen.shown.split())
    found = preference(workspace.place("model_votes"), OLD, NEW)
    assert found == OwnersPreference(after=12, before=0, ties=0, chance=1 / 2**12)
    assert preference(workspace.place("model_votes"), OLD, "2" * 64) is None
    firsts = [vote.models[0] for vote in read_jsonl(workspace.place("model_votes"), ModelVote)]
    assert 2 < firsts.count(NEW) < 10
    assert not workspace.place("votes").exists()


def test_votes_on_models_are_listed_cast_and_taken_back_by_programs(tmp_path: Path) -> None:
    workspace = evaluated_workspace(tmp_path)
    listed = told_json(workspace, "blind", "--models", "--questions", "5")
    assert (listed["left"], "SECRET" in str(listed), OLD in str(listed), "preference" in listed) == (
        5,
        False,
        False,
        False,
    )
    ids = [question["id"] for question in listed["questions"]]
    assert told_json(workspace, "blind", "--models", "--vote", ids[0], "tie")["done"] == 1
    assert told_json(workspace, "blind", "--models", "--result")["preference"]["ties"] == 1
    assert told_json(workspace, "blind", "--models", "--vote", ids[0], "undo")["done"] == 0
    with pytest.raises(MissingInputError, match="lpm pipeline"):
        told_json(twelve(tmp_path / "other"), "blind", "--models")


def test_a_model_that_the_owner_likes_less_is_told_apart_from_chance_only() -> None:
    shown = {"prompt_id": "p", "question": "q", "first": "a", "second": "b", "at": "now", "models": (OLD, NEW)}
    votes = [ModelVote.model_validate(shown | {"prompt_id": str(n), "vote": "first"}) for n in range(5)]
    found = preference_of(votes, OLD, NEW)
    assert found is not None
    assert (found.before, found.chance, found.is_sure) == (5, 1 / 32, False)
    sixth = ModelVote.model_validate(shown | {"vote": "first"})
    surely = preference_of([*votes, sixth], OLD, NEW)
    assert surely is not None
    assert (surely.chance, surely.is_sure) == (1 / 64, True)
    assert "prefer the old one" in told_preference(surely)
