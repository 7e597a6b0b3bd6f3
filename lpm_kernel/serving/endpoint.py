"""Where a model answers, and the settings that say which server that is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from lpm_kernel.config import BaseUrl, Config, OneOf, secret
from lpm_kernel.errors import ServiceError
from lpm_kernel.serving.engines import AUTO, ENGINES

ENDPOINT_KEY = "LPM_ENDPOINT_KEY"
"""Environment variable with the key of the configured endpoint."""

POLL_S = 0.05
DEATH_NOTICE_S = 0.3
"""A connection breaks a moment before the process can be seen dead."""


class ServingConfig(Config):
    """How the model is served."""

    operational = frozenset({"engine", "slots", "threads", "port", "start_timeout_s"})

    engine: Annotated[str, OneOf((AUTO, *ENGINES))] = Field(
        AUTO, description=f"Our own server: {', '.join(ENGINES)}, or auto: the first that works here."
    )
    endpoint: Annotated[str, BaseUrl(key="endpoint_api_key")] = Field(
        "", description="Base URL of an OpenAI-compatible server to ask instead, such as http://10.0.0.2:8000/v1."
    )
    endpoint_model: str = Field("", description="Model to ask that endpoint for; empty: the first that it lists.")
    slots: int = Field(12, ge=1, le=256, description="Answers written at the same time.")
    slot_tokens: int = Field(4096, ge=64, description="Context of one slot, in tokens; at most the model's own.")
    threads: int = Field(0, ge=0, le=1024, description="CPU threads of our own server; 0: by cores and model size.")
    port: int = Field(8080, ge=1, le=65535, description="Port of a server that you started, else of our own.")
    start_timeout_s: float = Field(
        180, gt=0, description="Longest wait for a server to load its model, and then for its first answer, in seconds."
    )
    endpoint_api_key: SecretStr = secret(ENDPOINT_KEY, "The key of the endpoint.")


@dataclass(frozen=True)
class Health:
    """How our own server does; others' count as up."""

    state: Literal["up", "down", "lost"] = "up"
    """`down` while it is being started again after its death, `lost` when it is given up."""
    starts: int = 1
    pid: int | None = None
    trouble: str = ""
    """What befell it, with the end of its log; empty while it is up."""


@dataclass(frozen=True)
class Endpoint:
    """A server that answers, with all that a client needs."""

    base_url: str
    """Such as http://127.0.0.1:8080/v1."""
    api_key: SecretStr
    model: str
    slots: int
    """Requests that the server works on at once; n choices take n slots."""
    engine: str
    ours: bool
    """Started by us, and stopped by us."""
    key_name: str = "OPENAI_API_KEY"
    """Environment variable to set when the key is refused."""
    pid: int | None = None
    """Process id of our own server at its first start."""
    weights_sha256: str = ""
    """Of the GGUF that it serves; empty where that cannot be known."""
    health: Callable[[], Health] = field(default=Health, repr=False, compare=False)

    def came_back(self, starts: int) -> bool | None:
        """Whether our own server was started again since it had `starts`; None while it is being.

        Raises ServiceError when it is given up.
        """
        now = self.health()
        if now.state == "lost":
            raise ServiceError(now.trouble)
        return None if now.state == "down" else now.starts > starts
