"""`lpm run STEP`: one sub-command a step, made from the table."""

from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lpm_kernel.commands.base import Command, Group
from lpm_kernel.commands.decide import deciding, exit_unless_promoted
from lpm_kernel.errors import UsageError

if TYPE_CHECKING:
    from lpm_kernel.pipeline import Step

SHARED = {"merge": "dpo-merge", "export-gguf": "dpo-gguf"}
"""Names of the scripts that serve two steps -> the step whose settings count; their paths must be given."""
SCRIPTS = "Scripts that serve two steps; their paths must be given"


class StepCommand(Command):
    """The command of one step; its options are made when they are asked for."""

    def __init__(self, name: str, step: "Step") -> None:
        from rich.markup import escape

        text = escape(step.stage.__doc__ or "")
        super().__init__(
            name,
            help="\n\n".join(paragraph.replace("\n", " ") for paragraph in text.split("\n\n")),
            short_help=text.split("\n")[0],
            callback=partial(run_step, name, step),
            rich_help_panel=SCRIPTS if name in SHARED else "Steps",
        )
        self.step = step

    def get_params(self, ctx: Any) -> list[Any]:
        if not self.params:
            from lpm_kernel.commands.options import options_of

            must = [*self.step.needs, next(iter(self.step.makes))] if self.name in SHARED else []
            self.params = options_of(self.step, self.step.config_kind, must=must)
        return super().get_params(ctx)

    def switches(self) -> frozenset[str]:
        from lpm_kernel.commands.options import switches_of

        return switches_of(self.step.config_kind)


class Steps(Group):
    """The steps of the table, then the scripts that serve two of them."""

    member = "step"

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's signature
        from lpm_kernel.pipeline import STEPS

        return [*(step.name for step in STEPS), *SHARED]

    def get_command(self, ctx: Any, cmd_name: str) -> Command | None:
        return _command(cmd_name) if cmd_name in self.list_commands(ctx) else None


run_app = typer.Typer(
    cls=Steps,
    help="Run one step; paths and settings that are left out come from the workspace.",
    no_args_is_help=True,
    options_metavar="",
    subcommand_metavar="STEP [OPTIONS]",
)


@cache
def _command(name: str) -> StepCommand:
    from lpm_kernel.pipeline import step_named

    return StepCommand(name, step_named(SHARED.get(name, name)))


def run_step(name: str, step: "Step", *, workspace: str, preset: str, **options: str | None) -> None:
    """Run one step with the paths and settings that were given, and no others."""
    from lpm_kernel.runner.run import run_one
    from lpm_kernel.runner.settings import open_workspace, resolve_all

    given = {key: value for key, value in options.items() if value is not None}
    settings = {key: given.pop(key) for key in step.config_kind.settings() if key in given}
    paths = {role: _path(role, value) for role, value in given.items()}
    if name in SHARED:
        paths = _with_reports(step, paths)
    place = open_workspace(workspace)
    configs = resolve_all(place, preset=preset, flags={step.name: settings})
    deciding(place, lambda: run_one(step, place, configs, paths))
    if name == "evaluate":
        exit_unless_promoted(configs[name], paths.get("evaluation_path") or place.place("evaluation.json"))


def _with_reports(step: "Step", paths: dict[str, Path]) -> dict[str, Path]:
    """What a shared stage makes besides its first output stands beside it, unless a flag says otherwise."""
    first, *others = step.makes
    return {role: paths[first].with_suffix(".fidelity.json") for role in others} | paths


def _path(role: str, value: str) -> Path:
    from lpm_kernel.files import expanded

    if not value:
        raise UsageError(f"--{role} is empty; give a path, or leave it out to take the workspace's")
    return expanded(value).absolute()
