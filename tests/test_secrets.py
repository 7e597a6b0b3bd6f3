"""No byte that a run writes or hands on holds a secret, and nothing that a server sends steers the terminal."""

import contextlib
import json
import os
import pty
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import psutil
import pytest
from conftest import ROOT
from scripted_server import Behaviour, Call, Reply, ScriptedServer, better, model, refuse, verdict
from tiny_gguf import write_tiny_gguf

from lpm_kernel.serving.probe import any_free_port
from lpm_kernel.workspace.places import Workspace

KEYS = {name: f"CANARY-{name}" for name in ("OPENAI_API_KEY", "LPM_ENDPOINT_KEY", "GH_PAT")}
LOGINS = ("ada:p@CANARY-of-judge", "bob:p@CANARY-of-endpoint")
OTHERS = {"DATABASE_URL": "postgres://u:CANARY-db@h/d", "https_proxy": "http://u:CANARY-proxy@127.0.0.1:9"}
SIGNS = (b"CANARY", *(b64encode(login.encode()) for login in LOGINS))
EVIL = (
    "\x1b]52;c;RVZJTA==\x07\x1b]8;;http://evil\x1b\\\x1b[31mred\x9b31m\u202eturned\r[red]markup[/red][link=http://evil]x[/link]"
    "\nerror: forged\u2028\U000e0041"
)


def sent(key: str, login: str) -> str:
    """What a server was sent: a key, or a user and password."""
    return f"{login} {login.partition(':')[2]} {b64encode(login.encode()).decode()}" if login else KEYS[key]


def talker(kind: str, words: str) -> Behaviour:
    """A judge that repeats what it was sent."""

    def chatty(call: Call) -> Reply:
        return Reply((json.dumps(json.loads(verdict(call, better(call))) | {"detailed_analysis": words}),))

    kinds: dict[str, Behaviour] = {
        "chatty": chatty,
        "401": lambda _: refuse(401, f"wrong key <authorization> {words}"),
        "422": lambda _: refuse(422, f"bad request <authorization> {words}"),
        "500": lambda _: refuse(500, f"<authorization> {words}"),
        "redirect": lambda _: refuse(302, f"moved {words}", Location=f"http://127.0.0.1:9/{words.split()[0]}"),
        "prose": lambda _: Reply((f"I cannot say: {words}",)),
    }
    return kinds[kind]


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LPM_", "OPENAI_"))}
    return {**kept, **KEYS, **OTHERS, "PYTHONPATH": str(ROOT), "LPM_PORT": str(any_free_port()), **more}


def seen_in_children(process: psutil.Process) -> bytes:
    """Command lines and environments of a process's descendants, but for forks that did not become a program yet."""
    found = b""
    with contextlib.suppress(psutil.Error, OSError):
        own = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        for child in process.children(recursive=True):
            with contextlib.suppress(OSError):
                folder = Path(f"/proc/{child.pid}")
                environ, line = (folder / "environ").read_bytes(), (folder / "cmdline").read_bytes()
                found += environ + line if line != own else b""
    return found


def ran(arguments: list[str], environ: dict[str, str]) -> tuple[bytes, bytes]:
    """What `lpm` told, and the command lines and environments of its children."""
    command = [sys.executable, "-m", "lpm_kernel", *arguments]
    handed_on = b""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ) as run:
        while run.poll() is None:
            handed_on += seen_in_children(psutil.Process(run.pid))
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.wait(0.1)
        assert run.stdout is not None
        return run.stdout.read(), handed_on


CASES = [("chatty", False, False), ("chatty", True, False), ("401", False, False), ("422", True, False)]
CASES += [("500", True, False), ("redirect", False, False), ("prose", True, True)]


@pytest.mark.parametrize(("judge", "login", "own_server"), CASES)
def test_no_byte_that_a_run_writes_or_hands_on_holds_a_secret(
    judge: str, login: bool, own_server: bool, workspace: Workspace
) -> None:
    if own_server:
        workspace.place("lpm.gguf").parent.mkdir(parents=True)
        write_tiny_gguf(workspace.place("lpm.gguf"))
    told_judge, told_model = (sent(key, name if login else "") for key, name in zip(KEYS, LOGINS, strict=False))
    parrot: Behaviour = lambda call: Reply((*model(call).texts[:-1], told_model))  # noqa: E731
    with ScriptedServer(talker(judge, told_judge)) as judging, ScriptedServer(parrot) as serving:
        asked, behind = (f"http://{f'{name}@' if login else ''}" for name in LOGINS)
        environ = environment(OPENAI_BASE_URL=f"{asked}127.0.0.1:{judging.port}/v1")
        environ |= {} if own_server else {"LPM_ENDPOINT": f"{behind}127.0.0.1:{serving.port}/v1"}
        flags = ["--workspace", str(workspace.root), "--judge-timeout-s", "1", "--max-tokens", "16"]
        told, handed_on = ran(["run", "dpo-data", *flags], environ)
    assert own_server or (serving.calls and judging.calls)
    assert not own_server or b"xllamacpp_child" in handed_on
    assert b"Traceback" not in told
    written = {path: path.read_bytes() for path in workspace.root.rglob("*") if path.is_file()}
    assert written
    assert not [(path, sign) for path, data in written.items() for sign in SIGNS if sign in data]
    assert not [sign for sign in SIGNS if sign in told + handed_on], told.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "dpo-data", "--endpoint", "http://u:p@CANARY@127.0.0.1:9/v1"],
        ["run", "dpo-data", "--judge_base_url", "u:p@CANARY@127.0.0.1:9/v1"],
        ["run", "dpo-data", "--judge_base_url=https://h/v1?api_key=CANARY"],
        ["run", "dpo-data", "--seed", "http://u:p@CANARY@h"],
        ["pipeline", "--dry-run", "--set", "endpoint=http://u:CANARY@h/v1"],
        ["pipeline", "--dry-run", "--set", "dpo-data.endpoint=//u:CANARY@h"],
        ["pipeline", "http://u:CANARY@h/v1"],
        ["http://u:CANARY@h/v1"],
    ],
    ids=lambda arguments: " ".join(arguments[-2:]),
)
def test_no_message_repeats_a_password_that_was_typed(arguments: list[str], workspace: Workspace) -> None:
    command = [sys.executable, "-m", "lpm_kernel", *arguments]
    environ = environment(LPM_WORKSPACE=str(workspace.root))
    done = subprocess.run(command, capture_output=True, env=environ, timeout=60, check=False)
    assert done.returncode in (64, 78)
    assert done.stderr.startswith(b"error: ")
    assert b"CANARY" not in done.stdout + done.stderr


def on_a_terminal(*arguments: str, environ: dict[str, str]) -> str:
    """What `lpm` writes to a pseudo-terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "lpm_kernel", *arguments]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ | {"TERM": "xterm-256color", "COLUMNS": "500"}
    ):
        os.close(theirs)
        parts = []
        with contextlib.suppress(OSError):  # how a terminal ends
            while part := os.read(ours, 2**16):
                parts.append(part)
    os.close(ours)
    return b"".join(parts).decode()


HOSTILE: dict[str, Behaviour] = {
    "a name": model,
    "an error": lambda _: refuse(400, EVIL),
    "an outage": lambda _: refuse(500, EVIL),
    "an answer": lambda call: Reply((EVIL,) * call.n, finish_reason=EVIL),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("command", ["doctor", "run dpo-data"])
def test_nothing_that_a_server_sends_steers_the_terminal(kind: str, command: str, workspace: Workspace) -> None:
    name = f"evil{EVIL}" if kind == "a name" else "m"
    with ScriptedServer(HOSTILE[kind], model=name, model_path=EVIL) as server:
        environ = environment(OPENAI_BASE_URL=server.base_url, LPM_PORT=str(server.port))
        environ |= {"LPM_ENDPOINT": server.base_url} if kind == "an outage" else {}
        shown = on_a_terminal(*command.split(), "--workspace", str(workspace.root), environ=environ)
    log = "".join(p.read_text() for p in workspace.root.rglob("log.txt"))
    for sign in ("\x1b]", "\x07", "\x9b", "\u202e", "\u2028", "\U000e0041", "\x1b[31mred", "\rturned"):
        assert sign not in shown, repr(shown)
        assert sign not in log
    assert not [line for line in (shown + log).splitlines() if line.startswith("error: forged")]
    if kind == "a name":
        assert "[red]markup[/red]" in shown
