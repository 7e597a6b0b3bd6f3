"""Short questions to a server besides chat: is it there, is it ready, what does it serve, does it answer."""

import json
import socket
import time
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
LONGEST_REPLY_BYTES = 16 * 2**20
CHUNK_BYTES = 2**16


class UnansweredError(Exception):
    """No usable reply; `status` is the HTTP status, or 0 when there was none."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


def fetch_json(
    url: str, *, api_key: str = "", body: Mapping[str, Any] | None = None, timeout_s: float = 5.0
) -> dict[str, Any]:
    """GET, or POST of a JSON body; returns the JSON object of a 200 reply.

    Raises UnansweredError: not reachable, late (over all, not only between two bytes), another status, no JSON object.
    A server on loopback is asked directly, whatever HTTP_PROXY says.
    """
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
    data = None if body is None else json.dumps(body).encode()
    deadline = time.monotonic() + timeout_s
    try:
        with _opener(url).open(Request(url, data=data, headers=headers), timeout=timeout_s) as reply:
            raw = _read(reply, deadline)
    except HTTPError as error:
        error.close()
        raise UnansweredError(f"HTTP status {error.code}", error.code) from None
    except (OSError, HTTPException, ValueError) as error:
        raise UnansweredError(f"{type(error).__name__}: {str(error)[:200]}") from None
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UnansweredError("the reply is no JSON object", status=200)
    return value


def root_of(base_url: str) -> str:
    """The server's root, where llama.cpp's own routes (/health, /props, /tokenize, /apply-template) are."""
    return base_url.rstrip("/").removesuffix("/v1")


def on_loopback(url: str) -> bool:
    """Whether the URL's host is this machine."""
    return urlsplit(url).hostname in LOOPBACK


def listed_models(base_url: str, api_key: str) -> list[str]:
    """The ids under /v1/models; raises UnansweredError when that is no OpenAI-style list."""
    listed = fetch_json(f"{base_url}/models", api_key=api_key).get("data")
    names = [m.get("id") for m in listed if isinstance(m, dict)] if isinstance(listed, list) else []
    models = [name for name in names if isinstance(name, str) and name]
    if not models:
        raise UnansweredError("it lists no model under /v1/models")
    return models


def props(base_url: str, api_key: str) -> dict[str, Any]:
    """llama.cpp's /props (model_path, total_slots, chat_template, ...); empty for another kind of server."""
    try:
        return fetch_json(f"{root_of(base_url)}/props", api_key=api_key)
    except UnansweredError:
        return {}


def answers_chat(base_url: str, api_key: str, model: str, timeout_s: float) -> None:
    """One tiny completion; raises UnansweredError unless a choice with a message comes back in time."""
    question = "Say hello in one word, and nothing else: no greeting before it, no explanation after it."
    body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 4, "temperature": 0}
    reply = fetch_json(f"{base_url}/chat/completions", api_key=api_key, body=body, timeout_s=timeout_s)
    try:
        reply["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise UnansweredError("it does not answer a chat with choices and messages") from None


def is_free(port: int) -> bool:
    """Whether nobody listens on the port, on any address."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def any_free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def who_listens(port: int) -> str:
    """`free`, the model of an OpenAI-compatible server, or that it is another program; sends no key."""
    if is_free(port):
        return "free"
    try:
        return f"a server with the model {listed_models(f'http://127.0.0.1:{port}/v1', '')[0]}"
    except UnansweredError as error:
        locked = error.status in (401, 403)
        return "a server that wants a key" if locked else f"another program, no model server ({error})"


class _NoRedirect(HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, *_: Any) -> None:
        """Refuse: the caller gets the 3xx status as an error."""


def _opener(url: str) -> OpenerDirector:
    return build_opener(_NoRedirect, *([ProxyHandler({})] if on_loopback(url) else []))


def _read(reply: Any, deadline: float) -> bytes:
    parts, size_bytes = [], 0
    while part := reply.read1(CHUNK_BYTES):
        parts.append(part)
        size_bytes += len(part)
        if time.monotonic() > deadline:
            raise TimeoutError("the reply did not end in time")
        if size_bytes > LONGEST_REPLY_BYTES:
            raise ValueError(f"the reply is longer than {LONGEST_REPLY_BYTES} bytes")
    return b"".join(parts)
