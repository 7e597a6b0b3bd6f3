"""Short questions over HTTP: what ends them, what they never follow, and what no message tells."""

import gzip
import json
import os
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr
from scripted_server import ScriptedServer

from lpm_kernel.config import basic_key
from lpm_kernel.judges.pairwise import place_of
from lpm_kernel.serving import http
from lpm_kernel.serving.http import UnansweredError, fetch_json
from lpm_kernel.urls import on_loopback, shown_url

KEY = "sk-canary-4f1b"
OK = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def raw_server(*parts: bytes, gap_s: float = 0.0) -> Iterator[tuple[str, list[bytes]]]:
    """(base URL, what was asked): a server that sends the parts, whatever the question, and hangs up."""
    asked: list[bytes] = []

    def answer() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                asked.append(connection.recv(2**16))
                try:
                    for part in parts:
                        connection.sendall(part)
                        time.sleep(gap_s)
                except OSError:
                    continue

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked
        finally:
            listening.shutdown(socket.SHUT_RDWR)


def whole(body: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([OK.strip(), b"Content-Length: %d" % len(body), *headers, b"", body])


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (OK + b"Content-Length: 99\r\n\r\n", b" "),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (OK, b"X-More: to come\r\n"),
        (b"", b"H"),
    ],
    ids=["body", "chunks", "headers", "status"],
)
def test_a_reply_that_drips_ends_at_the_deadline(start: bytes, drop: bytes) -> None:
    with raw_server(start, *[drop] * 30, gap_s=0.1) as (url, _):
        begun = time.monotonic()
        with pytest.raises(UnansweredError, match=r"within 0\.5 s"):
            fetch_json(url, timeout_s=0.5)
        assert time.monotonic() - begun < 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_takes_the_key_away(status: int) -> None:
    with raw_server(whole(b"{}")) as (elsewhere, asked):
        moved = b"HTTP/1.1 %d Moved\r\nLocation: %s/\r\nContent-Length: 0\r\n\r\n" % (status, elsewhere.encode())
        with raw_server(moved) as (url, _), pytest.raises(UnansweredError, match=str(status)) as caught:
            fetch_json(url, api_key=SecretStr(KEY))
        assert (caught.value.status, asked) == (status, [])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.3.2.1"])
def test_a_proxy_is_not_asked_for_this_machine(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(whole(b'{"by": "proxy"}')) as (proxy, asked):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy)
        with socket.create_server((host, 0)) as silent, pytest.raises(UnansweredError, match="within"):
            fetch_json(f"http://{host}:{silent.getsockname()[1]}/v1", timeout_s=0.2)
        assert asked == []


def test_a_proxy_is_asked_for_other_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(whole(b'{"by": "proxy"}')) as (proxy, asked):
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert fetch_json("http://elsewhere.invalid/v1") == {"by": "proxy"}
    assert asked[0].startswith(b"GET http://elsewhere.invalid/v1 ")


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("http://127.0.0.1:8080/v1", True),
        ("http://127.255.0.3", True),
        ("https://LOCALHOST/v1", True),
        ("http://[::1]:8080/v1", True),
        ("http://ada:p@w@127.0.0.1/v1", True),
        ("http://127.0.0.1@elsewhere.net/v1", False),
        ("http://127.0.0.1.elsewhere.net", False),
        ("http://localhost.elsewhere.net", False),
        ("http://128.0.0.1", False),
        ("http://[::2]", False),
        ("http://[bad", False),
        ("127.0.0.1", False),
        ("", False),
    ],
)
def test_what_is_this_machine(url: str, near: bool) -> None:
    assert on_loopback(url) is near


def test_a_reply_may_have_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LONGEST_REPLY_BYTES", 100_000)
    for size_bytes, fits in ((99_000, True), (101_000, False)):
        with raw_server(whole(json.dumps({"text": "x" * size_bytes}).encode())) as (url, _):
            if fits:
                assert len(fetch_json(url)["text"]) == size_bytes
            else:
                with pytest.raises(UnansweredError, match="longer than 100000 bytes"):
                    fetch_json(url)


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (OK + b"Content-Length: 9\r\n\r\n{}", "IncompleteRead"),
        (whole(gzip.compress(b"{}", mtime=0), b"Content-Encoding: gzip"), "no JSON object"),
        (whole(b"[" * 100_000), "no JSON object"),
        (whole(b"[]"), "no JSON object"),
        (whole(b"<html>"), "no JSON object"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0"),
        (b"", "ConnectionError"),
        (b"HTTP/1.1 503 Busy\r\n\r\n", "HTTP status 503"),
    ],
)
def test_an_odd_reply_is_one_kind_of_error(reply: bytes, told: str) -> None:
    with raw_server(reply) as (url, _), pytest.raises(UnansweredError, match=told):
        fetch_json(url)


def authorization(asked: list[bytes]) -> list[bytes]:
    return [line.partition(b": ")[2] for line in asked[-1].split(b"\r\n") if line.startswith(b"Authorization")]


def test_the_key_goes_out_and_nothing_of_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc_path = tmp_path / "netrc"
    netrc_path.write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc_path))
    monkeypatch.setattr(http, "on_loopback", lambda _: False)
    for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with raw_server(whole(b"{}")) as (url, asked):
        fetch_json(url, api_key=SecretStr(KEY))
        assert authorization(asked) == [f"Bearer {KEY}".encode()]
        fetch_json(url)
        assert authorization(asked) == []


def test_a_user_and_password_are_sent_as_such_and_no_reply_brings_them_back() -> None:
    echo = json.dumps({"encoded": b64encode(b"ada:p@wonderland").decode(), "plain": "p@wonderland"}).encode()
    with raw_server(whole(echo)) as (url, asked):
        assert fetch_json(url, api_key=SecretStr(basic_key("ada:p@wonderland"))) == {"encoded": "***", "plain": "***"}
    assert authorization(asked) == [b"Basic " + b64encode(b"ada:p@wonderland")]


@pytest.mark.parametrize(
    "url",
    [
        "http://ada:hunter2@127.0.0.1:9/v1",
        "http://ada:h@hunter2@127.0.0.1:9/v1",
        "http://ada:h/hunter2@127.0.0.1:9/v1",
        "http://ada:hunter2@[bad/v1",
        "http://ada:hunter2@.elsewhere.invalid/v1",
        "http://ada:hunter2@127.0.0.1:port/v1",
        "http://ada:hunter2@127.0.0.1:99999/v1",
        "ftp://ada:hunter2@127.0.0.1:9/v1",
        "ada:hunter2@127.0.0.1:9/v1",
        "http://",
        "file:///etc/hostname",
        "nonsense",
        "",
    ],
)
def test_no_url_is_too_odd_and_no_message_tells_its_password(url: str) -> None:
    with pytest.raises(UnansweredError) as caught:
        fetch_json(url, timeout_s=2)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in shown_url(url)


@pytest.mark.parametrize("key", [f"{KEY}\nX-Injected: yes", f"{KEY}\N{EN DASH}"])
def test_a_key_that_cannot_be_sent_is_not_told(key: str) -> None:
    with ScriptedServer() as server, pytest.raises(UnansweredError, match="key") as caught:
        fetch_json(f"{server.root_url}/health", api_key=SecretStr(key))
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h:80/v1", "http://h:80/v1"),
        ("http://ada:pw@h:80/v1", "http://h:80/v1"),
        ("http://ada@h/v1", "http://h/v1"),
        ("http://ada:p@w@h/v1", "http://h/v1"),
        ("http://ada:p/w@h/v1", "http://h/v1"),
        ("http://ada:p:w?#@h/v1", "http://h/v1"),
        ("http://ada:p w@[::1]:80/v1", "http://[::1]:80/v1"),
        (" http://ada:pw@h/v1", "h/v1"),
        ("http://http://ada:pw@h/v1", "http://h/v1"),
        ("ada:pw@h/v1", "h/v1"),
        ("http://h/@team/v1", "http://h/@team/v1"),
        ("http://[::1]:80/@team/v1", "http://[::1]:80/@team/v1"),
        ("http://h?mail=a@b", "http://h"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_user_and_password(url: str, shown: str) -> None:
    assert shown_url(url) == shown
    assert "pw" not in place_of(url)
