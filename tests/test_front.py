"""`lpm serve` answers the person at this machine, and no page of another origin, whatever name it goes by."""

import asyncio
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import openai
import pytest
from conftest import ROOT
from pydantic import SecretStr
from scripted_server import ScriptedServer
from tiny_gguf import write_tiny_gguf

from lpm_kernel.files import file_sha256
from lpm_kernel.serving.connect import connect
from lpm_kernel.serving.endpoint import Endpoint, ServingConfig
from lpm_kernel.serving.front import LONGEST_BODY_BYTES, Door
from lpm_kernel.serving.http import NO_KEY
from lpm_kernel.serving.probe import any_free_port, is_free

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
BODY = json.dumps({"messages": [{"role": "user", "content": "Who am I?"}], "max_tokens": 2})
JSON = "Content-Type: application/json"
CHAT, MODELS = "POST /v1/chat/completions", "GET /v1/models"
PAGE = """<body><script>
const told = [], url = "{url}", chat = url + "/v1/chat/completions";
const body = JSON.stringify({{messages: [{{role: "user", content: "hi"}}]}});
const attempts = {{
  read: () => fetch(url + "/v1/models"),
  props: () => fetch(url + "/props"),
  blind: () => fetch(url + "/v1/models", {{mode: "no-cors"}}),
  json: () => fetch(chat, {{method: "POST", headers: {{"Content-Type": "application/json"}}, body}}),
  simple: () => fetch(chat, {{method: "POST", mode: "no-cors", body}}),
}};
(async () => {{
  for (const [name, attempt] of Object.entries(attempts))
    try {{ const r = await attempt(); told.push(name + "=" + r.type + r.status + (await r.text()).slice(0, 40)); }}
    catch (e) {{ told.push(name + "=blocked"); }}
  document.body.textContent = "DONE " + told.join(" | ");
}})();
</script></body>"""


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("secret-folder") / "my model.gguf")


@contextmanager
def served(gguf: Path, folder: Path, *flags: str, env: dict[str, str] | None = None) -> Iterator[tuple[int, list[str]]]:
    """`lpm serve` as a process; its port and what it said until it answered."""
    port = any_free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LPM_")} | {"PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-m",
        "lpm_kernel",
        "serve",
        "--model",
        gguf,
        "--port",
        port,
        "--workspace",
        folder,
        *flags,
    ]
    with subprocess.Popen(
        [*map(str, command), *flags], stderr=subprocess.PIPE, text=True, env=kept | (env or {}), cwd=folder
    ) as process:
        assert process.stderr is not None
        told: list[str] = []
        for line in process.stderr:
            told.append(line.rstrip("\n"))
            if line.startswith(("curl", "error")):
                break
        try:
            yield port, told
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def port(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with served(gguf, tmp_path_factory.mktemp("ws")) as (number, _):
        yield number


def raw(port: int, *lines: str, body: str = "", host: str = "127.0.0.1") -> tuple[int, str]:
    """Status and the whole reply of a request as it is written here; 0 where nothing came."""
    head = "\r\n".join([*lines, *([f"Content-Length: {len(body)}"] if body else []), "Connection: close", "", ""])
    with socket.create_connection((host, port), timeout=20) as connection:
        connection.sendall((head + body).encode())
        reply = b"".join(iter(lambda: connection.recv(2**16), b"")).decode()
    return int(reply.split(" ", 2)[1]) if reply else 0, reply


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([f"{CHAT} HTTP/1.1", "Host: localhost:{port}", JSON], 200),
        ([f"{CHAT} HTTP/1.1", "Host: LocalHost", "content-type: application/json; charset=utf-8"], 200),
        ([f"{CHAT} HTTP/1.1", "Host: [::1]:{port}", JSON], 200),
        ([f"{CHAT} HTTP/1.1", "Host: 127.0.0.1:9", JSON], 200),  # a forwarded port
        ([f"{CHAT} HTTP/1.1", "Host: 127.0.0.1:{port}", JSON, "Origin: http://127.0.0.1:{port}"], 200),
        ([f"{CHAT} HTTP/1.1", "Host: evil.com", JSON], 421),
        ([f"{CHAT} HTTP/1.1", "Host: evil.com:{port}", JSON], 421),
        ([f"{CHAT} HTTP/1.1", "Host: 127.0.0.1.evil.com:{port}", JSON], 421),
        ([f"{CHAT} HTTP/1.1", "Host: localhost.evil.com", JSON], 421),
        ([f"{CHAT} HTTP/1.1", "Host: localhost@evil.com", JSON], 421),
        ([f"{CHAT} HTTP/1.1", "Host: 127.0.0.1:{port}, evil.com", JSON], 421),
        ([f"{CHAT} HTTP/1.1", "Host: ", JSON], 421),
        ([f"{CHAT} HTTP/1.1", JSON], 400),
        ([f"{CHAT} HTTP/1.0", JSON], 421),
        ([f"{CHAT} HTTP/1.1", "Host: localhost", "Host: evil.com", JSON], 400),
        (["POST http://evil.com/v1/chat/completions HTTP/1.1", "Host: localhost", JSON], 400),
        ([f"{CHAT} HTTP/1.1", "Host: localhost:{port}", JSON, "Origin: https://evil.com"], 403),
        ([f"{CHAT} HTTP/1.1", "Host: localhost:{port}", JSON, "Origin: null"], 403),
        ([f"{CHAT} HTTP/1.1", "Host: localhost:{port}", JSON, "Origin: http://localhost:3000"], 403),
        ([f"{CHAT} HTTP/1.1", "Host: localhost:{port}", JSON, "Origin: https://localhost:{port}"], 403),
        ([f"{CHAT} HTTP/1.1", "Host: localhost", JSON, "Origin: http://localhost", "Origin: https://evil.com"], 403),
        ([f"{CHAT} HTTP/1.1", "Host: localhost", JSON, "Sec-Fetch-Site: cross-site"], 403),
        ([f"{CHAT} HTTP/1.1", "Host: localhost", "Content-Type: text/plain"], 415),
        ([f"{CHAT} HTTP/1.1", "Host: localhost", "Content-Type: application/x-www-form-urlencoded"], 415),
        ([f"{CHAT} HTTP/1.1", "Host: localhost"], 415),
        (["OPTIONS /v1/chat/completions HTTP/1.1", "Host: localhost", "Origin: https://evil.com"], 403),
        (["OPTIONS /v1/chat/completions HTTP/1.1", "Host: localhost"], 405),
        (["GET /v1/models HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade"], 400),
        (["CONNECT evil.com:443 HTTP/1.1", "Host: localhost"], 400),
        (["GET /slots HTTP/1.1", "Host: localhost"], 404),
        (["GET /v1/../slots HTTP/1.1", "Host: localhost"], 404),
        ([f"{CHAT} HTTP/1.1", "Host: localhost", JSON, "X: " + "x" * 100_000], 431),
        ([f"{CHAT} HTTP/1.1", "Host: localhost", JSON, "Transfer-Encoding: chunked", "Content-Length: 3"], 400),
        (["nonsense"], 400),
    ],
    ids=lambda value: re.sub(r"[^\w.:-]+", " ", " ".join(value))[:90] if isinstance(value, list) else str(value),
)
def test_only_a_request_of_this_machine_is_answered(port: int, lines: list[str], status: int) -> None:
    body = BODY if lines[0].startswith("POST") and not any("chunked" in line for line in lines) else ""
    got, reply = raw(port, *(line.replace("{port}", str(port)) for line in lines), body=body)
    assert got == status, reply
    assert "access-control-allow" not in reply.lower()
    assert ("choices" in reply) is (status == 200)


@pytest.mark.parametrize("route", ["GET /v1/models", "GET /props", "GET /health", CHAT, "GET /v1/nothing"])
def test_no_reply_tells_a_path(port: int, gguf: Path, route: str) -> None:
    _, reply = raw(port, f"{route} HTTP/1.1", "Host: localhost", JSON, body=BODY if route == CHAT else "")
    assert "secret-folder" not in reply
    assert str(gguf.parent) not in reply


def test_a_body_without_end_is_refused(port: int) -> None:
    got, _ = raw(
        port, f"{CHAT} HTTP/1.1", "Host: localhost", JSON, f"Content-Length: {LONGEST_BODY_BYTES * 100}", body=""
    )
    assert got == 413


def test_the_client_of_openai_works_and_streams_on_one_connection(port: int) -> None:
    with openai.OpenAI(base_url=f"http://localhost:{port}/v1", api_key="none", max_retries=0) as client:
        name = client.models.list().data[0].id
        question = [{"role": "user", "content": "Who am I?"}]
        for _ in range(2):
            assert client.chat.completions.create(model=name, messages=question, max_tokens=3).model == "my model"  # type: ignore[arg-type]
            chunks = list(client.chat.completions.create(model=name, messages=question, max_tokens=9, stream=True))  # type: ignore[arg-type]
            assert len(chunks) > 9


def pasted(line: str, environ: dict[str, str]) -> dict[str, object]:
    """The JSON that a line of shell prints."""
    done = subprocess.run(["bash", "-c", line], capture_output=True, env=os.environ | environ, timeout=60, check=True)
    return dict(json.loads(done.stdout))


def test_the_curl_line_works_when_pasted_and_a_key_is_asked_for_and_not_told(gguf: Path, tmp_path: Path) -> None:
    environ = {"LPM_SERVE_API_KEY": "canary-of-serve"}
    with served(gguf, tmp_path, env=environ) as (port, told):
        done = subprocess.run(
            ["bash", "-c", told[-1]], capture_output=True, text=True, env=os.environ | environ, check=False
        )
        assert json.loads(done.stdout)["choices"], done.stderr
        assert raw(port, f"{MODELS} HTTP/1.1", "Host: localhost")[0] == 401
        assert raw(port, f"{MODELS} HTTP/1.1", "Host: localhost", "Authorization: Bearer wrong")[0] == 401
        assert raw(port, f"{MODELS} HTTP/1.1", "Host: localhost", "Authorization: Bearer canary-of-serve")[0] == 200
        assert raw(port, "GET /health HTTP/1.1", "Host: localhost")[0] == 200
    assert "canary" not in "".join(told) + "".join(
        p.read_text(errors="replace") for p in tmp_path.rglob("*") if p.is_file()
    )
    with served(gguf, tmp_path, "--api-key") as (port, told):
        assert pasted(told[-1], {})["choices"]
        assert raw(port, f"{MODELS} HTTP/1.1", "Host: localhost")[0] == 401


def test_a_run_sees_which_weights_are_served_without_being_told_a_path(gguf: Path, port: int, tmp_path: Path) -> None:
    other = write_tiny_gguf(tmp_path / "other.gguf", seed=5)
    with connect(gguf, ServingConfig(port=port, engine="xllamacpp"), tmp_path / "a.log") as endpoint:
        assert not endpoint.ours
        assert endpoint.weights_sha256 == file_sha256(gguf)
    with connect(other, ServingConfig(port=port, engine="xllamacpp"), tmp_path / "b.log") as endpoint:
        assert endpoint.ours


class _Dripping(BaseHTTPRequestHandler):
    """A model that writes a piece every 0.2 s, and notes when its asker leaves."""

    left = threading.Event()

    def log_message(self, *_: object) -> None:
        """Silent."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for number in range(50):
                self.wfile.write(f"data: {number}\n\n".encode())
                time.sleep(0.2)
        except OSError:
            self.left.set()


@contextmanager
def door_before(base_url: str) -> Iterator[int]:
    """A door before any server, in a thread."""
    port, endpoint = any_free_port(), Endpoint(base_url, SecretStr("behind"), "m.gguf", 1, "test", ours=True)
    closing = threading.Event()

    async def stay_open() -> None:
        opening = asyncio.ensure_future(Door(endpoint, NO_KEY).stay_open(port, ""))
        while not closing.is_set():
            await asyncio.sleep(0.02)
        opening.cancel()

    thread = threading.Thread(target=lambda: asyncio.run(stay_open()))
    thread.start()
    while is_free(port):
        time.sleep(0.01)
    try:
        yield port
    finally:
        closing.set()
        thread.join()


def test_a_stream_goes_on_piece_by_piece_and_ends_with_its_reader() -> None:
    server = HTTPServer(("127.0.0.1", 0), _Dripping)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with door_before(f"http://127.0.0.1:{server.server_port}/v1") as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        begun = time.monotonic()
        connection.request("POST", "/v1/chat/completions", BODY, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        assert reply.readline() == b"data: 0\n"
        assert time.monotonic() - begun < 2  # the whole takes 10 s
        connection.sock.shutdown(socket.SHUT_RDWR)
        reply.close()
        connection.close()
        assert _Dripping.left.wait(5)
    server.shutdown()
    server.server_close()


def test_who_sends_without_end_while_an_answer_is_written_is_cut_off() -> None:
    server = HTTPServer(("127.0.0.1", 0), _Dripping)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with (
        door_before(f"http://127.0.0.1:{server.server_port}/v1") as port,
        socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
    ):
        lines = (f"{CHAT} HTTP/1.1", "Host: localhost", JSON, f"Content-Length: {len(BODY)}", "", BODY)
        connection.sendall("\r\n".join(lines).encode())
        sent = 0
        with suppress(OSError):
            while sent < 8 * LONGEST_BODY_BYTES:
                sent += connection.send(b"x" * 2**16)
        assert sent < 4 * LONGEST_BODY_BYTES
    server.shutdown()
    server.server_close()


def test_a_server_behind_that_is_gone_is_told() -> None:
    with door_before(f"http://127.0.0.1:{any_free_port()}/v1") as port:
        assert raw(port, f"{CHAT} HTTP/1.1", "Host: localhost", JSON, body=BODY)[0] == 502


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("name", ["attacker.example", "rebound.example"])
def test_a_page_in_a_real_browser_reads_nothing_and_starts_no_answer(name: str, tmp_path: Path) -> None:
    """attacker.example is another origin; rebound.example is the server's own address under a foreign name."""
    calls: list[str] = []

    class Page(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Silent."""

        def do_GET(self) -> None:
            raw_page = PAGE.format(url=target).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(raw_page)

    with ScriptedServer() as model, door_before(model.base_url) as port:
        pages = HTTPServer(("127.0.0.1", 0), Page)
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        target = f"http://{'127.0.0.1' if name == 'attacker.example' else name}:{port}"
        assert CHROMIUM
        done = subprocess.run(
            [
                *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"),
                *("--host-resolver-rules=MAP *.example 127.0.0.1", "--virtual-time-budget=20000", "--dump-dom"),
                f"http://{name}:{pages.server_port}/",
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        pages.shutdown()
        pages.server_close()
        calls = [call.key for call in model.calls]
    told = re.search(r"DONE ([^<]*)", done.stdout)
    assert told, done.stdout + done.stderr
    for attempt in told[1].split(" | "):
        assert attempt.split("=")[1] == "blocked" or attempt.split("=")[1].startswith("opaque"), told[1]
    assert "m" not in [attempt.split("=")[1] for attempt in told[1].split(" | ")]
    assert calls == []
