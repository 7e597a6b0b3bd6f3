"""What a run cannot know and a person at a terminal can: which base model is meant, where there are several."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from lpm_kernel.workspace.places import Workspace


def deciding(workspace: "Workspace", run: Callable[[], None]) -> None:
    """Run; where it stops for a base model to be chosen, ask, write the choice down, and run once more."""
    from lpm_kernel.runner.settings import choose_base_model
    from lpm_kernel.runner.state import UndecidedError

    try:
        return run()
    except UndecidedError as error:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
        names = error.names
    name = ""
    while name not in names:
        name = typer.prompt(f"Which base model ({', '.join(names)})", err=True)
    choose_base_model(workspace, name)
    return run()
