"""From prompts to pairs against a real scripted server: the account is exact and nothing is paid for twice."""

import json
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
from conftest import Lpm, owner_items
from scripted_server import (
    PRAISE,
    Call,
    Reply,
    ScriptedServer,
    better,
    judge_cut,
    judge_fenced,
    judge_honest,
    model,
    refuse,
    verdict,
)
from tiny_gguf import write_tiny_gguf

from lpm_kernel.errors import DataError, PermissionDeniedError, ServiceError
from lpm_kernel.files import file_sha256, read_jsonl, read_record, write_jsonl
from lpm_kernel.judges import pairwise
from lpm_kernel.judges.confidence import ACCEPTED
from lpm_kernel.judges.rubric import instruction
from lpm_kernel.judges.tally import Tally
from lpm_kernel.L2 import prepare_data
from lpm_kernel.L2.dpo.dpo_data import StageConfig, _refuse_if_worthless, run
from lpm_kernel.L2.dpo.utils import read_pairs
from lpm_kernel.owner.items import read_items
from lpm_kernel.records import Evidence, PairsAccount
from lpm_kernel.serving import client
from lpm_kernel.serving.probe import any_free_port
from lpm_kernel.workspace.places import Workspace

IN_FLIGHT = 5
"""Prompts that are sampled at the same time: 12 slots for 3 answers each, and one in the queue."""
Made = dict[str, Path]
Synthesise = Callable[..., Made]


@pytest.fixture
def synthesise(tmp_path: Path, merged_path: Path, bio_path: Path) -> Synthesise:
    """Run the stage on 20 prompts; model and judge by their behaviours' names."""
    prompts, _ = read_items(merged_path, prepare_data.StageConfig())
    write_jsonl(tmp_path / "prompts", prompts)

    def call(server: ScriptedServer, model: str = "model", judge: str = "judge-honest", **more: Any) -> Made:
        settings: dict[str, Any] = {
            "judge": "reference" if judge == "embedded" else "openai",
            "judge_base_url": "" if judge == "embedded" else server.url(judge),
            "endpoint": server.url(model) if model else server.base_url,
            "answer_timeout_s": 5,
            "judge_api_key": "secret-key",
        }
        settings = {"accept_judge": True, "ask_stranger": False} | settings | more
        made = {f"{n}_path": tmp_path / n for n in ("full", "direct", "verdicts", "account")}
        run(
            StageConfig.model_validate(settings),
            prompts_path=tmp_path / "prompts",
            items_path=tmp_path / "prompts",
            bio_path=bio_path,
            examination_path=None,
            gguf_path=None,
            work_path=tmp_path,
            **made,
        )
        return made

    return call


def test_prompts_equal_pairs_plus_dropped(synthesise: Synthesise) -> None:
    with ScriptedServer() as server:
        made = synthesise(server)
    account = json.loads(made["account_path"].read_text())
    evidence = list(read_jsonl(made["verdicts_path"], Evidence))
    assert account["prompts"] == len(owner_items()) == len(evidence)
    assert account["prompts"] == account["pairs"] + sum(account["dropped"].values())
    assert account["pairs"] == len(read_pairs(made["direct_path"])) > 10
    assert (account["served"]["model"], account["served"]["ours"]) == ("scripted", False)


def test_the_files_have_the_documented_fields(synthesise: Synthesise) -> None:
    with ScriptedServer() as server:
        made = synthesise(server)
    full, direct = (json.loads(made[name].read_text()) for name in ("full_path", "direct_path"))
    assert list(full[0]) == [
        "user", "label", "traces", "eval_prompt", "infer_prompt", "chosen_response", "rejected_response",
        "detailed_analysis",
    ]  # fmt: skip
    assert list(direct[0]) == ["prompt", "chosen", "rejected", "confidence"]
    assert list(direct[0]["prompt"]) == ["system", "user"]
    assert len(full[0]["traces"]) == 3
    assert "Wins=" in full[0]["detailed_analysis"]
    assert (full[0]["infer_prompt"], full[0]["chosen_response"]) == (direct[0]["prompt"]["system"], direct[0]["chosen"])


def test_the_instruction_in_the_file_is_that_of_the_judge_who_judged(synthesise: Synthesise) -> None:
    with ScriptedServer() as server:
        for judge, said in (("judge-honest", instruction("en", "memory")), ("embedded", "Embedded, no language model")):
            full = json.loads(synthesise(server, judge=judge)["full_path"].read_text())
            assert len(full) > 10
            assert all(row["eval_prompt"].startswith(said) for row in full)


def test_the_judge_sees_question_answers_reference_and_bio_in_both_orders(synthesise: Synthesise) -> None:
    with ScriptedServer() as server:
        synthesise(server)
    asked = [c.user for c in server.calls if c.behaviour == "judge-honest" and "Where does she live? (0)" in c.user]
    assert len(asked) == 6
    assert all("She lives in Trieste." in text and "a dog called Quark" in text for text in asked)


def test_a_pair_weighs_what_was_seen_of_its_judge_and_the_record_says_why(synthesise: Synthesise) -> None:
    with ScriptedServer() as server:
        made = synthesise(server)
    evidence = [e for e in read_jsonl(made["verdicts_path"], Evidence) if e.chosen is not None]
    assert [pair.confidence for pair in read_pairs(made["direct_path"])] == [e.confidence for e in evidence]
    assert {e.weighed["accuracy"] for e in evidence} == {ACCEPTED}
    assert all({"votes", "agreement"} <= e.weighed.keys() for e in evidence)


def test_pairs_below_the_floor_are_dropped_and_counted(synthesise: Synthesise, tmp_path: Path) -> None:
    with ScriptedServer() as server:
        pairs = read_record(synthesise(server)["account_path"], PairsAccount).pairs
        with pytest.raises(DataError, match=r"not sure enough.*lower --min-confidence \(now 0\.99\)"):
            synthesise(server, min_confidence=0.99)
    account = read_record(tmp_path / "account", PairsAccount)
    assert (account.pairs, account.dropped["too_uncertain"]) == (0, pairs)
    assert account.prompts == sum(account.dropped.values())


def test_what_a_stranger_would_decide_as_well_weighs_less_and_only_the_pair_is_asked(synthesise: Synthesise) -> None:
    with ScriptedServer() as server:
        usual = list(read_jsonl(synthesise(server)["verdicts_path"], Evidence))
        before = len(paid(server))
        found = list(read_jsonl(synthesise(server, ask_stranger=True)["verdicts_path"], Evidence))
        asked = len(paid(server)) - before
    pairs = [(own, other) for own, other in zip(usual, found, strict=True) if own.confidence]
    assert asked == 2 * len(pairs)
    for own, other in pairs:
        assert own.confidence is not None
        assert other.weighed["personal"] == 0.5
        assert other.confidence is None or other.confidence < own.confidence


def test_a_judge_that_fails_its_examination_makes_no_pairs(synthesise: Synthesise, tmp_path: Path) -> None:
    with ScriptedServer() as server, pytest.raises(DataError, match=r"failed its examination.*first place in 100%"):
        synthesise(server, judge="judge-first", accept_judge=False)
    assert not (tmp_path / "direct").exists()


def paid(server: ScriptedServer) -> list[str]:
    """The calls but for the greeting by which a server proves that it chats."""
    return [c.key for c in server.calls if "Say hello" not in c.user]


def test_a_second_run_asks_nobody_and_writes_the_same_bytes(synthesise: Synthesise) -> None:
    with ScriptedServer() as server:
        first = {role: path.read_bytes() for role, path in synthesise(server).items()}
        calls = len(paid(server))
        second = {role: path.read_bytes() for role, path in synthesise(server).items()}
    assert first == second
    assert len(paid(server)) == len(set(paid(server))) == calls


def test_where_every_answer_is_there_no_server_of_our_own_is_started(
    tmp_path: Path, merged_path: Path, bio_path: Path
) -> None:
    write_jsonl(tmp_path / "prompts", read_items(merged_path, prepare_data.StageConfig())[0][:4])
    gguf_path, log_path, account_path = write_tiny_gguf(tmp_path / "lpm.gguf"), tmp_path / "server.log", tmp_path / "a"
    settings = {"judge": "reference", "accept_judge": True, "max_tokens": 4, "slots": 3, "port": any_free_port()}

    def made(**more: Any) -> PairsAccount:
        files = {f"{name}_path": tmp_path / "prompts" for name in ("prompts", "items")} | {"account_path": account_path}
        files |= {f"{name}_path": tmp_path / name for name in ("full", "direct", "verdicts")}
        config = StageConfig.model_validate(settings | more)
        with pytest.raises(DataError, match="Raise --max-tokens"):
            run(config, bio_path=bio_path, examination_path=None, gguf_path=gguf_path, work_path=tmp_path, **files)
        return read_record(account_path, PairsAccount)

    first = made()
    log_path.unlink()
    again = made()
    assert not log_path.exists()
    assert again == first.model_copy(update={"served": again.served})
    assert (again.served.identity, again.served.weights, again.served.engine) == (first.served.identity, "same", "")
    made(answers=4)
    assert log_path.exists()


def test_other_weights_behind_the_same_name_are_asked_anew(synthesise: Synthesise, tmp_path: Path) -> None:
    weights = tmp_path / "served.gguf"
    weights.write_bytes(b"one")
    with ScriptedServer(model_path=str(weights)) as server:
        synthesise(server, model="")
        before = len(paid(server))
        weights.write_bytes(b"two")
        synthesise(server, model="")
    assert len(paid(server)) > before


@pytest.mark.parametrize(
    ("model", "judge", "reason"),
    [
        ("model-same", "judge-honest", "identical_answers"),
        ("model-cut", "judge-honest", "cut_or_empty_answers"),
        ("model-empty", "judge-honest", "cut_or_empty_answers"),
        ("model", "judge-tie", "tie"),
        ("model", "judge-first", "orders_disagree"),
    ],
)
def test_without_evidence_no_pair_and_no_file(model: str, judge: str, reason: str, synthesise: Synthesise) -> None:
    with ScriptedServer() as server, pytest.raises(DataError, match=f"no prompt gave a pair.*{reason}"):
        synthesise(server, model, judge)


def judge_of_one_prompt(call: Call) -> Reply:
    """Chooses the first place, but for one question that it judges honestly."""
    honest = "Where does she live? (0)" in call.user
    return judge_honest(call) if honest else Reply((verdict(call, "first"),))


VICES = {
    "judge-tie": r"said tie in 60 of 60 comparisons.*--judge-model.*--judge reference.*--temperature",
    "judge-first": r"chose the first place in 100% of 120 verdicts.*agreed in 0% of 60 comparisons.*--judge reference",
    "judge-second": r"chose the second place in 100% of 120 verdicts",
    "model-same": r"the same each time. Raise --temperature \(now 0\.7\)",
    "model-cut": r"cut or empty. Raise --max-tokens \(now 512\)",
}


@pytest.mark.parametrize("behaviour", VICES)
def test_no_pair_ends_with_the_vice_its_figures_and_the_cure_and_with_an_account(
    behaviour: str, synthesise: Synthesise, tmp_path: Path
) -> None:
    role = behaviour.partition("-")[0]
    with ScriptedServer() as server, pytest.raises(DataError, match=VICES[behaviour]):
        synthesise(server, **{role: behaviour})
    account = PairsAccount.model_validate_json((tmp_path / "account").read_bytes())
    assert (account.prompts, account.pairs, sum(account.dropped.values())) == (20, 0, 20)
    assert account.manner.comparisons == (60 if role == "judge" else 0)
    assert not (tmp_path / "direct").exists()


def idle(call: Call) -> Reply:
    """Answers that tell nothing of anybody."""
    words = ["perhaps", "indeed", "surely", "maybe", "often", "seldom"]
    seed = int(call.body.get("seed") or 0)
    return Reply(tuple(" ".join(random.Random(seed + n).sample(words, 6)) for n in range(call.n)))


def test_an_embedded_judge_of_ties_is_cured_by_its_own_settings(synthesise: Synthesise) -> None:
    with ScriptedServer() as server:
        server.behaviours["no-seed"] = idle
        with pytest.raises(DataError, match=r"said tie in \d+ of \d+.*--judge openai.*--tie-margin"):
            synthesise(server, model="no-seed", judge="embedded")


def test_a_few_ties_do_not_hide_that_the_model_says_the_same_each_time() -> None:
    found = Tally(prompts=35, dropped=Counter(identical_answers=34, tie=1))
    found.signs.update(comparisons=1, tied=1)
    with pytest.raises(DataError, match=r"says the same each time. Raise --temperature \(now 0\.7\)"):
        _refuse_if_worthless(found, StageConfig())


def test_a_judge_of_the_place_that_gave_a_pair_all_the_same_is_told(
    synthesise: Synthesise, caplog: pytest.LogCaptureFixture
) -> None:
    with ScriptedServer() as server:
        server.behaviours["no-seed"] = judge_of_one_prompt
        account = read_record(synthesise(server, judge="no-seed")["account_path"], PairsAccount)
        assert "warning: the judge chose the first place in" in caplog.text
        caplog.clear()
        honest = read_record(synthesise(server)["account_path"], PairsAccount)
    assert (account.pairs, honest.manner.agreed > 40, "warning" in caplog.text) == (1, True, False)


def test_an_account_without_pairs_is_published_unless_pairs_stand_there(workspace: Workspace, lpm: Lpm) -> None:
    def make(judge: str) -> tuple[int, PairsAccount]:
        urls = ("--endpoint", server.url("model"), "--judge-base-url", server.url(judge))
        order = ("run", "dpo-data", "--accept-judge", "--workspace", workspace.root)
        told = lpm(*order, *urls, env={"OPENAI_API_KEY": "k"})
        return told.returncode, read_record(workspace.place("pairs_account"), PairsAccount)

    with ScriptedServer() as server:
        code, account = make("judge-tie")
        assert (code, account.pairs, workspace.find("dpo_direct.json")) == (65, 0, None)
        assert account.manner.tied == account.manner.comparisons > 0
        code, account = make("judge-honest")
        assert (code, account.pairs) == (0, len(read_pairs(workspace.place("dpo_direct.json"))))
        assert make("judge-first") == (65, account)
    assert not list(workspace.root.rglob("*.kept-*"))


UNREADABLE = ("prose", "refusal", "empty", "wrong-words", "cut", "third", "finnish", "scores")


@pytest.mark.parametrize("judge", [f"judge-{name}" for name in UNREADABLE])
def test_an_unreadable_judge_stops_the_run_without_pairs(judge: str, synthesise: Synthesise, tmp_path: Path) -> None:
    with (
        ScriptedServer() as server,
        pytest.raises(ServiceError, match=r"no reply of the judge to 6 questions.*--judge reference"),
    ):
        synthesise(server, judge=judge)
    assert not (tmp_path / "direct").exists()


def no_schema(call: Call) -> Reply:
    """A judge that knows no structured output, and answers in a fence."""
    return refuse(400, "response_format is not supported") if "response_format" in call.body else judge_fenced(call)


@pytest.mark.parametrize("judge", ["judge-fenced", "no-schema"])
def test_judges_without_structured_output_serve(judge: str, synthesise: Synthesise) -> None:
    with ScriptedServer() as server:
        server.behaviours["no-schema"] = no_schema
        assert len(read_pairs(synthesise(server, judge=judge)["direct_path"])) > 10


def too_long(call: Call) -> Reply:
    """A model that refuses the prompts about the dog, as one does whose context they do not fit."""
    return refuse(400, "the request exceeds the available context size") if "dog" in call.user else model(call)


def test_a_prompt_that_the_server_refuses_is_dropped_and_the_run_goes_on(synthesise: Synthesise) -> None:
    with ScriptedServer(too_long) as server:
        account = json.loads(synthesise(server, model="")["account_path"].read_text())
    assert account["dropped"]["refused_by_server"] == 4
    assert account["pairs"] > 10


def test_a_flaky_judge_costs_time_but_no_pair(synthesise: Synthesise) -> None:
    with ScriptedServer() as server:
        honest = synthesise(server)["direct_path"].read_text()
    with ScriptedServer() as server:
        assert synthesise(server, judge="judge-flaky")["direct_path"].read_text() == honest


@pytest.mark.parametrize(
    ("judge", "error"), [("401", PermissionDeniedError), ("500", ServiceError), ("429-day", ServiceError)]
)
def test_a_judge_that_is_down_stops_the_run_and_the_answers_stay(
    judge: str, error: type[Exception], synthesise: Synthesise
) -> None:
    with ScriptedServer() as server:
        with pytest.raises(error) as caught:
            synthesise(server, judge=judge)
        before = len(paid(server))
        synthesise(server)
    asked_again = [c.key for c in server.calls if c.behaviour == "model" and "Say hello" not in c.user]
    assert before > 0
    assert "secret-key" not in str(caught.value)
    assert len(asked_again) - len(set(asked_again)) <= IN_FLIGHT


def test_a_fourth_answer_is_asked_for_alone_and_the_three_before_it_stay(synthesise: Synthesise) -> None:
    with ScriptedServer() as server:
        three = [e.answers for e in read_jsonl(synthesise(server)["verdicts_path"], Evidence)]
        before = len(server.calls)
        four = [e.answers for e in read_jsonl(synthesise(server, answers=4)["verdicts_path"], Evidence)]
        asked = [c.n for c in server.calls[before:] if c.behaviour == "model" and "Say hello" not in c.user]
        fresh = synthesise(server, answers=4, seed=42)
    assert [answers[:3] for answers in four] == three
    assert asked == [1] * len(four)
    assert [e.answers for e in read_jsonl(fresh["verdicts_path"], Evidence)] == four


def test_answers_of_a_server_whose_weights_nobody_can_see_never_count_as_those_of_a_file(
    synthesise: Synthesise, tmp_path: Path
) -> None:
    weights = tmp_path / "served.gguf"
    weights.write_bytes(b"what lies there now")
    with ScriptedServer(model_path=str(weights)) as server:
        account = json.loads(synthesise(server, model="")["account_path"].read_text())
    assert account["served"]["weights"] == "unknown"
    assert account["served"]["identity"] != file_sha256(weights)


def short(call: Call) -> Reply:
    """A judge whose reply is cut unless it may be long."""
    return judge_cut(call) if call.body["max_tokens"] < 4000 else judge_honest(call)


JUDGE_FAULTS: dict[str, Callable[[Call], Reply]] = {
    "refusal": lambda _: Reply(("I'm sorry, but I can't help with that.",)),
    "surrogate": lambda call: Reply((verdict(call, better(call)).replace(PRAISE, r"\ud83d"),)),
    "422": lambda _: refuse(422, "no"),
}


@pytest.mark.parametrize("fault", JUDGE_FAULTS)
def test_a_judge_that_is_mended_is_asked_again(fault: str, synthesise: Synthesise) -> None:
    with ScriptedServer() as server:
        server.behaviours["no-seed"] = JUDGE_FAULTS[fault]
        with suppress(ServiceError):
            synthesise(server, judge="no-seed")
        server.behaviours["no-seed"] = judge_honest
        account = json.loads(synthesise(server, judge="no-seed")["account_path"].read_text())
    assert account["pairs"] > 0
    assert "failed" not in account["verdicts"]


def test_a_judge_that_may_say_more_is_asked_again(synthesise: Synthesise) -> None:
    with ScriptedServer() as server:
        server.behaviours["no-seed"] = short
        with pytest.raises(ServiceError, match=r"no reply .* was cut .--judge-max-tokens"):
            synthesise(server, judge="no-seed")
        assert len(read_pairs(synthesise(server, judge="no-seed", judge_max_tokens=4096)["direct_path"])) > 10


def test_answers_that_are_no_texts_are_never_remembered(
    synthesise: Synthesise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.01)
    with ScriptedServer() as server:
        server.behaviours["no-seed"] = lambda call: Reply((cast(str, 5),) * call.n)
        with pytest.raises(ServiceError, match="no chat completion"):
            synthesise(server, model="no-seed")
        server.behaviours["no-seed"] = lambda call: Reply(tuple(f"{text} \ud83d" for text in model(call).texts))
        assert len(read_pairs(synthesise(server, model="no-seed")["direct_path"])) > 10


def test_a_judge_that_refuses_everything_stops_the_run_soon_and_is_quoted(synthesise: Synthesise) -> None:
    with ScriptedServer() as server:
        server.behaviours["no-seed"] = lambda _: refuse(422, "the moon is full")
        with pytest.raises(ServiceError, match=r"judge refuses.*the moon is full"):
            synthesise(server, judge="no-seed")
        asked = {json.dumps(c.body["messages"]) for c in server.calls if c.behaviour == "no-seed"}
    assert len(asked) < 60


def test_a_judge_that_refuses_some_questions_judges_the_others(synthesise: Synthesise) -> None:
    def picky(call: Call) -> Reply:
        return refuse(422, "too long") if "dog" in call.user.split("bio>")[-1] else judge_honest(call)

    with ScriptedServer() as server:
        server.behaviours["no-seed"] = picky
        for _ in range(2):
            account = json.loads(synthesise(server, judge="no-seed", judge_failed_share=1)["account_path"].read_text())
            assert account["pairs"] > 5
            assert account["verdicts"]["failed"] > 0


@pytest.mark.parametrize("more", [{"judge": "judge-liar"}, {"judge_max_tokens": 999}])
def test_another_endpoint_on_the_host_or_another_length_is_another_judge(
    more: dict[str, Any], synthesise: Synthesise
) -> None:
    with ScriptedServer() as server:
        names = set()
        for settings in ({}, more):
            made = synthesise(server, **settings)
            names |= {v.judge for e in read_jsonl(made["verdicts_path"], Evidence) for v in e.verdicts}
    assert len(names) == 2


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("http://ada:pw@h/v1", "http://h/v1/", True),
        ("http://h:1/v1", "http://h:2/v1", False),
        ("http://h/a/v1", "http://h/b/v1", False),
    ],
)
def test_a_judge_is_its_place_without_a_password(first: str, second: str, same: bool) -> None:
    assert "pw" not in pairwise.place_of(first)
    assert (pairwise.place_of(first) == pairwise.place_of(second)) is same


def test_no_key_is_refused_before_anything_is_asked(synthesise: Synthesise) -> None:
    with ScriptedServer() as server, pytest.raises(PermissionDeniedError, match=r"OPENAI_API_KEY.*--judge reference"):
        synthesise(server, judge_base_url="", judge_api_key="")
    assert not [c for c in server.calls if c.behaviour == "model" and c.n > 1]


def test_rows_that_break_the_pairs_contract_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "dpo_direct.json"
    path.write_text('[{"prompt": {"system": "s", "user": "u"}, "chosen": "a", "rejected": "a"}]')
    with pytest.raises(DataError, match="same chosen and rejected"):
        read_pairs(path)
    path.write_text('[{"prompt": {"system": "s", "user": "u"}, "chosen": "\\ud800", "rejected": "a"}]')
    with pytest.raises(DataError, match="lone surrogate"):
        read_pairs(path)
    path.write_text('[{"prompt": "u", "chosen": "a", "rejected": "b"}]')
    with pytest.raises(DataError, match="row"):
        read_pairs(path)
