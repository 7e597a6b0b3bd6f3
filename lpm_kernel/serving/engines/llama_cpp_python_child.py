"""A server for one GGUF on loopback with those routes of llama.cpp's that we use; started by `serve`, never by hand.

One question at a time, its n answers together.
"""

import hmac
import json
import select
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import randbits
from typing import TYPE_CHECKING, Any

from lpm_kernel.serving.engines.base import Launch, child_key, child_launch

if TYPE_CHECKING:
    from lpm_kernel.serving.engines.llama_cpp_python_model import Model, Written

LONGEST_BODY_BYTES = 16 * 2**20
MOST_CHOICES = 256
KNOWN = frozenset({"model", "messages", "n", "temperature", "top_p", "max_tokens", "seed", "stream"})
"""What a chat request may hold; a client leaves out what a refusal names."""
UNSAID = {"temperature": 0.8, "top_p": 0.95, "max_tokens": -1}
"""What llama.cpp's own server takes where a request says nothing."""


def main() -> None:
    """Serve until SIGTERM; for a model that cannot be loaded, the reason ends the output."""
    from lpm_kernel.serving.engines.llama_cpp_python_model import Model

    key, launch = child_key(), child_launch(__doc__)
    try:
        server = Server(launch, Model(launch), key)
    except ValueError as error:
        sys.exit(str(error))
    print(f"listening at http://127.0.0.1:{launch.port}", flush=True)
    server.serve_forever()


class Server(ThreadingHTTPServer):
    """Listens at 127.0.0.1; a thread a connection, one of them at the model."""

    daemon_threads = True

    def __init__(self, launch: Launch, model: "Model", key: str) -> None:
        super().__init__(("127.0.0.1", launch.port), Handler)
        self.launch, self.model, self.key = launch, model, key
        self.turn = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    """JSON in and out."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        """/health, /props, /v1/models."""
        self._serve({"/health": self._health, "/props": self._props, "/v1/models": self._models})

    def do_POST(self) -> None:
        """Questions to the model."""
        routes = {"/v1/chat/completions": self._chat, "/completion": self._completion}
        self._serve({**routes, "/apply-template": self._apply_template, "/tokenize": self._tokenize})

    def _serve(self, routes: dict[str, Callable[[], dict[str, Any]]]) -> None:
        status, reply = self._reply_of(routes)
        raw = json.dumps(reply).encode()
        with suppress(OSError):  # who asked has gone
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    def _reply_of(self, routes: dict[str, Callable[[], dict[str, Any]]]) -> tuple[int, dict[str, Any]]:
        if self.headers.get("Host") not in {f"{name}:{self.server.launch.port}" for name in ("127.0.0.1", "localhost")}:
            return self._refusal(403, "this server answers to 127.0.0.1 and localhost only")
        if self.path not in routes:
            return self._refusal(404, "no such route")
        given, wanted = self.headers.get("Authorization", ""), f"Bearer {self.server.key}"
        if self.server.key and self.path != "/health" and not hmac.compare_digest(given.encode(), wanted.encode()):
            return self._refusal(401, "the API key is missing or wrong")
        try:
            return 200, routes[self.path]()
        except (ValueError, TypeError, KeyError) as error:
            return self._refusal(400, f"{type(error).__name__}: {error}")
        except RuntimeError as error:
            return self._refusal(500, f"{type(error).__name__}: {error}")

    def _refusal(self, status: int, message: str) -> tuple[int, dict[str, Any]]:
        self.close_connection = True  # what else was sent stays unread
        return status, {"error": {"code": status, "message": message}}

    def _body(self) -> dict[str, Any]:
        size_bytes = int(self.headers.get("Content-Length", 0))
        if not 0 < size_bytes <= LONGEST_BODY_BYTES:
            raise ValueError(f"a body of {size_bytes} bytes, 1 to {LONGEST_BODY_BYTES} are read")
        try:
            body = json.loads(self.rfile.read(size_bytes))
        except RecursionError:
            body = None
        if not isinstance(body, dict):
            raise ValueError("the body is no JSON object")
        return body

    def _health(self) -> dict[str, Any]:
        return {"status": "ok"}

    def _props(self) -> dict[str, Any]:
        return {"model_path": str(self.server.launch.gguf_path), "total_slots": 1}

    def _models(self) -> dict[str, Any]:
        return {"object": "list", "data": [{"id": self.server.launch.model_id, "object": "model"}]}

    def _apply_template(self) -> dict[str, Any]:
        return {"prompt": self.server.model.render(self._body()["messages"])}

    def _tokenize(self) -> dict[str, Any]:
        body = self._body()
        add, parse = bool(body.get("add_special")), bool(body.get("parse_special", True))
        return {"tokens": self.server.model.token_ids(str(body["content"]), add_special=add, parse_special=parse)}

    def _completion(self) -> dict[str, Any]:
        """The likeliest continuation of a rendered prompt."""
        body, model = self._body(), self.server.model
        prompt = model.token_ids(str(body["prompt"]))
        wanted: Any = {"temperature": 0.0, "top_p": 1.0, "max_tokens": int(body.get("n_predict", -1))}
        with self.server.turn:
            top = model.first_token(prompt, int(body["n_probs"])) if body.get("n_probs") else []
            answer = model.write(prompt, [0], is_unwanted=self._has_gone, **wanted)[0]
        reply: dict[str, Any] = {"content": model.text(answer.ids), "tokens": answer.ids}
        if top and answer.ids:
            told = [{"id": id_, "logprob": logprob} for id_, logprob in top]
            reply["completion_probabilities"] = [{**told[0], "top_logprobs": told}]
        return reply

    def _chat(self) -> dict[str, Any]:
        body, model = self._body(), self.server.model
        if unknown := sorted(body.keys() - KNOWN) or ["stream"] * bool(body.get("stream")):
            raise ValueError(f"{unknown[0]} is not supported by this server")
        count = int(body.get("n") or 1)
        if not 1 <= count <= MOST_CHOICES:
            raise ValueError(f"n is {count}, expected 1 to {MOST_CHOICES}")
        first = randbits(31) if body.get("seed") is None else int(body["seed"])
        seeds = [(first + j) % 2**32 for j in range(count)]
        wanted: Any = {name: type(unsaid)(body.get(name, unsaid)) for name, unsaid in UNSAID.items()}
        prompt = model.token_ids(model.render(body["messages"]))
        with self.server.turn:
            answers = model.write(prompt, seeds, is_unwanted=self._has_gone, **wanted)
        written = sum(len(answer.ids) for answer in answers)
        return {
            "object": "chat.completion",
            "model": self.server.launch.model_id,
            "choices": [self._choice(index, answer) for index, answer in enumerate(answers)],
            "usage": {"prompt_tokens": len(prompt), "completion_tokens": written},
        }

    def _choice(self, index: int, answer: "Written") -> dict[str, Any]:
        message = {"role": "assistant", "content": self.server.model.text(answer.ids)}
        return {"index": index, "message": message, "finish_reason": answer.finish_reason}

    def _has_gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        if not select.select([self.connection], [], [], 0)[0]:
            return False
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True


if __name__ == "__main__":
    main()
