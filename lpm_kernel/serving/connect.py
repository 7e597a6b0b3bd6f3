"""Who answers for the model: the configured endpoint, what the user runs on the port, or our own server."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lpm_kernel.errors import Finding, MissingInputError, ServiceError
from lpm_kernel.serving import engines, probe
from lpm_kernel.serving.endpoint import Endpoint, ServingConfig
from lpm_kernel.serving.others_server import configured, on_port
from lpm_kernel.serving.own_server import serve


@contextmanager
def connect(gguf_path: Path | None, config: ServingConfig, log_path: Path) -> Iterator[Endpoint]:
    """The configured endpoint, else what the user runs on the port, else our own server for gguf_path.

    A server on the port that is known to serve other weights than gguf_path is left alone: neither a question nor a
    key goes there. Where that cannot be known it is used, and its Endpoint says so.
    Raises ServiceError or PermissionDeniedError for a configured endpoint that does not answer,
    MissingInputError when there is no server and no gguf_path.
    """
    endpoint = configured(config) if config.endpoint else on_port(config, gguf_path)
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


def has_other_server(config: ServingConfig) -> bool:
    """Whether an endpoint is configured, or somebody listens on the port."""
    return bool(config.endpoint) or not probe.is_free(config.port)


def preflight(config: ServingConfig) -> list[Finding]:
    """Our own engines, and who listens on the port."""
    return [engine_finding(config), Finding(f"port {config.port}", probe.who_listens(config.port))]


def engine_finding(config: ServingConfig) -> Finding:
    """The engines that are here, in the order in which they are tried."""
    found = engines.find_programs(config.engine)
    told = [p.engine if p.engine == p.path else f"{p.engine} ({p.path})" for p in found]
    return Finding(
        "server",
        ", else ".join(told) or f"none (engine {config.engine})",
        fine=bool(found or config.endpoint),
        cure=f"{engines.cure_for(config.engine)}; or set --endpoint",
        blocks=ServiceError,
    )
