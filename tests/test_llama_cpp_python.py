"""The routes of llama-cpp-python's child, over a model that says its prompt backwards; needs no package."""

import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import requests
from pydantic import SecretStr

from lpm_kernel.serving.engines.base import Launch
from lpm_kernel.serving.engines.llama_cpp_python_child import Server
from lpm_kernel.serving.http import UnansweredError, fetch_json
from lpm_kernel.serving.probe import answers_chat, any_free_port, props

KEY = SecretStr("key")


class Backwards:
    """Tokens are characters; answer j begins with the seed."""

    def __init__(self) -> None:
        self.cut = threading.Event()

    def render(self, messages: Sequence[dict[str, Any]]) -> str:
        return "|".join(message["content"] for message in messages)

    def token_ids(self, text: str, **_: bool) -> list[int]:
        return [ord(letter) for letter in text]

    def text(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))

    def write(self, prompt: Sequence[int], seeds: Sequence[int], **wanted: Any) -> list[Any]:
        while self.text(prompt) == "forever":
            if wanted["is_unwanted"]():
                self.cut.set()
                break
        texts = [f"{seed}:{self.text(prompt)[::-1]}" for seed in seeds]
        return [SimpleNamespace(ids=self.token_ids(t)[: wanted["max_tokens"]], finish_reason="stop") for t in texts]


@pytest.fixture
def model() -> Backwards:
    return Backwards()


@pytest.fixture
def server(model: Backwards) -> Iterator[Server]:
    launch = Launch(Path("/models/tiny.gguf"), any_free_port(), slots=3, slot_tokens=64, threads=1)
    with Server(launch, cast(Any, model), KEY.get_secret_value()) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def chat(server: Server, text: str = "abc", **more: Any) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 99, "seed": 5, **more}
    return fetch_json(f"http://127.0.0.1:{server.launch.port}/v1/chat/completions", api_key=KEY, body=body)


def test_n_answers_are_one_question_and_choice_j_has_seed_plus_j(server: Server) -> None:
    reply = chat(server, n=4)
    assert [c["message"]["content"] for c in reply["choices"]] == [f"{5 + j}:cba" for j in range(4)]
    assert reply["usage"] == {"prompt_tokens": 3, "completion_tokens": 20}


def test_it_says_which_file_it_serves_and_answers_what_a_start_asks(server: Server) -> None:
    base_url = f"http://127.0.0.1:{server.launch.port}/v1"
    assert props(base_url, KEY) == {"model_path": "/models/tiny.gguf", "total_slots": 1}
    answers_chat(base_url, KEY, "tiny", timeout_s=5)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"response_format": {}}, "response_format"),
        ({"stream": True}, "stream"),
        ({"n": 999}, "n is 999"),
        ({"messages": 3}, "TypeError"),
        ({"temperature": "hot"}, "hot"),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(server: Server, more: dict[str, Any], told: str) -> None:
    url = f"http://127.0.0.1:{server.launch.port}/v1/chat/completions"
    body = {"messages": [{"role": "user", "content": "a"}], **more}
    reply = requests.post(url, json=body, headers={"Authorization": "Bearer key"}, timeout=5)
    assert (reply.status_code, told in reply.text) == (400, True)
    assert chat(server)["choices"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"Authorization": "Bearer ké"}, 401), ({"Authorization": "Bearer key", "Host": "evil.example"}, 403)],
)
def test_without_the_key_or_by_another_name_nothing_is_told(
    server: Server, headers: dict[str, str], status: int
) -> None:
    url = f"http://127.0.0.1:{server.launch.port}/props"
    raw = {name: value.encode() for name, value in headers.items()}
    reply = requests.get(url, headers=cast(Any, raw), timeout=5)
    assert (reply.status_code, "gguf" in reply.text) == (status, False)
    assert "Access-Control-Allow-Origin" not in reply.headers


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"a"', b"[" * 100_000, b"\xff"])
def test_rubbish_is_refused_and_the_next_question_answered(server: Server, raw: bytes) -> None:
    for route in ("/v1/chat/completions", "/completion", "/tokenize", "/apply-template", "/else"):
        url = f"http://127.0.0.1:{server.launch.port}{route}"
        reply = requests.post(url, data=raw, headers={"Authorization": "Bearer key"}, timeout=5)
        assert reply.status_code in (400, 404)
    assert chat(server)["choices"]


def test_an_answer_that_nobody_waits_for_ends(server: Server, model: Backwards) -> None:
    with pytest.raises(UnansweredError):
        fetch_json(f"http://127.0.0.1:{server.launch.port}/none", api_key=KEY, body={})
    raw = b'{"messages": [{"role": "user", "content": "forever"}]}'
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{server.launch.port}\r\nAuthorization: Bearer key\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.launch.port)) as asking:
        asking.sendall(head.encode() + f"Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
    assert model.cut.wait(5)
    assert chat(server)["choices"]
