"""`lpm serve`: the promoted model, or another GGUF, for as long as one wants it."""

import os
import secrets
from typing import TYPE_CHECKING, Annotated

import typer

from lpm_kernel.commands.base import WorkspaceOption

if TYPE_CHECKING:
    from lpm_kernel.workspace.places import Workspace

KEY = "LPM_SERVE_API_KEY"


def serve(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="<path>",
            help="A GGUF, or a version such as v1; else what is current.",
            show_default=False,
        ),
    ] = "",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Loopback port.")] = 8080,
    api_key: Annotated[
        bool,
        typer.Option("--api-key", help=f"Ask for a key: {KEY} of the environment or .env, else a random one."),
    ] = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Serve a GGUF on 127.0.0.1:8080 until Ctrl-C, OpenAI-compatible; no web page can use it."""
    from pydantic import SecretStr

    from lpm_kernel.runner.settings import open_workspace
    from lpm_kernel.runner.versions import gguf_to_serve
    from lpm_kernel.serving.front import serve_forever

    place = open_workspace(workspace)
    key, shown = _key(place, api_key)
    log_path = place.work_path("serve") / "server.log"
    serve_forever(gguf_to_serve(place, model), port=port, log_path=log_path, key=SecretStr(key), key_shown=shown)


def _key(place: "Workspace", asked: bool) -> tuple[str, str]:
    """The key, and how a shell spells it; a random one is told, once, since nobody else knows it."""
    from lpm_kernel.config import sendable
    from lpm_kernel.runner.settings import environments

    for source in reversed(environments(place)):
        if given := sendable(KEY, source.values, source.origin):
            return given, f"${KEY}" if source.values is os.environ else f"<{KEY} of .env>"
    made = secrets.token_urlsafe(24) if asked else ""
    return made, made
