"""Who answers, and what its answers belong to."""

from pathlib import Path
from typing import Literal

from lpm_kernel.files import file_sha256, key_of
from lpm_kernel.records import Served
from lpm_kernel.serving.endpoint import Endpoint
from lpm_kernel.serving.probe import props
from lpm_kernel.urls import on_loopback


def served_by(endpoint: Endpoint | None, gguf_path: Path | None) -> Served:
    """Who answers for the GGUF; without an endpoint it is the GGUF itself, whose answers are all there."""
    if endpoint is None:
        assert gguf_path is not None
        return Served(model=gguf_path.name, engine="", ours=True, identity=file_sha256(gguf_path), weights="same")
    weights: Literal["same", "other", "unknown"] = "unknown"
    if endpoint.weights_sha256 and gguf_path is not None:
        weights = "same" if endpoint.weights_sha256 == file_sha256(gguf_path) else "other"
    return Served(
        model=endpoint.model,
        engine=endpoint.engine,
        ours=endpoint.ours,
        identity=_identity(endpoint),
        weights=weights,
    )


def _identity(endpoint: Endpoint) -> str:
    """What the answers in the journal belong to: the weights that are served, else what the server tells of itself."""
    if endpoint.weights_sha256:
        return endpoint.weights_sha256
    described = props(endpoint.base_url, endpoint.api_key)
    named = Path(str(described.get("model_path", "")))
    # What lies under that name now need not be what the server holds: it never counts as those weights.
    now_there = file_sha256(named) if on_loopback(endpoint.base_url) and named.is_file() else ""
    return key_of("unknown", endpoint.base_url, endpoint.model, str(named), now_there, described.get("build_info"))
