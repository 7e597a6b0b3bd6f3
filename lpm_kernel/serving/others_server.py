"""A server that others run: the configured endpoint, or what the user started on the port."""

import re
import time
from dataclasses import replace
from pathlib import Path

from pydantic import SecretStr

from lpm_kernel.errors import PermissionDeniedError, ServiceError
from lpm_kernel.files import file_sha256
from lpm_kernel.progress import inline, say
from lpm_kernel.serving import listener, probe
from lpm_kernel.serving.endpoint import ENDPOINT_KEY, POLL_S, Endpoint, ServingConfig
from lpm_kernel.serving.http import NO_KEY, UnansweredError
from lpm_kernel.urls import shown_url

GREETING_WAITS_S = (0.5, 1.0, 2.0, 4.0)
"""Waits between the attempts to greet a configured endpoint that is busy."""
BUSY = frozenset({408, 425, 429, 502, 503, 504})


def configured(config: ServingConfig) -> Endpoint:
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
    say(f"asking {inline(endpoint.model)} at {shown_url(base_url)}, as configured")
    return endpoint


def on_port(config: ServingConfig, gguf_path: Path | None) -> Endpoint | None:
    """What the user started on the port, when it is a chat server with the right weights; else it is told and left.

    It was not asked for by name, so it gets no key.
    """
    if probe.is_free(config.port):
        return None
    base_url = f"http://127.0.0.1:{config.port}/v1"
    try:
        _wait_while_loading(base_url, config.start_timeout_s)
        props = probe.props(base_url, NO_KEY)
        served = listener.served_file(config.port, str(props.get("model_path", "")))
        told = _sha256(props.get("weights_sha256")) or ("" if served is None or served.is_stale else served.sha256)
        if gguf_path and (told or served) and told != file_sha256(gguf_path):
            other = str(served.path) if served else inline(str(props.get("model_alias", "")))
            say(
                f"the server on port {config.port} serves other weights ({other}) than {gguf_path}, which will "
                f"be trained; it is left alone and our own answers on another port (--endpoint {base_url} insists)"
            )
            return None
        endpoint = _identify(base_url, config, engine="server on the port", key=NO_KEY)
    except UnansweredError as error:
        cure = f"; if it is your model server: --endpoint {base_url}, and its key as {ENDPOINT_KEY}"
        say(
            f"port {config.port} is taken by something that is no usable chat server ({error})"
            f"{cure if error.status in (401, 403) else ''}; using another"
        )
        return None
    say(
        f"asking the server that runs on port {config.port}: model {inline(endpoint.model)}"
        + (f", {served.path}" if served and str(served.path) != endpoint.model else "")
        + ("" if told else "; whether it serves the model that will be trained cannot be seen")
    )
    return replace(endpoint, weights_sha256=told)


def _sha256(told: object) -> str:
    """The hash that `lpm serve` tells in place of a path; empty for anything else."""
    return told if isinstance(told, str) and re.fullmatch(r"[0-9a-f]{64}", told) else ""


def _identify_patiently(base_url: str, config: ServingConfig) -> Endpoint:
    """A busy server is asked again, for GREETING_WAITS_S in all; raises UnansweredError."""
    key = config.endpoint_api_key
    for wait_s in GREETING_WAITS_S:
        try:
            return _identify(base_url, config, engine="endpoint", key=key)
        except UnansweredError as error:
            if error.status not in BUSY:
                raise
            time.sleep(wait_s)
    return _identify(base_url, config, engine="endpoint", key=key)


def _identify(base_url: str, config: ServingConfig, engine: str, key: SecretStr) -> Endpoint:
    """Ask which model it serves and let it answer once; raises UnansweredError."""
    model = config.endpoint_model or probe.listed_models(base_url, key)[0]
    probe.answers_chat(base_url, key, model, probe.SMOKE_TIMEOUT_S)
    slots = _slots(base_url, key) or config.slots
    return Endpoint(base_url, key, model, slots, engine, ours=False, key_name=ENDPOINT_KEY)


def _slots(base_url: str, key: SecretStr) -> int:
    try:
        return int(probe.props(base_url, key).get("total_slots", 0))
    except (TypeError, ValueError):
        return 0


def _wait_while_loading(base_url: str, timeout_s: float) -> None:
    """llama.cpp answers 503 while it loads. Raises UnansweredError for what does not speak HTTP in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            probe.ask_health(base_url)
        except UnansweredError as error:
            if error.status == 0:
                raise
            if error.status == 503:
                time.sleep(POLL_S)
                continue
        return
