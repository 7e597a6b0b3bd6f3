"""Our own server for one GGUF, on loopback: find an engine that works here, start it, watch it, and always stop it."""

import os
import secrets
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
from lpm_kernel.serving.endpoint import Endpoint, ServingConfig
from lpm_kernel.serving.engines.base import Launch, Program
from lpm_kernel.serving.http import UnansweredError, fetch_json, root_of

POLL_S = 0.05
HEALTH_TIMEOUT_S = 2.0
DEATH_NOTICE_S = 0.3
"""A connection breaks a moment before the process can be seen dead."""
SMOKE_TIMEOUT_S = 60.0
PORT_TRIALS = 3
SMALL_MODEL_BYTES = 16 * 2**20
"""Below this one thread serves: two, on 2 cores shared with other work, took 1.4 to 8 times as long (7 MB model)."""


@contextmanager
def serve(gguf_path: Path, config: ServingConfig, log_path: Path, *, api_key: str | None = None) -> Iterator[Endpoint]:
    """Our own server for one GGUF file, gone after the block whatever happens in it.

    api_key: None makes a random one; empty serves without, to whoever knows the port.
    Call it from a thread that outlives the block: the kernel kills the server at that thread's death.
    Raises MissingInputError or DataError for the file, ServiceError when no engine works or the server dies.
    """
    key = SecretStr(secrets.token_urlsafe(32) if api_key is None else api_key)
    child, endpoint = _start_first_that_works(gguf_path.resolve(), config, log_path, key)
    try:
        say(f"serving {gguf_path} with {endpoint.engine}")
        yield endpoint
    except Exception as error:
        concerns_server = isinstance(error, ServiceError) or not isinstance(error, LpmError)
        trouble = child.trouble(DEATH_NOTICE_S) if concerns_server else ""
        if trouble and trouble not in str(error):
            raise ServiceError(trouble) from error
        raise
    finally:
        child.stop()


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


def _start_first_that_works(
    gguf_path: Path, config: ServingConfig, log_path: Path, key: SecretStr
) -> tuple[Child, Endpoint]:
    """Try the engines in order, say which fail and why."""
    context_tokens = read_header(gguf_path).context_tokens or config.slot_tokens
    threads = config.threads or _best_threads(gguf_path)
    launch = Launch(gguf_path, config.port, config.slots, min(config.slot_tokens, context_tokens), threads)
    reasons: list[str] = []
    for program in engines.find_programs(config.engine):
        if reasons:
            say(f"trying {program.engine}, because {reasons[-1]}")
        try:
            return _start_on_a_port(_Start(program, launch, key, log_path, config.start_timeout_s))
        except _FailedStartError as failure:
            reasons.append(f"{program.path} does not work here: {failure}")
    told = "\n".join(reasons) or f"none is installed (--engine {config.engine})"
    raise ServiceError(
        f"no engine can serve {gguf_path}: {told}\n"
        "Install xllamacpp (pip install xllamacpp), build llama.cpp, or set --endpoint"
    )


def _best_threads(gguf_path: Path) -> int:
    """Threads wait for each other at every layer: with little to compute, or a busy core, one alone is faster."""
    return 1 if gguf_path.stat().st_size < SMALL_MODEL_BYTES else len(os.sched_getaffinity(0))


def _start_on_a_port(start: _Start) -> tuple[Child, Endpoint]:
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


def _start(start: _Start) -> tuple[Child, Endpoint]:
    """Start one engine on one port and prove that it is ours and answers; else nothing runs (_FailedStartError)."""
    command = start.program.command(start.launch)
    key = start.key.get_secret_value()
    environ = clean_environment({"LLAMA_API_KEY": key} if key else None)
    child = Child(f"the model server ({start.program.engine})", command, environ, start.log_path)
    try:
        return child, _proven(child, start)
    except BaseException:
        child.stop()
        raise


def _proven(child: Child, start: _Start) -> Endpoint:
    base_url = f"http://127.0.0.1:{start.launch.port}/v1"
    _wait_until_healthy(child, base_url, start.timeout_s)
    served = str(probe.props(base_url, start.key).get("model_path", ""))
    if Path(served).resolve() != start.launch.gguf_path:
        raise _FailedStartError(f"port {start.launch.port} answers for {served!r}, not for {start.launch.gguf_path}")
    try:
        probe.answers_chat(base_url, start.key, served, SMOKE_TIMEOUT_S)
    except UnansweredError as error:
        raise _FailedStartError(child.trouble(DEATH_NOTICE_S) or f"{error}; {child.log_end()}") from None
    name = start.launch.gguf_path.name
    return Endpoint(
        base_url=base_url,
        api_key=start.key,
        model=name,
        slots=start.launch.slots,
        engine=start.program.engine,
        ours=True,
        pid=child.pid,
        weights_sha256=file_sha256(start.launch.gguf_path),
        trouble=child.trouble,
    )


def _wait_until_healthy(child: Child, base_url: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if trouble := child.trouble():
            raise _FailedStartError(trouble)
        try:
            fetch_json(f"{root_of(base_url)}/health", timeout_s=HEALTH_TIMEOUT_S)
        except UnansweredError:
            time.sleep(POLL_S)
        else:
            return
    raise _FailedStartError(f"it was not ready after {timeout_s:.0f} s (--start-timeout-s); {child.log_end()}")
