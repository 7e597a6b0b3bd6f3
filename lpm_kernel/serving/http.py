"""One manner of asking over HTTP: JSON only, no redirect, no proxy to this machine, bounded in bytes and in time."""

import json
import os
import re
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import SecretStr

if TYPE_CHECKING:
    import requests

NO_KEY = SecretStr("")
LONGEST_REPLY_BYTES = 16 * 2**20
CHUNK_BYTES = 2**16
REASON_CHARS = 200
SENDABLE = re.compile(r"[\x20-\x7e]*")
"""What a header can carry."""


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
    session, reply = _session(url, key), Future[bytes]()
    # A thread, because no socket option bounds a name's look-up or headers that drip.
    threading.Thread(target=_ask_into, args=(reply, session, url, body, timeout_s), daemon=True).start()
    try:
        value = json.loads(reply.result(timeout_s))
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


def host_of(url: str) -> str:
    """The URL's host in lower case, without port; empty where there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def on_loopback(url: str) -> bool:
    """Whether the URL's host is this machine: localhost, 127.0.0.0/8 or ::1."""
    host = host_of(url)
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse_unaskable(url: str, api_key: str) -> None:
    """Raise UnansweredError for what a library would refuse with a message that shows the URL or the key."""
    try:
        parts = urlsplit(url)
        askable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        askable = False
    if not askable:
        raise UnansweredError("it is no URL such as http://127.0.0.1:8080/v1")
    if not SENDABLE.fullmatch(api_key):
        raise UnansweredError("the key holds a character that no header can carry, such as a line break")


def _session(url: str, api_key: str) -> "requests.Session":
    """Credentials are always set, or requests would take those of ~/.netrc in place of the key."""
    import requests

    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if api_key:
            request.headers["Authorization"] = f"Bearer {api_key}"
        return request

    session = requests.Session()
    session.trust_env = not on_loopback(url)
    userinfo = requests.utils.get_auth_from_url(url)
    session.auth = userinfo if any(userinfo) else sign
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
        raise UnansweredError(f"{type(error).__name__}: {str(cause)[:REASON_CHARS]}") from None


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
