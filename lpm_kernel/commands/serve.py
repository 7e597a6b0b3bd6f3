"""`lpm serve`: the promoted model, or another GGUF, for as long as one wants it."""

from pathlib import Path
from typing import Annotated

import typer

from lpm_kernel.commands.base import WorkspaceOption


def serve(
    model: Annotated[Path | None, typer.Option("--model", help="A GGUF; else the promoted model.")] = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Loopback port.")] = 8080,
    workspace: WorkspaceOption = "",
) -> None:
    """Serve a GGUF on 127.0.0.1:8080 until Ctrl-C, without a key, OpenAI-compatible."""
    from lpm_kernel.runner.settings import open_workspace
    from lpm_kernel.runner.versions import current_gguf
    from lpm_kernel.serving.own_server import serve_forever

    place = open_workspace(workspace)
    serve_forever(model or current_gguf(place), port=port, log_path=place.work_path("serve") / "server.log")
