"""The chat client against the scripted server: what is answered, what is tried again, what ends, and what it tells."""

import asyncio
import json
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from scripted_server import BEHAVIOURS, Call, Reply, ScriptedServer, first_then, model, refuse

from lpm_kernel.errors import PermissionDeniedError, ServiceError
from lpm_kernel.records import Message
from lpm_kernel.serving import client, others_server
from lpm_kernel.serving.client import ChatClient, Completion, RefusedError
from lpm_kernel.serving.connect import connect
from lpm_kernel.serving.endpoint import Endpoint, ServingConfig
from lpm_kernel.serving.http import LONGEST_REPLY_BYTES

KEY = "sk-canary-4f1b"
QUESTION = (Message(role="system", content="You know Ada."), Message(role="user", content="Where does Ada live?"))
SCHEMA = {"type": "object", "properties": {"verdict": {"enum": ["first", "second"]}}, "required": ["verdict"]}
PASSING = ["500-twice", "429", "reset-twice", "cut-once", "stall-once"]
STAYING = ["500", "reset", "cut", "half", "html", "no-choices", "stall", "drip"]
ENDING = [*STAYING, "401", "403", "404", "429-day", "echo-key"]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.01)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(api_key=KEY) as started:
        yield started


def with_client(base_url: str, talk: Callable[[ChatClient], Any], **more: Any) -> Any:
    """Run one conversation with a client of its own."""
    endpoint = Endpoint(base_url, SecretStr(KEY), "scripted", 4, "scripted", ours=False, key_name="THE_KEY")
    settings = {"timeout_s": 1.0, "max_in_flight": 4, "attempts": 3, **more}

    async def run() -> Any:
        async with ChatClient(endpoint, **settings) as opened:
            return await talk(opened)

    return asyncio.run(run())


def ask(base_url: str, *, timeout_s: float = 1.0, **settings: Any) -> list[Completion]:
    asked = {"temperature": 0.7, "max_tokens": 32, "seed": 7, **settings}
    found: list[Completion] = with_client(base_url, lambda c: c.chat(QUESTION, **asked), timeout_s=timeout_s)
    return found


def test_choice_j_is_what_seed_plus_j_gives(server: ScriptedServer) -> None:
    together = ask(server.base_url, n=3)
    alone = [ask(server.base_url, seed=7 + j)[0] for j in range(3)]
    assert together == alone
    assert len({c.text for c in together}) == 3


@pytest.mark.parametrize("behaviour", ["no-n", "n-ignored"])
def test_an_endpoint_without_n_gives_the_same_answers_and_is_asked_for_n_only_once(
    server: ScriptedServer, behaviour: str
) -> None:
    async def twice(opened: ChatClient) -> list[list[Completion]]:
        return [await opened.chat(QUESTION, n=3, temperature=0.7, max_tokens=32, seed=7) for _ in range(2)]

    first, second = with_client(server.url(behaviour), twice)
    assert first == second == ask(server.base_url, n=3)
    assert [call.n for call in server.calls if call.behaviour == behaviour].count(3) == 1


@pytest.mark.parametrize("behaviour", PASSING)
def test_a_fault_that_passes_changes_nothing(server: ScriptedServer, behaviour: str) -> None:
    assert ask(server.url(behaviour)) == ask(server.base_url)


@pytest.mark.parametrize("behaviour", STAYING)
def test_a_fault_that_stays_ends_after_the_attempts(server: ScriptedServer, behaviour: str) -> None:
    start = time.monotonic()
    with pytest.raises(ServiceError, match="3 attempts"):
        ask(server.url(behaviour), timeout_s=0.3)
    assert len(server.calls) == 3
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("behaviour", ["401", "403"])
def test_a_refused_key_names_the_variable_and_is_not_tried_again(server: ScriptedServer, behaviour: str) -> None:
    with pytest.raises(PermissionDeniedError, match="THE_KEY"):
        ask(server.url(behaviour), n=3, json_schema=SCHEMA)
    assert len(server.calls) == 1


@pytest.mark.parametrize("behaviour", ENDING)
def test_no_error_tells_the_key(server: ScriptedServer, behaviour: str) -> None:
    with pytest.raises((ServiceError, PermissionDeniedError)) as caught:
        ask(server.url(behaviour), timeout_s=0.1)
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_retry_after_is_obeyed(server: ScriptedServer) -> None:
    start = time.monotonic()
    ask(server.url("429"))
    assert time.monotonic() - start >= 1


def test_a_server_that_asks_for_a_day_ends_the_run_at_once(server: ScriptedServer) -> None:
    with pytest.raises(ServiceError, match="86400 s"):
        ask(server.url("429-day"))
    assert len(server.calls) == 1


def test_a_server_that_stays_overrun_is_told_as_that_and_not_as_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.01)
    with ScriptedServer(lambda _: refuse(429, "slow down")) as own, pytest.raises(ServiceError) as caught:
        ask(own.base_url)
    assert "--judge-in-flight" in str(caught.value)
    assert "whether the server is up" not in str(caught.value)


@pytest.mark.parametrize("value", ["Fri, 31 Dec 1999 23:59:59 GMT", "0", "-3"])
def test_a_time_that_is_over_is_no_wait(value: str) -> None:
    assert client.retry_after_s(value) == 0


@pytest.mark.parametrize("value", [None, "soon", "", "Fri, 99 Dec"])
def test_an_unreadable_retry_after_is_none(value: str | None) -> None:
    assert client.retry_after_s(value) is None


def test_an_endpoint_without_schemas_is_asked_without_from_then_on(server: ScriptedServer) -> None:
    async def twice(opened: ChatClient) -> None:
        for _ in range(2):
            await opened.chat(QUESTION, temperature=0, max_tokens=32, json_schema=SCHEMA)

    with_client(server.url("no-schema"), twice)
    assert ["response_format" in call.body for call in server.calls] == [True, False, False]


def test_a_prompt_that_is_refused_for_itself_costs_no_feature() -> None:
    def too_long(call: Call) -> Reply:
        return refuse(400, "exceeds the available context size") if "long" in call.user else model(call)

    async def talk(opened: ChatClient) -> int:
        long = [Message(role="user", content="long")]
        with pytest.raises(RefusedError, match="context size"):
            await opened.chat(long, n=2, temperature=0, max_tokens=8, json_schema=SCHEMA)
        return len(await opened.chat(QUESTION, n=2, temperature=0, max_tokens=8, json_schema=SCHEMA))

    with ScriptedServer(too_long) as own:
        assert with_client(own.base_url, talk) == 2
        assert {"n", "response_format"} <= own.calls[-1].body.keys()
        assert own.calls[-1].n == 2


def test_newer_endpoints_get_the_newer_name_of_max_tokens() -> None:
    def newer(call: Call) -> Reply:
        old = "max_tokens" in call.body
        return refuse(400, "Unsupported parameter: use max_completion_tokens instead") if old else model(call)

    with ScriptedServer(newer) as own:
        ask(own.base_url)
        assert own.calls[-1].body["max_completion_tokens"] == 32


def test_a_missing_finish_reason_is_unknown(server: ScriptedServer) -> None:
    assert ask(server.url("no-finish"))[0].finish_reason == "unknown"
    assert ask(server.url("model-cut"))[0].finish_reason == "length"


def says(content: Any, finish_reason: Any = "stop") -> Any:
    """A server whose every message has this content, whatever its type."""
    return ScriptedServer(lambda call: Reply((content,) * call.n, finish_reason=finish_reason))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "In "}, {"type": "text", "text": "Trieste."}], "In Trieste."),
        ([{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "In Trieste."}], "In Trieste."),
        ([], ""),
        (None, ""),
        ("cut emoji \ud83d", "cut emoji \N{REPLACEMENT CHARACTER}"),
        ("whole emoji \N{GRINNING FACE}", "whole emoji \N{GRINNING FACE}"),
    ],
)
def test_parts_are_joined_and_every_text_can_be_written(content: Any, text: str) -> None:
    with says(content) as own:
        assert ask(own.base_url)[0].text == text


@pytest.mark.parametrize("content", [5, True, {"text": "x"}, [5], [{"type": "text", "text": 5}]])
def test_content_that_is_no_text_is_asked_again_and_then_an_error(content: Any) -> None:
    with says(content) as own:
        with pytest.raises(ServiceError, match=r"3 attempts.*no chat completion"):
            ask(own.base_url)
        assert len(own.calls) == 3


@pytest.mark.parametrize("reason", [3, "", ["stop"], "st\ud83dop"])
def test_a_finish_reason_that_is_no_word_is_unknown(reason: Any) -> None:
    with says("In Trieste.", reason) as own:
        told = ask(own.base_url)[0].finish_reason
    assert told in ("unknown", "st\N{REPLACEMENT CHARACTER}op")


@pytest.mark.parametrize("status", [429, 503])
def test_an_endpoint_that_is_busy_at_the_greeting_is_greeted_again(
    status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(others_server, "GREETING_WAITS_S", (0.01, 0.01))
    for times, works in ((2, True), (9, False)):
        with ScriptedServer(first_then(refuse(status, "busy"), times)) as own:
            config = ServingConfig(endpoint=own.base_url)
            with (
                nullcontext() if works else pytest.raises(ServiceError, match=str(status)),
                connect(None, config, tmp_path / "log") as endpoint,
            ):
                assert endpoint.model == own.model
            assert len(own.calls) == 3


def test_a_reply_of_ten_megabytes_arrives_whole(server: ScriptedServer) -> None:
    assert len(ask(server.url("judge-huge"), timeout_s=20)[0].text) > 10_000_000


def test_no_more_than_the_allowed_requests_are_in_flight() -> None:
    now, most = [], [0]

    def watched(call: Call) -> Reply:
        now.append(call.key)
        most[0] = max(most[0], len(now))
        time.sleep(0.02)
        now.pop()
        return model(call)

    async def crowd(opened: ChatClient) -> None:
        asked = (opened.chat(QUESTION, temperature=1, max_tokens=8, seed=i) for i in range(20))
        await asyncio.gather(*asked)

    with ScriptedServer(watched) as own:
        with_client(own.base_url, crowd, max_in_flight=3, timeout_s=10)
    assert most[0] == 3


def test_a_proxy_is_not_asked_for_loopback(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert ask(server.base_url)


def test_a_password_in_the_url_is_not_shown() -> None:
    with pytest.raises(ServiceError) as caught:
        ask("http://ada:hunter2@127.0.0.1:9/v1")
    assert "hunter2" not in str(caught.value)


def test_every_behaviour_of_the_scripted_server_ends(server: ScriptedServer) -> None:
    answered, refused = set(), set()
    for name in BEHAVIOURS.keys() - {"judge-huge", "stall", "drip"}:
        try:
            ask(server.url(name), timeout_s=0.5)
            answered.add(name)
        except (ServiceError, PermissionDeniedError):
            refused.add(name)
    assert {"model", "judge-honest", "500-twice", "no-n"} <= answered
    assert {"401", "404", "500", "reset", "half", "html"} <= refused


def test_the_scripted_server_tells_each_repeated_call_and_logs_before_it_answers(tmp_path: Path) -> None:
    log_path = tmp_path / "calls.jsonl"
    with ScriptedServer(log_path=log_path) as own:
        for seed in (1, 2, 2):
            ask(own.base_url, seed=seed)
        assert list(own.repeats().values()) == [2]
    keys = [json.loads(line)["key"] for line in log_path.read_text().splitlines()]
    assert len(keys) == 3
    assert keys[1] == keys[2] != keys[0]


def test_a_refusal_carries_status_and_body_so_that_nobody_reads_our_own_sentence() -> None:
    """A host named structured.example stands in the sentence, and is no word about what the endpoint knows."""

    async def ask(opened: ChatClient) -> RefusedError:
        with pytest.raises(RefusedError) as caught:
            await opened.chat(QUESTION, temperature=0, max_tokens=8)
        return caught.value

    with ScriptedServer(lambda _: refuse(413, "too much")) as own:
        error = with_client(own.base_url, ask)
    assert (error.status, json.loads(error.body)["error"]["message"]) == (413, "too much")
    assert own.base_url in str(error)
    assert own.base_url not in error.body


def test_a_reply_without_end_is_cut_off_and_told() -> None:
    endless = Reply(("x" * (LONGEST_REPLY_BYTES + 1),))
    with ScriptedServer(lambda _: endless) as own, pytest.raises(ServiceError, match="longer than 16777216 bytes"):
        ask(own.base_url, timeout_s=20.0)
