"""A model answering on loopback: find an engine that works here, start it, watch it, and always stop it."""

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lpm_kernel.config import shown_url
from lpm_kernel.errors import LpmError, MissingInputError, PermissionDeniedError, ServiceError
from lpm_kernel.progress import say
from lpm_kernel.serving import engines, probe
from lpm_kernel.serving.endpoint import ENDPOINT_KEY, Endpoint, ServingConfig
from lpm_kernel.serving.engines import Engine, Order
from lpm_kernel.serving.gguf_header import read_header
from lpm_kernel.serving.http import UnansweredError, fetch_json, root_of
from lpm_kernel.serving.process import Child

__all__ = ["Endpoint", "ServingConfig", "answering", "serve", "serve_forever"]

POLL_S = 0.05
HEALTH_TIMEOUT_S = 2.0
DEATH_NOTICE_S = 0.3
"""A connection breaks a moment before the process can be seen dead."""
SMOKE_TIMEOUT_S = 60.0
GREETING_WAITS_S = (0.5, 1.0, 2.0, 4.0)
"""Waits between the attempts to greet a configured endpoint that is busy."""
BUSY = frozenset({408, 425, 429, 502, 503, 504})
PORT_TRIALS = 3
SMALL_MODEL_BYTES = 16 * 2**20
"""Below this one thread serves: two, on 2 cores shared with other work, took 1.4 to 8 times as long (7 MB model)."""


@contextmanager
def serve(gguf_path: Path, config: ServingConfig, log_path: Path, *, api_key: str | None = None) -> Iterator[Endpoint]:
    """Our own server for one GGUF file, gone after the block whatever happens in it.

    api_key: None makes a random one; empty serves without, for a person's own use.
    Call it from a thread that outlives the block: the kernel kills the server at that thread's death.
    Raises MissingInputError or DataError for the file, ServiceError when no engine works or the server dies.
    """
    key = secrets.token_urlsafe(32) if api_key is None else api_key
    child, endpoint = _start_first_that_works(gguf_path.resolve(), config, log_path, key)
    try:
        say(f"serving {gguf_path} with {endpoint.engine} at {endpoint.base_url}")
        yield endpoint
    except Exception as error:
        concerns_server = isinstance(error, ServiceError) or not isinstance(error, LpmError)
        trouble = child.trouble(DEATH_NOTICE_S) if concerns_server else ""
        if trouble and trouble not in str(error):
            raise ServiceError(trouble) from error
        raise
    finally:
        child.stop()


@contextmanager
def answering(gguf_path: Path | None, config: ServingConfig, log_path: Path) -> Iterator[Endpoint]:
    """The configured endpoint, else what the user runs on the port, else our own server for gguf_path.

    Raises ServiceError or PermissionDeniedError for a configured endpoint that does not answer,
    MissingInputError when there is no server and no gguf_path.
    """
    endpoint = _configured(config) if config.endpoint else _on_port(config)
    if endpoint is not None:
        yield endpoint
        return
    if gguf_path is None:
        raise MissingInputError(
            f"no server answers on port {config.port} and there is no GGUF file to serve; export the model first "
            "(lpm run sft-gguf), start a server, or set --endpoint"
        )
    with serve(gguf_path, config, log_path) as own:
        yield own


def serve_forever(gguf_path: Path, *, port: int, log_path: Path) -> None:
    """Serve without a key on exactly this port until Ctrl-C; ServiceError when it is taken or the server dies."""
    if not probe.is_free(port):
        raise ServiceError(f"port {port} is taken: {probe.who_listens(port)}; stop that, or choose another --port")
    with serve(gguf_path, ServingConfig.model_validate({"port": port}), log_path, api_key="") as endpoint:
        while not (trouble := endpoint.trouble()):
            time.sleep(DEATH_NOTICE_S)
        raise ServiceError(trouble)


# What others run ------------------------------------------------------------------------------------------------


def _configured(config: ServingConfig) -> Endpoint:
    base_url = config.endpoint.rstrip("/")
    try:
        endpoint = _identify_patiently(base_url, config)
    except UnansweredError as error:
        if error.status in (401, 403):
            raise PermissionDeniedError(
                f"{shown_url(base_url)} refused the key (HTTP {error.status}): "
                f"set {ENDPOINT_KEY} in the environment or .env"
            ) from None
        raise ServiceError(
            f"endpoint {shown_url(base_url)} does not answer as an OpenAI-compatible chat server: {error}; "
            "check --endpoint (it mostly ends in /v1) and that the server runs"
        ) from None
    say(f"asking {endpoint.model} at {shown_url(base_url)}, as configured")
    return endpoint


def _on_port(config: ServingConfig) -> Endpoint | None:
    """What the user started on the port, when it really is a chat server; a stranger is named and left alone."""
    if probe.is_free(config.port):
        return None
    base_url = f"http://127.0.0.1:{config.port}/v1"
    try:
        _wait_while_loading(base_url, config.start_timeout_s)
        endpoint = _identify(base_url, config, engine="server on the port")
    except UnansweredError as error:
        cure = f"; if it is your model server, set {ENDPOINT_KEY}" if error.status in (401, 403) else ""
        say(f"port {config.port} is taken by something that is no usable chat server ({error}){cure}; using another")
        return None
    path = probe.props(base_url, endpoint.api_key).get("model_path", "")
    say(
        f"asking the server that runs on port {config.port}: model {endpoint.model}"
        + (f", {path}" if path not in ("", endpoint.model) else "")
    )
    return endpoint


def _identify_patiently(base_url: str, config: ServingConfig) -> Endpoint:
    """A busy server is asked again, for GREETING_WAITS_S in all; raises UnansweredError."""
    for wait_s in GREETING_WAITS_S:
        try:
            return _identify(base_url, config, engine="endpoint")
        except UnansweredError as error:
            if error.status not in BUSY:
                raise
            time.sleep(wait_s)
    return _identify(base_url, config, engine="endpoint")


def _identify(base_url: str, config: ServingConfig, engine: str) -> Endpoint:
    """Ask which model it serves and let it answer once; raises UnansweredError."""
    key = os.environ.get(ENDPOINT_KEY, "")
    model = config.endpoint_model or probe.listed_models(base_url, key)[0]
    probe.answers_chat(base_url, key, model, SMOKE_TIMEOUT_S)
    slots = _slots(base_url, key) or config.slots
    return Endpoint(base_url, key or "none", model, slots, engine, ours=False, key_name=ENDPOINT_KEY)


def _slots(base_url: str, key: str) -> int:
    try:
        return int(probe.props(base_url, key).get("total_slots", 0))
    except (TypeError, ValueError):
        return 0


def _wait_while_loading(base_url: str, timeout_s: float) -> None:
    """llama.cpp answers 503 while it loads. Raises UnansweredError for what does not speak HTTP in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            fetch_json(f"{root_of(base_url)}/health", timeout_s=HEALTH_TIMEOUT_S)
        except UnansweredError as error:
            if error.status == 0:
                raise
            if error.status == 503:
                time.sleep(POLL_S)
                continue
        return


# Our own --------------------------------------------------------------------------------------------------------


class _FailedStartError(Exception):
    """This engine does not serve this model here; the message says why."""


@dataclass(frozen=True)
class _Start:
    """All that one attempt needs."""

    engine: Engine
    order: Order
    key: str
    log_path: Path
    timeout_s: float


def _start_first_that_works(gguf_path: Path, config: ServingConfig, log_path: Path, key: str) -> tuple[Child, Endpoint]:
    """Try the engines in order, say which fail and why."""
    context_tokens = read_header(gguf_path).context_tokens or config.slot_tokens
    threads = config.threads or _best_threads(gguf_path)
    order = Order(gguf_path, config.port, config.slots, min(config.slot_tokens, context_tokens), threads)
    reasons: list[str] = []
    for engine in engines.find_engines(config):
        if reasons:
            say(f"trying {engine.name}, because {reasons[-1]}")
        try:
            return _start_on_a_port(_Start(engine, order, key, log_path, config.start_timeout_s))
        except _FailedStartError as failure:
            reasons.append(f"{engine.path} does not work here: {failure}")
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
        port = start.order.port if probe.is_free(start.order.port) else probe.any_free_port()
        started = replace(start, order=replace(start.order, port=port))
        try:
            return _start(started)
        except _FailedStartError:
            if probe.is_free(port):
                raise
    raise _FailedStartError(f"port after port was taken, the last was {port}; set --port")


def _start(start: _Start) -> tuple[Child, Endpoint]:
    """Start one engine on one port and prove that it is ours and answers; else nothing runs (_FailedStartError)."""
    program = engines.command(start.engine, start.order)
    child = Child(start.engine.name, program, engines.environment(start.key), start.log_path)
    try:
        return child, _proven(child, start)
    except BaseException:
        child.stop()
        raise


def _proven(child: Child, start: _Start) -> Endpoint:
    base_url = f"http://127.0.0.1:{start.order.port}/v1"
    _wait_until_healthy(child, base_url, start.timeout_s)
    served = str(probe.props(base_url, start.key).get("model_path", ""))
    if Path(served).resolve() != start.order.gguf_path:
        raise _FailedStartError(f"port {start.order.port} answers for {served!r}, not for {start.order.gguf_path}")
    try:
        probe.answers_chat(base_url, start.key, served, SMOKE_TIMEOUT_S)
    except UnansweredError as error:
        raise _FailedStartError(child.trouble(DEATH_NOTICE_S) or f"{error}; {child.log_end()}") from None
    name = start.order.gguf_path.name
    return Endpoint(
        base_url=base_url,
        api_key=start.key or "none",
        model=name,
        slots=start.order.slots,
        engine=start.engine.name,
        ours=True,
        pid=child.pid,
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
