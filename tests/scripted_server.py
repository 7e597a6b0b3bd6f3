"""One scripted OpenAI-compatible server that plays the model, the judge and every fault; a real server on loopback.

    with ScriptedServer("model") as server:            # server.base_url, server.calls, server.repeats()
    python tests/scripted_server.py --port 9000 --behaviour model --log calls.jsonl   # a process of its own

A behaviour is a function of the call; BEHAVIOURS names them all. The server's own behaviour answers under `/v1`,
every other one under `/<behaviour>/v1`, so one process plays model and judge at once.
Each chat call is counted by the hash of its body, and appended to the log, fsynced, before it is answered.
"""

import argparse
import hashlib
import json
import os
import random
import re
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Self

FOREVER_S = 600.0
VERDICTS = ["first win", "tie", "second win"]
PRAISE = "It says what the reference says."
NONCE = re.compile(r"MATERIAL-[0-9a-f]{16}")
"""The random marker of our judge's prompt: no part of what was asked."""


@dataclass(frozen=True)
class Call:
    """One chat request."""

    body: dict[str, Any]
    number: int
    """Chat calls that this behaviour had before this one."""
    key: str
    """SHA-256 of behaviour and canonical body: equal for a repeated call."""
    repeat: int
    """Calls with this key before this one."""
    behaviour: str

    @property
    def n(self) -> int:
        return int(self.body.get("n") or 1)

    @property
    def user(self) -> str:
        return str(next((m["content"] for m in reversed(self.body["messages"]) if m["role"] == "user"), ""))


@dataclass(frozen=True)
class Reply:
    """What goes back: choices, or an error body, and the manner of sending it."""

    texts: tuple[str, ...] = ()
    finish_reason: str | None = "stop"
    status: int = 200
    error: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    manner: Literal["whole", "stall", "drip", "cut", "half", "reset", "html"] = "whole"
    wait_s: float = 0.0


Behaviour = Callable[[Call], Reply]


def refuse(status: int, error: str, **headers: str) -> Reply:
    return Reply(status=status, error=error, headers={k.replace("_", "-"): v for k, v in headers.items()})


def say_once(text: str, **more: Any) -> Behaviour:
    return lambda call: Reply((text,) * call.n, **more)


# The model ------------------------------------------------------------------------------------------------------


def answer(messages: object, seed: int) -> str:
    """Some of the question's words and some idle ones, the same for the same messages and seed."""
    words = re.findall(r"\w+", json.dumps(messages, ensure_ascii=False))[-40:]
    dice = random.Random(json.dumps([messages, seed], sort_keys=True))
    kept = [w for w in words if dice.random() < dice.choice((0.1, 0.5, 0.9))]
    return " ".join([*kept, dice.choice(("indeed", "perhaps", "surely")), f"{dice.randrange(16**6):06x}"])


def model(call: Call) -> Reply:
    """Choice j of a call with seed s is the answer of seed s + j, as llama.cpp seeds its choices."""
    seed = int(call.body.get("seed") or 0)
    return Reply(tuple(answer(call.body["messages"], seed + j) for j in range(call.n)))


def first_then(trouble: Reply, times: int) -> Behaviour:
    return lambda call: trouble if call.number < times else model(call)


def without(key: str, message: str) -> Behaviour:
    """Refuses each call that has the key (or n above 1), as an endpoint that does not know it."""

    def behave(call: Call) -> Reply:
        has = call.n > 1 if key == "n" else key in call.body
        return refuse(400, message) if has else model(call)

    return behave


# The judge ------------------------------------------------------------------------------------------------------


def sides(call: Call) -> tuple[str, str, str]:
    """(reference, first answer, second answer): the text between the tags of a judge's prompt."""
    names = ("reference", "first answer", "second answer")
    found = [re.search(rf"<([^<>]*){name}>\n(.*?)\n</\1{name}>", call.user, re.DOTALL) for name in names]
    reference, first, second = (match[2] if match else "" for match in found)
    return reference, first, second


def verdict(call: Call, outcome: str) -> str:
    """`first`, `second` or `tie` as JSON, spelt as the call's JSON schema wants it, else as our judge's prompt does."""
    asked = call.body.get("response_format", {}).get("json_schema", {}).get("schema", {})
    fields: dict[str, Any] = asked.get("properties", {"detailed_analysis": {}, "comparison": {"enum": VERDICTS}})
    said = {"rests_on": "reference", "strength": "clear"}
    reply = {
        name: next((v for v in kind.get("enum", ()) if v.startswith(outcome)), said.get(name, PRAISE))
        for name, kind in fields.items()
    }
    return json.dumps(reply)


def better(call: Call) -> str:
    """The answer that shares more words with the reference, at equal shares the longer one."""
    reference, *answers = sides(call)
    words = set(re.findall(r"\w+", reference.lower()))
    first, second = ((len(words & set(re.findall(r"\w+", a.lower()))), len(a)) for a in answers)
    return "tie" if first == second else "first" if first > second else "second"


def judge_honest(call: Call) -> Reply:
    return Reply((verdict(call, better(call)),))


def judge_liar(call: Call) -> Reply:
    return Reply((verdict(call, {"first": "second", "second": "first"}.get(better(call), "tie")),))


def judge_fenced(call: Call) -> Reply:
    return Reply((f"Here you are:\n```json\n{verdict(call, better(call))}\n```\nI hope it helps.",))


def judge_cut(call: Call) -> Reply:
    return Reply((verdict(call, better(call))[:9],), finish_reason="length")


def judge_flaky(call: Call) -> Reply:
    """Three calls in ten fail, chosen by the call's number: 500, 429, a reset, half a body, prose, nothing.

    None is asked in vain three times: that is how often our judge tries.
    """
    troubles = (
        refuse(500, "overloaded"),
        refuse(429, "slow down", retry_after="0"),
        Reply(("x",), manner="reset"),
        Reply(("x",), manner="cut"),
        Reply(("I would rather not say.",)),
        Reply(("",)),
    )
    dice = random.Random(call.number)
    fails = dice.random() < 0.3 and call.repeat < 2
    return dice.choice(troubles) if fails else judge_honest(call)


BEHAVIOURS: dict[str, Behaviour] = {
    "model": model,
    "model-slow": lambda call: Reply(model(call).texts, wait_s=0.05),
    "model-cut": lambda call: Reply(model(call).texts, finish_reason="length"),
    "model-same": say_once("I do not know."),
    "model-empty": say_once(""),
    "judge-honest": judge_honest,
    "judge-slow": lambda call: Reply(judge_honest(call).texts, wait_s=0.05),
    "judge-first": lambda call: Reply((verdict(call, "first"),)),
    "judge-second": lambda call: Reply((verdict(call, "second"),)),
    "judge-tie": lambda call: Reply((verdict(call, "tie"),)),
    "judge-liar": judge_liar,
    "judge-fenced": judge_fenced,
    "judge-prose": say_once("Both have their merits, but I lean towards the one that is better."),
    "judge-refusal": say_once("I'm sorry, but I can't help with that."),
    "judge-empty": say_once(""),
    "judge-finnish": say_once("Ensimmäinen vastaus on parempi, koska se kertoo kaupungin."),
    "judge-scores": say_once('{"score_a": 7, "score_b": 4, "explanation": "A is fuller."}'),
    "judge-third": say_once('{"detailed_analysis": "Neither.", "comparison": "third win"}'),
    "judge-wrong-words": lambda call: Reply((verdict(call, "first").replace("first", "answer-two"),)),
    "judge-huge": lambda call: Reply((verdict(call, "first") + " " * 10_000_000,)),
    "judge-cut": judge_cut,
    "judge-flaky": judge_flaky,
    "401": lambda _: refuse(401, "Incorrect API key provided"),
    "403": lambda _: refuse(403, "this key may not use the model"),
    "404": lambda _: refuse(404, "no such model"),
    "429": first_then(refuse(429, "slow down", retry_after="1"), 1),
    "429-day": lambda _: refuse(429, "quota exceeded", retry_after="86400"),
    "500": lambda _: refuse(500, "internal error"),
    "500-twice": first_then(refuse(500, "internal error"), 2),
    "stall": lambda _: Reply(manner="stall"),
    "stall-once": first_then(Reply(manner="stall"), 1),
    "drip": lambda call: Reply(model(call).texts, manner="drip"),
    "cut": lambda call: Reply(model(call).texts, manner="cut"),
    "cut-once": first_then(Reply(("x",), manner="cut"), 1),
    "half": lambda call: Reply(model(call).texts, manner="half"),
    "reset": lambda _: Reply(manner="reset"),
    "reset-twice": first_then(Reply(manner="reset"), 2),
    "html": lambda _: Reply(manner="html"),
    "no-choices": lambda _: Reply(()),
    "no-finish": lambda call: Reply(model(call).texts, finish_reason=None),
    "no-n": without("n", "n must be 1"),
    "n-ignored": lambda call: Reply(model(call).texts[:1]),
    "no-schema": without("response_format", "response_format is not supported"),
    "no-seed": without("seed", "unknown parameter: seed"),
    "echo-key": lambda _: refuse(422, "bad request by <authorization>"),
    "stranger": lambda _: refuse(404, "not here"),
}


# The server -----------------------------------------------------------------------------------------------------


class ScriptedServer:
    """A server on loopback for the length of a with-block, in threads of its own.

    script: a name in BEHAVIOURS, or a function of the call. api_key: when given, each call must carry it.
    """

    def __init__(
        self,
        script: str | Behaviour = "model",
        *,
        port: int = 0,
        api_key: str | None = None,
        model: str = "scripted",
        model_path: str = "/models/scripted.gguf",
        log_path: Path | None = None,
        slots: int = 12,
    ) -> None:
        self.behaviours = {**BEHAVIOURS, "": BEHAVIOURS[script] if isinstance(script, str) else script}
        self.name = script if isinstance(script, str) else "own"
        self.api_key, self.model, self.model_path, self.slots = api_key, model, model_path, slots
        self.calls: list[Call] = []
        self.closing = threading.Event()
        self._seen: Counter[str] = Counter()
        self._repeats: Counter[str] = Counter()
        self.authorizations: set[str] = set()
        """Authorization headers that came with any request, chat or not."""
        self._lock = threading.Lock()
        self._log = log_path.open("a", encoding="utf-8") if log_path else None
        self._server = _Server(("127.0.0.1", port), type("Bound", (_Handler,), {"scripted": self}))
        self.port = int(self._server.server_address[1])
        self.root_url = f"http://127.0.0.1:{self.port}"
        self.base_url = f"{self.root_url}/v1"

    def url(self, behaviour: str) -> str:
        """The base URL under which another behaviour answers."""
        return f"{self.root_url}/{behaviour}/v1"

    def repeats(self) -> dict[str, int]:
        """Content hash -> times, for each chat call that came more than once."""
        with self._lock:
            return {key: times for key, times in Counter(c.key for c in self.calls).items() if times > 1}

    def count(self, behaviour: str, body: dict[str, Any]) -> Call:
        """Note a chat call: in `calls`, and in the log before it is answered."""
        canonical = NONCE.sub("MATERIAL", json.dumps([behaviour, body], sort_keys=True))
        with self._lock:
            key = hashlib.sha256(canonical.encode()).hexdigest()
            call = Call(body, self._seen[behaviour], key, self._repeats[key], behaviour)
            self.calls.append(call)
            self._repeats[key] += 1
            self._seen[behaviour] += 1
            if self._log:
                self._log.write(json.dumps({"key": call.key, "behaviour": behaviour or self.name, "n": call.n}) + "\n")
                self._log.flush()
                os.fsync(self._log.fileno())
        return call

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        if self._log:
            self._log.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    scripted: ScriptedServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Silent: the calls are in the log."""

    def do_GET(self) -> None:
        self.scripted.authorizations.add(self.headers.get("Authorization") or "")
        behaviour, route = self._route()
        own = self.scripted
        pages: dict[str, dict[str, Any]] = {
            "/health": {"status": "ok"},
            "/v1/models": {"object": "list", "data": [{"id": own.model, "object": "model", "owned_by": "scripted"}]},
            "/props": {"model_path": own.model_path, "total_slots": own.slots, "default_generation_settings": {}},
        }
        if behaviour == "stranger" or (behaviour == "" and own.name == "stranger") or route not in pages:
            self._send(404, {"error": {"message": "not here"}})
        elif route != "/health" and not self._allowed():
            self._send(401, {"error": {"message": "Invalid API Key"}})
        else:
            self._send(200, pages[route])

    def do_POST(self) -> None:
        self.scripted.authorizations.add(self.headers.get("Authorization") or "")
        behaviour, route = self._route()
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self._allowed():
            self._send(401, {"error": {"message": "Invalid API Key"}})
        elif route == "/tokenize":
            self._send(200, {"tokens": list(json.loads(raw)["content"].encode())})
        elif route == "/apply-template":
            turns = json.loads(raw)["messages"]
            text = "".join(f"<|im_start|>{t['role']}\n{t['content']}<|im_end|>\n" for t in turns)
            self._send(200, {"prompt": f"{text}<|im_start|>assistant\n"})
        elif route == "/v1/chat/completions":
            call = self.scripted.count(behaviour, json.loads(raw))
            self._reply(call, self.scripted.behaviours[behaviour](call))
        else:
            self._send(404, {"error": {"message": "not here"}})

    def _route(self) -> tuple[str, str]:
        first, _, rest = self.path[1:].partition("/")
        return (first, f"/{rest}") if first and first in self.scripted.behaviours else ("", self.path)

    def _allowed(self) -> bool:
        key = self.scripted.api_key
        return key is None or self.headers.get("Authorization") == f"Bearer {key}"

    def _reply(self, call: Call, reply: Reply) -> None:
        self.scripted.closing.wait(FOREVER_S if reply.manner == "stall" else reply.wait_s)
        raw = b"<html>busy</html>" if reply.manner == "html" else json.dumps(self._completion(call, reply)).encode()
        if reply.manner in ("stall", "reset"):
            self._reset()
        elif reply.error:
            message = reply.error.replace("<authorization>", self.headers.get("Authorization") or "")
            self._send(reply.status, {"error": {"message": message, "type": "scripted"}}, reply.headers)
        elif reply.manner == "drip":
            self._drip(raw)
        elif reply.manner == "half":
            self._half(raw)
        else:
            self._send_raw(reply.status, raw[: len(raw) // 2] if reply.manner == "cut" else raw, reply.headers)

    def _completion(self, call: Call, reply: Reply) -> dict[str, Any]:
        choices = [
            {"index": i, "message": {"role": "assistant", "content": t}, "finish_reason": reply.finish_reason}
            for i, t in enumerate(reply.texts)
        ]
        name = call.body.get("model", self.scripted.model)
        return {"id": f"s-{call.number}", "object": "chat.completion", "created": 0, "model": name, "choices": choices}

    def _send(self, status: int, value: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self._send_raw(status, json.dumps(value).encode(), headers or {})

    def _send_raw(self, status: int, raw: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(raw)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def _half(self, raw: bytes) -> None:
        """Promise the whole body, send half, and hang up."""
        self._send_raw(200, raw[: len(raw) // 2], {"Content-Length": str(len(raw))})
        self.close_connection = True

    def _drip(self, raw: bytes) -> None:
        """A byte every half second: slow-loris the other way round."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        for byte in raw:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            if self.scripted.closing.wait(0.5):
                return

    def _reset(self) -> None:
        """Close with RST instead of FIN."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


def main() -> None:
    """Serve until killed; the first line on standard output is the base URL."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--behaviour", default="model", choices=sorted(BEHAVIOURS))
    parser.add_argument("--log", type=Path, help="append one JSON line a chat call, fsynced")
    parser.add_argument("--api-key-env", default="", help="environment variable with the key that calls must carry")
    options = parser.parse_args()
    key = os.environ[options.api_key_env] if options.api_key_env else None
    with ScriptedServer(options.behaviour, port=options.port, log_path=options.log, api_key=key) as server:
        print(server.base_url, flush=True)
        try:
            while True:
                time.sleep(FOREVER_S)
        except KeyboardInterrupt:
            sys.exit(130)


if __name__ == "__main__":
    main()
