"""Killed at any moment, the next run finishes the work: nothing half, nothing lost, nothing asked twice.

A fixed set of kill points; `tests/soak/kill.py` draws as many random ones as one likes over the whole chain.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import BIO, ROOT, owner_items
from dying_publisher import NAMES, publish, read
from kill_laws import (
    Asked,
    Scripted,
    half_made,
    journal_rows,
    litter,
    naming,
    questions_of,
    repetition,
    rewritten,
    scripted,
    survivors,
)
from tiny_gguf import write_tiny_gguf

from lpm_kernel.serving.probe import any_free_port
from lpm_kernel.workspace.lock import is_locked, lock
from lpm_kernel.workspace.places import Workspace

DEADLINE_S = 120.0
GIVEN = ("lpm.gguf",)
IN_FLIGHT = 2 * (12 // 3 + 1 + 8)
"""Prompts under way, for 12 slots and 8 verdicts at a time, each with one question to the model or two to the judge."""
PAIRS = ("dpo_full.json", "dpo_direct.json", "verdicts", "pairs_account", "prompts")


@pytest.fixture(params=["nothing", "ours", "owners"])
def killed(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, list[Path]]:
    """What was in the workspaces, and these, each publish in them killed one call later than the one before."""
    program = [sys.executable, str(ROOT / "tests/dying_publisher.py"), str(tmp_path), request.param]
    subprocess.run(program, check=True, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return request.param, list(tmp_path.iterdir())


def test_killed_at_any_call_of_a_publish_all_is_whole_or_absent_and_the_next_one_completes_it(
    killed: tuple[str, list[Path]],
) -> None:
    before, roots = killed
    assert len(roots) > 25
    for root in roots:
        assert before == "owners" or half_made(root) == []
        publish(root, "new")
        assert read(root) == {name: f"new {name}" for name in NAMES}
        assert half_made(root) == []
        assert before == "owners" or litter(root) == []


@pytest.mark.parametrize("killed", ["owners"], indirect=True)
def test_what_was_the_owners_outlives_any_kill_once(killed: tuple[str, list[Path]]) -> None:
    for root in killed[1]:
        publish(root, "new")
        texts = [p.read_text() for p in root.rglob("*") if p.is_file()]
        assert sorted(t for t in texts if t.startswith("mine")) == sorted(f"mine {name}" for name in NAMES)


# The chain up to the pairs --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    with scripted(tmp_path_factory.mktemp("scripted") / "calls.jsonl") as running:
        yield running


@pytest.fixture
def make_place(tmp_path: Path) -> Callable[..., Path]:
    """An owner's workspace with a model that answers and a judge that judges; the root."""

    def make(name: str, judge_url: str, model_url: str = "", max_tokens: int = 16) -> Path:
        place = Workspace(tmp_path / name)
        for artifact, text in {"merged.json": json.dumps(owner_items()), "global_bio": BIO}.items():
            place.place(artifact).parent.mkdir(parents=True, exist_ok=True)
            place.place(artifact).write_text(text, encoding="utf-8")
        place.place("lpm.gguf").parent.mkdir(parents=True)
        write_tiny_gguf(place.place("lpm.gguf"))
        place.settings_path.parent.mkdir()
        table: dict[str, str | int | bool] = {
            "endpoint": model_url,
            "judge_base_url": judge_url,
            "max_tokens": max_tokens,
        }
        table["accept_judge"] = True
        table["port"] = any_free_port()  # whatever this machine runs on the default one
        lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
        place.settings_path.write_text(
            "\n".join(["[dpo-data]", *lines, "[judge-exam]", 'judge = "reference"']), encoding="utf-8"
        )
        return place.root

    return make


@contextmanager
def pipeline(root: Path) -> Iterator[subprocess.Popen[str]]:
    """`lpm pipeline --until dpo-data`, under way."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LPM_", "OPENAI_"))}
    command = [sys.executable, "-m", "lpm_kernel", "pipeline", "--workspace", str(root), "--until", "dpo-data"]
    environment = {**kept, "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "scripted"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=root.parent, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def until(happened: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not happened():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def finish(root: Path) -> str:
    """Run to the end; the screen."""
    with pipeline(root) as process:
        screen = process.communicate(timeout=DEADLINE_S)[1]
    assert process.returncode == 0, screen
    return screen


def run_and_kill(root: Path, server: Scripted, started: int, questions: int) -> None:
    """Kill when so many different questions have come since the server's log had `started` of them."""
    with pipeline(root) as process:
        until(lambda: len(set(server.asked()[started:])) >= questions, process)
        process.kill()


def kill_points(asked: list[Asked]) -> tuple[int, int, int]:
    """How far a whole run is, in questions: amid the judge's examination, the sampling, the verdicts."""
    first, *_, last = (n for n, question in enumerate(asked) if question.behaviour == "model-slow")
    return first // 2, (first + last) // 2, (last + len(asked)) // 2


def pairs(root: Path) -> dict[str, bytes]:
    return {name: Workspace(root).place(name).read_bytes() for name in PAIRS}


def test_killed_while_sampling_and_judging_nothing_journaled_is_asked_again(
    server: Scripted, make_place: Callable[..., Path]
) -> None:
    whole, killed = (make_place(name, server.url("judge-slow"), server.url("model-slow")) for name in ("a", "b"))
    before = len(server.asked())
    finish(whole)
    started = len(server.asked())
    for questions in (*kill_points(server.questions()[before:]), None):
        earlier, rows = server.settled()[started:], journal_rows(killed, "dpo-data")
        if questions is None:
            finish(killed)
        else:
            run_and_kill(killed, server, started, questions)
        asked = repetition(earlier, server.asked()[started + len(earlier) :], questions_of(rows, answers=3))
        assert asked.repeated <= asked.allowed <= IN_FLIGHT
        assert rewritten(rows, journal_rows(killed, "dpo-data")) == []
        assert half_made(killed, GIVEN) == []
    assert len(set(server.asked()[started:])) == questions_of(journal_rows(killed, "dpo-data"), answers=3)
    assert pairs(killed) == pairs(whole)
    assert litter(killed) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_signal_ends_the_run_and_its_server(
    number: int, code: int, server: Scripted, make_place: Callable[..., Path]
) -> None:
    """It comes while the run's own model server, a child, writes long answers."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored under a shell's `&`, and children inherit that
    root = make_place("a", server.url("judge-slow"), max_tokens=400)
    with pipeline(root) as process:
        until(lambda: journal_rows(root, "dpo-data"), process)
        assert set(naming(root)) > {process.pid}
        process.send_signal(number)
        process.communicate(timeout=DEADLINE_S)
    assert process.returncode == code
    assert survivors(root) == {}


def test_a_second_run_during_a_first_exits_75_and_names_it(server: Scripted, make_place: Callable[..., Path]) -> None:
    root = make_place("a", server.url("stall"), server.url("model"))
    before = len(server.asked())
    with pipeline(root) as first:
        until(lambda: len(server.asked()) > before, first)
        with pipeline(root) as second:
            screen = second.communicate(timeout=DEADLINE_S)[1]
        assert first.poll() is None
    assert (second.returncode, f"in use by process {first.pid}" in screen) == (75, True)


def test_who_only_looks_at_the_workspace_stops_no_run(make_place: Callable[..., Path]) -> None:
    """`lpm status` asks again and again whether a run holds the workspace."""
    workspace = Workspace(make_place("a", ""))
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            is_locked(workspace)

    looking = threading.Thread(target=look)
    looking.start()
    taken = 0
    try:
        for _ in range(300):
            with lock(workspace):
                taken += 1
    finally:
        over.set()
        looking.join()
    assert taken == 300
