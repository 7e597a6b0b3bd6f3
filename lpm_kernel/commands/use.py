"""`lpm use`: a file or folder of the owner's in an artifact's place."""

from pathlib import Path
from typing import Annotated

import typer

from lpm_kernel.commands.base import WorkspaceOption


def _usable() -> list[str]:
    from lpm_kernel.runner.use import USABLE

    return list(USABLE)


def use(
    artifact: Annotated[str, typer.Argument(help="Its name, as in `lpm steps`.", autocompletion=_usable)],
    source: Annotated[
        Path | None,
        typer.Argument(metavar="PATH", help="Yours; left out, what is in the place, edited.", show_default=False),
    ] = None,
    workspace: WorkspaceOption = "",
) -> None:
    """Work with a file or model of yours, such as pairs that you edited, and never make it again unasked."""
    from lpm_kernel.files import expanded
    from lpm_kernel.runner.settings import open_workspace
    from lpm_kernel.runner.use import use as take
    from lpm_kernel.workspace.lock import lock

    place = open_workspace(workspace)
    with lock(place):
        take(place, artifact, source and expanded(source).absolute())
