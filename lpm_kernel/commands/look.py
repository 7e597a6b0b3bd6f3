"""The commands that only look: `lpm steps`, `status`, `path`, `doctor`."""

import json
import sys
from typing import Annotated

import typer

from lpm_kernel.commands.base import JsonOption, PresetOption, WorkspaceOption
from lpm_kernel.progress import printable


def _artifacts() -> list[str]:
    from lpm_kernel.workspace.places import ARTIFACTS

    return list(ARTIFACTS)


def steps(as_json: JsonOption = False) -> None:
    """The table of the chain."""
    from lpm_kernel.commands import tables

    tables.show_steps(as_json)


def status(workspace: WorkspaceOption = "", preset: PresetOption = "", as_json: JsonOption = False) -> None:
    """What is made, running, failed or stale."""
    from lpm_kernel.commands import tables
    from lpm_kernel.runner.settings import open_workspace, resolve_all

    place = open_workspace(workspace)
    tables.show_status(place, resolve_all(place, preset=preset), as_json)


def path(
    artifact: Annotated[str, typer.Argument(help="Its name, as in `lpm steps`.", autocompletion=_artifacts)],
    workspace: WorkspaceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Where an artifact is, or would be."""
    from lpm_kernel.runner.settings import open_workspace

    place = open_workspace(workspace)
    found = place.find(artifact)
    shown = str(found or place.place(artifact))
    if as_json:
        print(json.dumps({"artifact": artifact, "path": shown, "exists": found is not None}))
    else:
        print(printable(shown) if sys.stdout.isatty() else shown)


def doctor(workspace: WorkspaceOption = "", as_json: JsonOption = False) -> None:
    """What is missing here, and the cure; exit code 1 when the pipeline cannot run."""
    from lpm_kernel.commands.tables import show_findings
    from lpm_kernel.runner.preflight import examine
    from lpm_kernel.runner.settings import open_workspace, resolve_all

    place = open_workspace(workspace)
    findings = examine(place, resolve_all(place))
    show_findings(findings, as_json)
    raise typer.Exit(code=int(any(f.blocks and not f.fine for f in findings)))
