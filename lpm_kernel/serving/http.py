"""One manner of asking over HTTP: JSON only, no redirect, no proxy to this machine, bounded in bytes and in time."""

import json
import os
import threading
import time
from base64 import b64decode
from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import SecretStr

from lpm_kernel.config import BASIC, SENDABLE
from lpm_kernel.progress import inline
from lpm_kernel.urls import is_base_url, on_loopback

if TYPE_CHECKING:
    import requests

NO_KEY = SecretStr("")
LONGEST_REPLY_BYTES = 16 * 2**20
CHUNK_BYTES = 2**16
REASON_CHARS = 200
SHORTEST_SECRET_CHARS = 4


class UnansweredError(Exception):
    """No usable reply; `status` is the HTTP status, or 0 when there was none."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


def fetch_json(
    url: str, *, api_key: SecretStr = NO_KEY, body: Mapping[str, Any] | None = None, timeout_s: float = 5.0
) -> dict[str, Any]:
    """GET, or POST of a JSON body; returns the JSON object of a 2xx reply.

    Raises UnansweredError: no such URL, not reachable, late, cut or too long, another status, no JSON object.
    timeout_s bounds all of it, from the name's look-up to the last byte.
    """
    key = api_key.get_secret_value()
    _refuse_unaskable(url, key)
    session, reply = _session(url, authorization(api_key)), Future[bytes]()
    # A thread, because no socket option bounds a name's look-up or headers that drip.
    threading.Thread(target=_ask_into, args=(reply, session, url, body, timeout_s), daemon=True).start()
    try:
        value = json.loads(redacted(reply.result(timeout_s), api_key))
    except TimeoutError:
        raise UnansweredError(f"no whole reply within {timeout_s:g} s") from None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UnansweredError("the reply is no JSON object", status=200)
    return value


def root_of(base_url: str) -> str:
    """The server's root, where llama.cpp's own routes (/health, /props, /tokenize, /apply-template) are."""
    return base_url.rstrip("/").removesuffix("/v1")


def authorization(key: SecretStr) -> str:
    """The header's value for a key, or for the user and password of a URL; empty without."""
    value = key.get_secret_value()
    return value if not value or value.startswith(BASIC) else f"Bearer {value}"


def redacted(reply: bytes, key: SecretStr) -> bytes:
    """What a server sent, without the secret that it was sent."""
    for word in _words_of(key):
        reply = reply.replace(word, b"***")
    return reply


def _words_of(key: SecretStr) -> list[bytes]:
    """The forms in which a server may send a secret back, the longest first; what is too short to be one is none."""
    value = key.get_secret_value()
    words = {value}
    if value.startswith(BASIC):
        encoded = value.removeprefix(BASIC)
        login = b64decode(f"{encoded}===").decode(errors="replace")
        words = {encoded, login, login.partition(":")[2]}
    words |= {quote(word, safe="") for word in words} | {json.dumps(word)[1:-1] for word in words}
    return sorted((word.encode() for word in words if len(word) >= SHORTEST_SECRET_CHARS), key=len, reverse=True)


def _refuse_unaskable(url: str, api_key: str) -> None:
    """Raise UnansweredError for what a library would refuse with a message that shows the URL or the key."""
    if not is_base_url(url):
        raise UnansweredError("it is no URL such as http://127.0.0.1:8080/v1")
    if not SENDABLE.fullmatch(api_key):
        raise UnansweredError("the key holds a character that no header can carry, such as a line break")


def _session(url: str, authorization: str) -> "requests.Session":
    """Credentials are always set, or requests would take those of ~/.netrc in place of the key."""
    import requests

    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if authorization:
            request.headers["Authorization"] = authorization
        return request

    session = requests.Session()
    session.trust_env = not on_loopback(url)
    session.auth = sign
    session.headers.update({"Content-Type": "application/json", "Accept-Encoding": "identity"})
    session.verify = os.environ.get("SSL_CERT_FILE") or True  # as the chat client does
    return session


def _ask_into(
    reply: Future[bytes], session: "requests.Session", url: str, body: Mapping[str, Any] | None, timeout_s: float
) -> None:
    try:
        reply.set_result(_ask(session, url, body, timeout_s))
    except BaseException as error:  # raised again where the result is asked for
        reply.set_exception(error)


def _ask(session: "requests.Session", url: str, body: Mapping[str, Any] | None, timeout_s: float) -> bytes:
    """The body of a 2xx reply; raises UnansweredError, or TimeoutError at the deadline."""
    from urllib3.exceptions import HTTPError

    deadline = time.monotonic() + timeout_s
    method, data = ("GET", None) if body is None else ("POST", json.dumps(body).encode())
    try:
        with (
            session,
            session.request(method, url, data=data, timeout=timeout_s, stream=True, allow_redirects=False) as reply,
        ):
            if reply.status_code // 100 != 2:
                raise UnansweredError(f"HTTP status {reply.status_code}", reply.status_code)
            return _read(reply.raw, deadline)
    except ValueError:  # its text would show the URL
        raise UnansweredError("the URL, or that of a proxy, cannot be read") from None
    except (OSError, HTTPError) as error:
        cause = _first_cause(error)
        if isinstance(cause, TimeoutError):
            raise cause from None
        raise UnansweredError(f"{type(error).__name__}: {inline(str(cause))[:REASON_CHARS]}") from None


def _read(raw: Any, deadline: float) -> bytes:
    parts, size_bytes = [], 0
    while part := raw.read1(CHUNK_BYTES, decode_content=False):
        parts.append(part)
        size_bytes += len(part)
        if time.monotonic() > deadline:
            raise TimeoutError("the reply did not end in time")
        if size_bytes > LONGEST_REPLY_BYTES:
            raise UnansweredError(f"the reply is longer than {LONGEST_REPLY_BYTES} bytes")
    return b"".join(parts)


def _first_cause(error: BaseException) -> BaseException:
    """What the libraries wrapped: `[Errno 111] Connection refused` in place of three lines about a pool."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error
