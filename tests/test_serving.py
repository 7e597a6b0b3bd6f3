"""Our own servers live as long as their block and no longer; others' servers are used or left alone."""

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr
from scripted_server import ScriptedServer
from tiny_gguf import CONTEXT, write_tiny_gguf

from lpm_kernel.checkout import CHECKOUT
from lpm_kernel.errors import DataError, LpmError, MissingInputError, PermissionDeniedError, ServiceError
from lpm_kernel.files import file_sha256
from lpm_kernel.journal import Journal, open_journal
from lpm_kernel.models.gguf_header import read_header
from lpm_kernel.records import Answer, Message, Prompt
from lpm_kernel.serving import child as process
from lpm_kernel.serving import listener, own_server, probe
from lpm_kernel.serving.client import ChatClient, Completion, RefusedError
from lpm_kernel.serving.concurrency import together
from lpm_kernel.serving.connect import connect
from lpm_kernel.serving.control_routes import ControlRoutes
from lpm_kernel.serving.endpoint import Endpoint, ServingConfig
from lpm_kernel.serving.engines import ENGINES, llama_cpp_python, llama_server
from lpm_kernel.serving.front import serve_forever
from lpm_kernel.serving.http import UnansweredError, fetch_json
from lpm_kernel.serving.own_server import serve
from lpm_kernel.serving.sampling import SamplingConfig, sample

FAKE = """#!{python}
import os, sys
if "--help" in sys.argv:
    sys.exit(print("--cache-ram N  --no-cache-idle-slots  --no-webui, --no-slots"))
given = dict(zip(sys.argv[1:], sys.argv[2:]))
{deed}
child = ["-m", "lpm_kernel.serving.engines.xllamacpp_child", "--model", given["-m"], "--port", given["--port"]]
child += ["--slots", given["-np"], "--context-tokens", given["-c"], "--threads", given["-t"]]
os.execv(sys.executable, [sys.executable, *child])
"""

PARENT = """
import sys, time
from pathlib import Path
from lpm_kernel.serving.endpoint import ServingConfig
from lpm_kernel.serving.own_server import serve
with serve(Path(sys.argv[1]), ServingConfig(engine="xllamacpp", port=int(sys.argv[2])), Path(sys.argv[3])) as endpoint:
    print(endpoint.pid, flush=True)
    time.sleep(60)
"""
HANG = """
import signal, time
os.fork()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open("{pids}", "a").write(str(os.getpid()) + " ")
time.sleep(60)
"""

VARIANTS = """
import pathlib
here = pathlib.Path(__file__).parent
best = max(here.glob("libggml-cpu-*.so"), default=None)
if best is None:
    sys.exit("no CPU backend")
print(f"load_backend: loaded CPU backend from {best}", flush=True)
if "sapphire" in best.name and "q8_0" in given["-m"]:
    os.kill(os.getpid(), 4)
"""


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture
def port() -> int:
    return free_port()


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def own(port: int, **more: object) -> ServingConfig:
    return ServingConfig.model_validate({"engine": "xllamacpp", "port": port, "slots": 3, **more})


def ask(endpoint: Endpoint, n: int = 1, seed: int = 1, text: str = "Where does Ada live?") -> list[Completion]:
    async def run() -> list[Completion]:
        async with ChatClient(endpoint, timeout_s=20, max_in_flight=2) as client:
            question = [Message(role="user", content=text)]
            return await client.chat(question, n=n, temperature=1.0, max_tokens=16, seed=seed)

    return asyncio.run(run())


def alive(pid: int | None) -> bool:
    """Whether the process runs; one that is dead and not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def soon(holds: Callable[[], bool], within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def fake_llama_server(folder: Path, monkeypatch: pytest.MonkeyPatch, deed: str = "") -> Path:
    """The only llama-server here: does the deed, then serves as xllamacpp would."""
    path = folder / "llama-server"
    path.write_text(FAKE.format(python=sys.executable, deed=deed))
    path.chmod(0o755)
    monkeypatch.setattr(llama_server, "BINARIES", ())
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return path


# Our own --------------------------------------------------------------------------------------------------------


def test_a_server_answers_in_its_block_and_is_gone_after_it(gguf: Path, port: int, tmp_path: Path) -> None:
    with serve(gguf, own(port), tmp_path / "server.log") as endpoint:
        assert endpoint.base_url == f"http://127.0.0.1:{port}/v1"
        assert endpoint.ours
        assert len({c.text for c in ask(endpoint, n=3)}) == 3
    assert not alive(endpoint.pid)
    assert (tmp_path / "server.log").stat().st_size > 0


@pytest.mark.parametrize("thrown", [ValueError, DataError, KeyboardInterrupt, SystemExit])
def test_an_exception_in_the_block_stops_the_server_and_travels_on(
    gguf: Path, port: int, tmp_path: Path, thrown: type[BaseException]
) -> None:
    with pytest.raises(thrown), serve(gguf, own(port), tmp_path / "server.log") as endpoint:
        raise thrown
    assert not alive(endpoint.pid)


def test_a_server_dies_with_its_killed_parent(gguf: Path, port: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(gguf), str(port), str(tmp_path / "server.log")]
    environ = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environ) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    assert soon(lambda: not alive(pid), within_s=5)


def test_a_death_behind_a_foreign_error_is_told_too(gguf: Path, port: int, tmp_path: Path) -> None:
    with (  # noqa: PT012 - the error comes at the end of `serve`
        pytest.raises(ServiceError, match="SIGKILL") as caught,
        serve(gguf, own(port), tmp_path / "server.log") as endpoint,
    ):
        assert endpoint.pid
        os.kill(endpoint.pid, signal.SIGKILL)
        raise ConnectionResetError("by peer")
    assert isinstance(caught.value.__cause__, ConnectionResetError)


def test_the_key_is_needed_and_stands_on_no_command_line(gguf: Path, port: int, tmp_path: Path) -> None:
    with serve(gguf, own(port), tmp_path / "server.log") as endpoint:
        with pytest.raises(UnansweredError, match="401"):
            fetch_json(f"{endpoint.base_url}/models")
        with pytest.raises(UnansweredError, match="401"):
            fetch_json(f"{endpoint.base_url}/models", api_key=SecretStr("wrong"))
        assert probe.listed_models(endpoint.base_url, endpoint.api_key)
        assert endpoint.api_key.get_secret_value() not in Path(f"/proc/{endpoint.pid}/cmdline").read_text()
    assert endpoint.api_key.get_secret_value() not in repr(endpoint) + (tmp_path / "server.log").read_text()


def test_the_server_inherits_neither_settings_nor_secrets(
    gguf: Path, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LLAMA_ARG_N_PARALLEL", "LLAMA_ARG_PORT", "OPENAI_API_KEY", "HF_TOKEN", "LPM_ENDPOINT_KEY"):
        monkeypatch.setenv(name, "17")
    with serve(gguf, own(port), tmp_path / "server.log") as endpoint:
        inherited = Path(f"/proc/{endpoint.pid}/environ").read_text().split("\0")
        assert not [line for line in inherited if line.endswith("=17")]
        assert probe.props(endpoint.base_url, endpoint.api_key)["total_slots"] == 3


def test_it_leads_a_group_of_its_own_and_listens_on_loopback_only(gguf: Path, port: int, tmp_path: Path) -> None:
    with serve(gguf, own(port), tmp_path / "server.log") as endpoint:
        assert endpoint.pid
        assert os.getpgid(endpoint.pid) == endpoint.pid
        listening = Path(f"/proc/{endpoint.pid}/net/tcp").read_text().upper()
        assert f"0100007F:{port:04X}" in listening
        assert f"00000000:{port:04X}" not in listening


def test_a_slot_is_no_longer_than_the_model_allows(gguf: Path, port: int, tmp_path: Path) -> None:
    with serve(gguf, own(port, slot_tokens=100_000), tmp_path / "server.log") as endpoint:
        assert f"--context-tokens\0{3 * CONTEXT}\0" in Path(f"/proc/{endpoint.pid}/cmdline").read_text()


def test_two_servers_at_once_take_two_ports(gguf: Path, port: int, tmp_path: Path) -> None:
    with serve(gguf, own(port), tmp_path / "a.log") as first, serve(gguf, own(port), tmp_path / "b.log") as second:
        assert first.base_url != second.base_url
        assert ask(first) == ask(second)


# A child that dies ---------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No patience between two starts."""
    monkeypatch.setattr(own_server, "FIRST_WAIT_S", 0.01)


async def sampled(endpoint: Endpoint, journal: Journal, kill_at: Sequence[int]) -> list[list[Answer]]:
    """Two answers to each of 60 prompts; the server is killed as soon as the journal holds so many."""
    config = SamplingConfig.model_validate({"max_tokens": 48, "temperature": 1.0})
    asked = [Message(role="user", content=f"Say {row}") for row in range(60)]
    prompts = [Prompt(id=m.content, row=0, variant="", messages=(m,), target="") for m in asked]

    async def kill() -> None:
        for answers in kill_at:
            while len(journal) < answers or endpoint.health().state == "down":
                await asyncio.sleep(0.001)
            os.kill(endpoint.health().pid or 0, signal.SIGKILL)

    async with ChatClient(endpoint, timeout_s=20, max_in_flight=3) as client:
        killing = asyncio.ensure_future(kill())
        found = await together(*(sample(client, journal, p, config, count=2, model="tiny") for p in prompts))
        await killing
        return found


@pytest.mark.usefixtures("quick")
def test_a_server_that_is_killed_while_it_samples_is_started_again_and_no_answer_is_lost_or_doubled(
    gguf: Path, port: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        open_journal(tmp_path / "journal.sqlite") as journal,
        serve(gguf, own(port), tmp_path / "server.log") as endpoint,
    ):
        answers = asyncio.run(sampled(endpoint, journal, (20, 70)))
        assert len(journal) == 120
        assert endpoint.health().starts == 3
        os.kill(last := endpoint.health().pid or 0, 0)
    assert [len(of) for of in answers] == [2] * 60
    with (
        open_journal(tmp_path / "undisturbed.sqlite") as journal,
        serve(gguf, own(port), tmp_path / "server.log") as endpoint,
    ):
        assert asyncio.run(sampled(endpoint, journal, ())) == answers
    assert caplog.text.count("died of SIGKILL") == 2
    assert "server again (2 of at most 5; no answer is lost)" in caplog.text
    assert not alive(last)


@pytest.mark.usefixtures("quick")
def test_a_server_that_always_dies_is_given_up_after_five_new_starts(
    gguf: Path,
    port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    deed = f"if os.path.exists({str(tmp_path / 'second')!r}): os.kill(os.getpid(), 11)"
    fake_llama_server(tmp_path, monkeypatch, deed=deed)
    with (  # noqa: PT012 - the error comes at the end of `serve`
        pytest.raises(ServiceError, match=r"(?s)again 5 times.*what was answered is kept.*SIGSEGV.*broken") as caught,
        serve(gguf, own(port, engine="llama-server"), tmp_path / "server.log") as endpoint,
    ):
        (tmp_path / "second").touch()
        os.kill(endpoint.pid or 0, signal.SIGKILL)
        ask(endpoint)
    assert caught.value.exit_code == 69
    assert [f"({again} of at most 5;" in caplog.text for again in range(1, 7)] == [True] * 5 + [False]
    assert endpoint.health().state == "lost"
    assert not [c for c in psutil.Process().children(recursive=True) if c.is_running() and str(port) in c.cmdline()]


@pytest.mark.usefixtures("quick")
def test_a_question_to_a_control_route_outlives_the_server_too(gguf: Path, port: int, tmp_path: Path) -> None:
    with serve(gguf, own(port), tmp_path / "server.log") as endpoint:
        routes = ControlRoutes(endpoint)
        before = routes.greedy("Where does Ada live?", 400)
        killing = threading.Timer(0.05, os.kill, (endpoint.pid or 0, signal.SIGKILL))
        killing.start()
        assert [routes.greedy("Where does Ada live?", 400) for _ in range(9)] == [before] * 9
        assert endpoint.health().starts == 2


@pytest.mark.usefixtures("quick")
def test_another_file_in_the_place_of_the_served_one_is_not_served_at_a_new_start(port: int, tmp_path: Path) -> None:
    served = write_tiny_gguf(tmp_path / "served.gguf")
    with (  # noqa: PT012 - the error comes at the end of `serve`
        pytest.raises(ServiceError, match=r"no longer the file that was served"),
        serve(served, own(port), tmp_path / "server.log") as endpoint,
    ):
        write_tiny_gguf(tmp_path / "other.gguf", seed=1).replace(served)
        os.kill(endpoint.pid or 0, signal.SIGKILL)
        ask(endpoint)


def test_a_server_loads_nothing_from_the_current_folder(
    gguf: Path, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xllamacpp.py").write_text("open('was-here', 'w'); raise SystemExit('a stranger')")
    monkeypatch.chdir(tmp_path)
    with serve(gguf, own(port), tmp_path / "server.log") as endpoint:
        assert Path(f"/proc/{endpoint.pid}/cwd").resolve() == Path("/")
    assert not (tmp_path / "was-here").exists()


# Engines --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    if not ENGINES[request.param].find():
        pytest.skip(f"{request.param} is not here; {ENGINES[request.param].cure} puts it here")
    return str(request.param)


def test_every_engine_here_answers_as_xllamacpp_does(gguf: Path, port: int, tmp_path: Path, engine: str) -> None:
    with (
        serve(gguf, own(port), tmp_path / "a.log") as first,
        serve(gguf, own(port, engine=engine), tmp_path / "b.log") as second,
    ):
        assert second.engine == engine
        assert ask(second, n=5) == [c for s in range(1, 6) for c in ask(first, seed=s)]
        expected, found = ControlRoutes(first), ControlRoutes(second)
        for text in ("Grüße, 你好 🙂 \0", "<|im_end|>", ""):
            prompt = expected.render([{"role": "user", "content": text}])
            assert found.render([{"role": "user", "content": text}]) == prompt
            assert found.token_ids(prompt) == expected.token_ids(prompt)
            assert found.greedy(prompt, 12).ids == expected.greedy(prompt, 12).ids
            assert found.greedy(prompt, 1).first == pytest.approx(expected.greedy(prompt, 1).first, abs=0.001)


@pytest.mark.usefixtures("quick")
def test_every_engine_is_ours_alone_and_comes_back(gguf: Path, port: int, tmp_path: Path, engine: str) -> None:
    with serve(gguf, own(port, engine=engine), tmp_path / "server.log") as endpoint:
        for key in ("", "wrong"):
            with pytest.raises(UnansweredError, match="401"):
                fetch_json(f"{endpoint.base_url}/chat/completions", api_key=SecretStr(key), body={"messages": []})
        assert endpoint.api_key.get_secret_value() not in Path(f"/proc/{endpoint.pid}/cmdline").read_text()
        assert f"00000000:{port:04X}" not in Path(f"/proc/{endpoint.pid}/net/tcp").read_text().upper()
        assert probe.props(endpoint.base_url, endpoint.api_key)["model_path"] == str(gguf)
        with pytest.raises(RefusedError):
            ask(endpoint, text="long " * CONTEXT)
        before = ask(endpoint, n=3)
        os.kill(endpoint.pid or 0, signal.SIGKILL)
        assert ask(endpoint, n=3) == before
        assert endpoint.health().starts == 2
    assert not alive(endpoint.health().pid)


def test_the_engines_stand_in_the_order_of_their_speed() -> None:
    assert list(ENGINES) == ["llama-server", "xllamacpp", "llama-cpp-python"]


def test_llama_cpp_python_is_told_by_its_distribution_not_by_a_module_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "llama_cpp.py").touch()
    before = [program.path for program in llama_cpp_python.find()]
    folder = tmp_path / "llama_cpp_python-9.9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: llama-cpp-python\nVersion: 9.9\n")
    assert before != [p.path for p in llama_cpp_python.find()] == ["llama-cpp-python 9.9"]


def test_a_variant_that_dies_of_a_signal_is_left_out_and_the_next_one_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fake_llama_server(tmp_path, monkeypatch, deed=VARIANTS)
    for name in ("sapphirerapids", "haswell"):
        (tmp_path / f"libggml-cpu-{name}.so").touch()
    command = [sys.executable, str(CHECKOUT / "scripts/try_llama_server"), str(path)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    assert "libggml-cpu-sapphirerapids.so died of SIGILL on a tiny q8_0 model" in told.stderr
    assert [p.name for p in (tmp_path / "left-out").iterdir()] == ["libggml-cpu-sapphirerapids.so"]
    (tmp_path / "libggml-cpu-haswell.so").unlink()
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (told.returncode, "does not serve" in told.stderr) == (1, True)


def test_a_llama_server_on_the_path_is_preferred_and_gets_the_flags_that_it_knows(
    gguf: Path, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_path = tmp_path / "server.log"
    fake_llama_server(tmp_path, monkeypatch, deed="print(*sys.argv[1:], flush=True)")
    with serve(gguf, own(port, engine="auto"), log_path) as endpoint:
        assert endpoint.engine == "llama-server"
    told = log_path.read_text().splitlines()[0]
    assert f"--host 127.0.0.1 --port {port} -np 3 -c {3 * CONTEXT} -kvu" in told
    assert "--cache-ram 0 --no-cache-idle-slots" in told
    assert "--offline" not in told
    assert endpoint.api_key.get_secret_value() not in told


def test_a_binary_that_dies_of_sigill_is_replaced_and_named(
    gguf: Path, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = fake_llama_server(tmp_path, monkeypatch, deed="os.kill(os.getpid(), 4)")
    with serve(gguf, own(port, engine="auto"), tmp_path / "server.log") as endpoint:
        assert endpoint.engine == "xllamacpp"
        assert ask(endpoint)
    told = caplog.text
    assert str(path) in told
    assert "SIGILL" in told
    assert "another processor" in told


def test_a_server_that_never_gets_ready_is_given_up_and_killed_with_its_children(
    gguf: Path, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids_path = tmp_path / "pids"
    fake_llama_server(tmp_path, monkeypatch, deed=HANG.format(pids=pids_path))
    monkeypatch.setattr(process, "GRACE_S", 0.2)
    with (
        pytest.raises(ServiceError, match=r"not ready after 1 s"),
        serve(gguf, own(port, engine="llama-server", start_timeout_s=1), tmp_path / "server.log"),
    ):
        pytest.fail("it cannot be ready")
    pids = [int(pid) for pid in pids_path.read_text().split()]
    assert len(pids) == 2
    assert soon(lambda: not any(alive(pid) for pid in pids), within_s=3)


def test_without_an_engine_the_cure_is_told(
    gguf: Path, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_server, "BINARIES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(ServiceError, match=r"(?s)none is here.*scripts/build-llama-cpp"),
        serve(gguf, own(port, engine="llama-server"), tmp_path / "server.log"),
    ):
        pytest.fail("there is none")


# Files ----------------------------------------------------------------------------------------------------------


def test_a_cut_file_is_refused_before_any_server_starts(gguf: Path, port: int, tmp_path: Path) -> None:
    whole = gguf.read_bytes()
    cut_path, log_path = tmp_path / "cut.gguf", tmp_path / "server.log"
    for size_bytes in (0, 3, 4, 20, 1000, len(whole) // 2, len(whole) - 33):
        cut_path.write_bytes(whole[:size_bytes])
        with pytest.raises(DataError, match="no whole GGUF"), serve(cut_path, own(port), log_path):
            pytest.fail("it was served")
    assert not log_path.exists()


def test_a_damaged_header_is_read_or_refused_but_never_worse(gguf: Path, tmp_path: Path) -> None:
    whole, damaged_path, dice = gguf.read_bytes(), tmp_path / "damaged.gguf", random.Random(1)
    refused = 0
    for _ in range(500):
        damaged = bytearray(whole[:12_000])
        damaged[dice.randrange(4000)] = dice.randrange(256)
        damaged_path.write_bytes(damaged + whole[12_000:])
        try:
            read_header(damaged_path)
        except DataError:
            refused += 1
    assert 0 < refused < 500


def test_the_header_tells_what_gguf_tells(gguf: Path) -> None:
    from gguf import GGUFReader

    header = read_header(gguf)
    assert header.context_tokens == CONTEXT
    assert header.tensors == {t.name: tuple(int(d) for d in t.shape) for t in GGUFReader(gguf).tensors}


def test_a_model_that_the_server_cannot_load_is_told_with_the_servers_words(
    gguf: Path, port: int, tmp_path: Path
) -> None:
    unknown_path = tmp_path / "unknown.gguf"
    unknown_path.write_bytes(gguf.read_bytes().replace(b"llama", b"lamma"))
    with (
        pytest.raises(ServiceError, match=r"(?s)exit code 1.*unknown model architecture"),
        serve(unknown_path, own(port), tmp_path / "server.log"),
    ):
        pytest.fail("it was served")


# Others' servers ------------------------------------------------------------------------------------------------


def test_a_server_of_the_user_is_used_named_and_not_stopped(
    gguf: Path, port: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(gguf, own(port), tmp_path / "theirs.log", api_key="") as theirs:
        with connect(None, own(port), tmp_path / "ours.log") as endpoint:
            assert endpoint.base_url == theirs.base_url
            assert not endpoint.ours
            assert endpoint.slots == 3
            assert ask(endpoint)
        assert ask(theirs)
    assert f"port {port}: model {gguf.stem}, {gguf}" in caplog.text


def test_a_server_with_other_weights_is_told_and_asked_nothing(
    gguf: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = write_tiny_gguf(tmp_path / "other.gguf", seed=1)
    with (
        ScriptedServer(model_path=str(other)) as theirs,
        connect(gguf, own(theirs.port), tmp_path / "server.log") as endpoint,
    ):
        assert endpoint.ours
        assert endpoint.base_url != theirs.base_url
        assert theirs.calls == []
    told = [line for line in caplog.messages if "other weights" in line]
    assert len(told) == 1
    assert str(other) in told[0]
    assert "--endpoint" in told[0]


def test_a_real_server_with_other_weights_is_left_alone_and_one_with_the_same_is_used(
    gguf: Path, port: int, tmp_path: Path
) -> None:
    same, other = tmp_path / "same.gguf", write_tiny_gguf(tmp_path / "other.gguf", seed=1)
    shutil.copy(gguf, same)
    time.sleep(2 * listener.CLOCK_SLACK_S + 0.1)
    for served, used in ((same, True), (other, False)):
        with (
            serve(served, own(port), tmp_path / "theirs.log", api_key=""),
            connect(gguf, own(port), tmp_path / "ours.log") as endpoint,
        ):
            assert endpoint.ours is not used
            assert endpoint.weights_sha256 == file_sha256(gguf)


@pytest.mark.parametrize("age_s", [0, 3600], ids=["new", "restored from a backup"])
def test_a_server_started_before_its_file_was_replaced_serves_other_weights(
    port: int, tmp_path: Path, age_s: float
) -> None:
    served = tmp_path / "lpm.gguf"
    write_tiny_gguf(served, seed=1)
    with serve(served, own(port), tmp_path / "theirs.log", api_key=""):
        with connect(served, own(port), tmp_path / "ours.log") as same:
            assert not same.ours
        gguf_now = write_tiny_gguf(tmp_path / "new.gguf", seed=2)
        os.utime(gguf_now, (time.time() - age_s, time.time() - age_s))
        time.sleep(2 * listener.CLOCK_SLACK_S + 0.1)
        gguf_now.rename(served)
        with connect(served, own(port), tmp_path / "ours.log") as endpoint:
            assert endpoint.ours


def test_a_relative_path_is_one_of_the_folder_that_the_server_was_started_in(gguf: Path, port: int) -> None:
    listen = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", listen, str(port)], cwd=gguf.parent) as theirs:
        assert soon(lambda: not probe.is_free(port))
        served = listener.served_file(port, gguf.name)
        theirs.kill()
    assert served is not None
    assert served.path == gguf
    assert not served.is_stale


def test_a_server_of_unknown_weights_is_used_and_that_is_said(
    gguf: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        ScriptedServer() as server,
        connect(gguf, own(server.port), tmp_path / "server.log") as endpoint,
    ):
        assert (endpoint.base_url, endpoint.weights_sha256) == (server.base_url, "")
    assert "cannot be seen" in caplog.text


def test_no_key_goes_to_a_server_that_was_not_asked_for(
    gguf: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        ScriptedServer(api_key="theirs") as locked,
        connect(gguf, own(locked.port, endpoint_api_key="theirs"), tmp_path / "server.log") as endpoint,
    ):
        assert endpoint.ours
        assert locked.calls == []
        assert locked.authorizations == {""}
    assert f"--endpoint {locked.base_url}" in caplog.text


@pytest.mark.parametrize("behaviour", ["stranger", "html", "500", "no-choices"])
def test_a_stranger_on_the_port_is_told_and_left_alone(
    gguf: Path, tmp_path: Path, behaviour: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        ScriptedServer(behaviour) as stranger,
        connect(gguf, own(stranger.port), tmp_path / "server.log") as endpoint,
    ):
        assert endpoint.ours
        assert endpoint.base_url != stranger.base_url
        assert ask(endpoint)
    assert f"port {stranger.port} is taken" in caplog.text


def test_a_silent_stranger_is_left_alone_in_seconds(gguf: Path, tmp_path: Path) -> None:
    start = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with connect(gguf, own(port), tmp_path / "server.log") as endpoint:
            assert endpoint.ours
    assert time.monotonic() - start < 8


def test_a_configured_endpoint_comes_first(gguf: Path, port: int, tmp_path: Path) -> None:
    theirs = {"endpoint_api_key": "theirs"}
    with (
        ScriptedServer(api_key="theirs", slots=5) as server,
        connect(gguf, own(port, endpoint=f"{server.base_url}/", **theirs), tmp_path / "server.log") as endpoint,
    ):
        assert (endpoint.base_url, endpoint.model, endpoint.slots) == (server.base_url, "scripted", 5)
        assert ask(endpoint)


@pytest.mark.parametrize(
    ("url", "error", "told"),
    [
        ("http://127.0.0.1:9/v1", ServiceError, "--endpoint"),
        ("locked", PermissionDeniedError, "LPM_ENDPOINT_KEY"),
    ],
)
def test_a_configured_endpoint_that_fails_is_no_reason_to_ask_another(
    gguf: Path, port: int, tmp_path: Path, url: str, error: type[LpmError], told: str
) -> None:
    with ScriptedServer(api_key="secret") as locked:
        config = own(port, endpoint=locked.base_url if url == "locked" else url)
        with pytest.raises(error, match=told), connect(gguf, config, tmp_path / "server.log"):
            pytest.fail("it answered")


def test_nothing_to_ask_and_nothing_to_serve_is_told(port: int, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="--endpoint"), connect(None, own(port), tmp_path / "server.log"):
        pytest.fail("there is nothing")


def test_who_listens_is_told_without_a_key(port: int) -> None:
    assert probe.who_listens(port) == "free"
    with ScriptedServer() as server, ScriptedServer(api_key="secret") as locked, ScriptedServer("stranger") as stranger:
        told = [probe.who_listens(s.port) for s in (server, locked, stranger)]
    assert "model scripted" in told[0]
    assert "wants a key" in told[1]
    assert "no model server" in told[2]


def test_serving_for_a_person_takes_no_other_port(gguf: Path, tmp_path: Path) -> None:
    with ScriptedServer() as server, pytest.raises(ServiceError, match=r"taken.*model scripted.*--port"):
        serve_forever(gguf, port=server.port, log_path=tmp_path / "server.log")


def test_an_answer_stays_as_the_model_wrote_it_thoughts_included(gguf: Path, port: int, tmp_path: Path) -> None:
    with serve(gguf, own(port), tmp_path / "server.log") as endpoint:
        props = probe.props(endpoint.base_url, endpoint.api_key)
    assert props["default_generation_settings"]["params"]["reasoning_format"] == "none"
