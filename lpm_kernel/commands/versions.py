"""`lpm versions`, `lpm rollback`, `lpm compare`: the promoted models, the way back, and one against the other."""

from typing import Annotated

import typer

from lpm_kernel.commands.base import JsonOption, PresetOption, SetOption, WorkspaceOption

NAME = "A version such as v1, or sft, or candidate."


def versions(
    remove: Annotated[str, typer.Option("--remove", metavar="<version>", help="Take this one away for good.")] = "",
    workspace: WorkspaceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Every model that was promoted, the one that is served, and the disk space of each."""
    from lpm_kernel.commands.tables import show_versions
    from lpm_kernel.runner.settings import open_workspace
    from lpm_kernel.workspace.lock import lock
    from lpm_kernel.workspace.versions import remove_version

    place = open_workspace(workspace)
    if remove:
        with lock(place):
            remove_version(place, remove)
    show_versions(place, as_json)


def rollback(
    version: Annotated[
        str, typer.Argument(help="A version such as v1, or sft; else the one before.", show_default=False)
    ] = "",
    workspace: WorkspaceOption = "",
) -> None:
    """Serve another promoted model, or the SFT model, from now on."""
    from lpm_kernel.runner.settings import open_workspace
    from lpm_kernel.runner.versions import go_back
    from lpm_kernel.workspace.lock import lock

    place = open_workspace(workspace)
    with lock(place):
        go_back(place, version)


def compare(
    before: Annotated[str, typer.Argument(metavar="A", help=NAME)],
    after: Annotated[str, typer.Argument(metavar="B", help=NAME)],
    workspace: WorkspaceOption = "",
    preset: PresetOption = "",
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask two models the held-out questions, judge their answers blind, and say whether B is better than A."""
    from lpm_kernel.commands.tables import show_comparison
    from lpm_kernel.runner.compare import compare_models
    from lpm_kernel.runner.settings import open_workspace, resolve_all

    place = open_workspace(workspace)
    found = compare_models(place, resolve_all(place, preset=preset, assignments=settings or ()), before, after)
    show_comparison(found, before, after, as_json)
