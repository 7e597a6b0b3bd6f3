"""Our own server for one GGUF, on loopback: find an engine that works here, keep it up, and always stop it."""

import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import SecretStr

from lpm_kernel.errors import LpmError, ServiceError
from lpm_kernel.files import file_sha256
from lpm_kernel.models.gguf_header import read_header
from lpm_kernel.progress import say
from lpm_kernel.serving import engines, probe
from lpm_kernel.serving.child import Child, clean_environment
from lpm_kernel.serving.endpoint import DEATH_NOTICE_S, POLL_S, Endpoint, Health, ServingConfig
from lpm_kernel.serving.engines.base import KEY_VARIABLE, Launch, Program
from lpm_kernel.serving.http import UnansweredError

PORT_TRIALS = 3
RESTARTS = 5
"""A server that dies so often while it serves is started again; after that it is given up."""
FIRST_WAIT_S = 0.5
"""Before the first new start; doubles from there."""
SMALL_MODEL_BYTES = 16 * 2**20
"""Below this one thread serves: two, on 2 cores shared with other work, took 1.4 to 8 times as long (7 MB model)."""


@contextmanager
def serve(gguf_path: Path, config: ServingConfig, log_path: Path, *, api_key: str | None = None) -> Iterator[Endpoint]:
    """Our own server for one GGUF file, started again when it dies, gone after the block whatever happens in it.

    api_key: None makes a random one; empty serves without, to whoever knows the port.
    Call it from a thread that outlives the block: the kernel kills the server at that thread's death.
    Raises MissingInputError or DataError for the file, ServiceError when no engine works or the server is lost.
    """
    key = SecretStr(secrets.token_urlsafe(32) if api_key is None else api_key)
    keeper, endpoint = _start_first_that_works(gguf_path.resolve(), config, log_path, key)
    try:
        say(f"serving {gguf_path} with {endpoint.engine}")
        yield endpoint
    except Exception as error:
        concerns_server = isinstance(error, ServiceError) or not isinstance(error, LpmError)
        trouble = keeper.trouble() if concerns_server else ""
        if trouble and trouble not in str(error):
            raise ServiceError(trouble) from error
        raise
    finally:
        keeper.stop()


def trouble_of(program: Program, gguf_path: Path, log_path: Path) -> str:
    """What one program does wrong when it serves the file and is asked once; empty when it does it right."""
    launch = Launch(gguf_path.resolve(), probe.any_free_port(), slots=2, slot_tokens=128, threads=2)
    key = SecretStr(secrets.token_urlsafe(32))
    start = _Start(program, launch, key, log_path, probe.SMOKE_TIMEOUT_S, file_sha256(gguf_path))
    child = start.begin()
    try:
        _prove(child, start)
    except _FailedStartError as failure:
        return str(failure)
    finally:
        child.stop()
    return ""


class _FailedStartError(Exception):
    """This engine does not serve this model here; the message says why."""


@dataclass(frozen=True)
class _Start:
    """All that one attempt needs."""

    program: Program
    launch: Launch
    key: SecretStr
    log_path: Path
    timeout_s: float
    weights_sha256: str

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.launch.port}/v1"

    def begin(self) -> Child:
        """The process; whether it serves is yet to be seen."""
        key = self.key.get_secret_value()
        environ = clean_environment({KEY_VARIABLE: key} if key else None)
        name = f"the model server ({self.program.engine})"
        return Child(name, self.program.command(self.launch), environ, self.log_path)


class _Keeper:
    """Holds the process that serves, and starts another one in its place when it dies."""

    def __init__(self, start: _Start, child: Child) -> None:
        self._start, self._child = start, child
        self._health = Health(pid=child.pid)
        self._beginning, self._ending = threading.Lock(), threading.Event()
        # The kernel kills a child at the death of the thread that started it, so that of the next ones lives as long.
        self._thread = threading.Thread(target=self._keep_up, name="keeper", daemon=True)
        self._thread.start()

    def health(self) -> Health:
        return self._health

    def trouble(self) -> str:
        """What befell the server, if it is not up; waits for a death under way."""
        self._child.wait(DEATH_NOTICE_S)
        time.sleep(2 * POLL_S)
        return self._health.trouble

    def stop(self) -> None:
        """End the server for good."""
        with self._beginning:
            self._ending.set()
        self._child.stop()
        self._thread.join()

    def _keep_up(self) -> None:
        reason = self._next_death()
        for again in range(1, RESTARTS + 1):
            if not reason:
                return
            self._health = replace(self._health, state="down", trouble=reason)
            say(f"starting our server again ({again} of at most {RESTARTS}; no answer is lost): {reason}")
            if self._ending.wait(FIRST_WAIT_S * 2 ** (again - 1)):
                return
            try:
                self._begin()
            except (_FailedStartError, LpmError, OSError) as failure:
                self._child.stop()
                reason = "" if self._ending.is_set() else str(failure)
                continue
            self._health = Health(starts=again + 1, pid=self._child.pid)
            reason = self._next_death()
        if reason:
            told = f"the model server was started again {RESTARTS} times and is given up; what was answered is kept"
            self._health = replace(self._health, state="lost", trouble=f"{told}: {reason}")

    def _next_death(self) -> str:
        """Wait for it; empty when it is the end that was wanted."""
        while self._child.wait(POLL_S) is None:
            pass
        return "" if self._ending.is_set() else self._child.trouble()

    def _begin(self) -> None:
        start = self._start
        if file_sha256(start.launch.gguf_path) != start.weights_sha256:
            raise _FailedStartError(f"{start.launch.gguf_path} is no longer the file that was served; start again")
        with self._beginning:
            if self._ending.is_set():
                raise _FailedStartError("it is not wanted any more")
            self._child = start.begin()
        _prove(self._child, start)


def _start_first_that_works(
    gguf_path: Path, config: ServingConfig, log_path: Path, key: SecretStr
) -> tuple[_Keeper, Endpoint]:
    """Try the engines in order, say which fail and why."""
    context_tokens = read_header(gguf_path).context_tokens or config.slot_tokens
    threads = config.threads or _best_threads(gguf_path)
    launch = Launch(gguf_path, config.port, config.slots, min(config.slot_tokens, context_tokens), threads)
    weights_sha256 = file_sha256(gguf_path)
    reasons: list[str] = []
    for program in engines.find_programs(config.engine):
        if reasons:
            say(f"trying {program.engine}, because {reasons[-1]}")
        try:
            return _start_on_a_port(_Start(program, launch, key, log_path, config.start_timeout_s, weights_sha256))
        except _FailedStartError as failure:
            reasons.append(f"{program.path} does not work here: {failure}")
    told = "\n".join(reasons) or f"none is here (--engine {config.engine})"
    raise ServiceError(
        f"no engine can serve {gguf_path}: {told}\n{engines.cure_for(config.engine)} puts one here; or set --endpoint"
    )


def _best_threads(gguf_path: Path) -> int:
    """Threads wait for each other at every layer: with little to compute, or a busy core, one alone is faster."""
    return 1 if gguf_path.stat().st_size < SMALL_MODEL_BYTES else len(os.sched_getaffinity(0))


def _start_on_a_port(start: _Start) -> tuple[_Keeper, Endpoint]:
    """The wanted port if it is free, else any; another one when somebody takes it before our server does."""
    for _ in range(PORT_TRIALS):
        port = start.launch.port if probe.is_free(start.launch.port) else probe.any_free_port()
        started = replace(start, launch=replace(start.launch, port=port))
        try:
            return _start(started)
        except _FailedStartError:
            if probe.is_free(port):
                raise
    raise _FailedStartError(f"port after port was taken, the last was {port}; set --port")


def _start(start: _Start) -> tuple[_Keeper, Endpoint]:
    """Start one engine on one port and prove that it is ours and answers; else nothing runs (_FailedStartError)."""
    child = start.begin()
    try:
        slots = _prove(child, start)
    except BaseException:
        child.stop()
        raise
    keeper = _Keeper(start, child)
    return keeper, Endpoint(
        base_url=start.base_url,
        api_key=start.key,
        model=start.launch.gguf_path.name,
        slots=slots,
        engine=start.program.engine,
        ours=True,
        pid=child.pid,
        weights_sha256=start.weights_sha256,
        health=keeper.health,
    )


def _prove(child: Child, start: _Start) -> int:
    """Slots of a server that is healthy, serves our file and answers; raises _FailedStartError."""
    _wait_until_healthy(child, start.base_url, start.timeout_s)
    props = probe.props(start.base_url, start.key)
    served = str(props.get("model_path", ""))
    if Path(served).resolve() != start.launch.gguf_path:
        raise _FailedStartError(f"port {start.launch.port} answers for {served!r}, not for {start.launch.gguf_path}")
    try:
        probe.answers_chat(start.base_url, start.key, served, max(probe.SMOKE_TIMEOUT_S, start.timeout_s))
    except UnansweredError as error:
        slow = f"its first answer: {error} (--start-timeout-s); {child.log_end()}"
        raise _FailedStartError(child.trouble(DEATH_NOTICE_S) or slow) from None
    return int(props.get("total_slots") or start.launch.slots)


def _wait_until_healthy(child: Child, base_url: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if trouble := child.trouble():
            raise _FailedStartError(trouble)
        try:
            probe.ask_health(base_url)
        except UnansweredError:
            time.sleep(POLL_S)
        else:
            return
    raise _FailedStartError(f"it was not ready after {timeout_s:.0f} s (--start-timeout-s); {child.log_end()}")
