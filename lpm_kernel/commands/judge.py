"""`lpm judge exam`: what the judge is worth on the owner's own notes, before anything is believed of it."""

import typer

from lpm_kernel.commands.base import ChainCommand, Group, JsonOption, PresetOption, SetOption, WorkspaceOption

judge_app = typer.Typer(cls=Group, help="The judge that every verdict comes from.", no_args_is_help=True)


@judge_app.callback()
def judge() -> None:
    """The judge that every verdict comes from."""


@judge_app.command(cls=ChainCommand)
def exam(
    workspace: WorkspaceOption = "",
    preset: PresetOption = "",
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Examine the judge on cases made of your own notes, and say whether it can be believed; 65 when it cannot."""
    from lpm_kernel.commands.tables import show_examination
    from lpm_kernel.errors import LpmError
    from lpm_kernel.runner.exam import examine_judge
    from lpm_kernel.runner.settings import open_workspace, resolve_all

    place = open_workspace(workspace)
    found, refusal = examine_judge(place, resolve_all(place, preset=preset, assignments=settings or ()))
    if found is not None:
        show_examination(found, as_json)
    if isinstance(refusal, LpmError):
        raise refusal
