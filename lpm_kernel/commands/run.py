"""`lpm run STEP`: one sub-command a step, made from the table and the step's stage when it is asked for."""

import ast
import importlib
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lpm_kernel.commands.base import Command, Group
from lpm_kernel.errors import UsageError

if TYPE_CHECKING:
    from lpm_kernel.pipeline import Step

SHARED = {"merge": "dpo-merge", "export-gguf": "dpo-gguf"}
"""Names of the scripts that serve two steps -> the step whose settings count; their paths must be given."""
SCRIPTS = "Scripts that serve two steps; their paths must be given"


class StepCommand(Command):
    """The command of one step. The stage is imported for its options, not for its line in the list."""

    def __init__(self, name: str, step: "Step") -> None:
        from rich.markup import escape

        text = escape(_docstring(step.module))
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
            self.params = options_of(self.step, _kind(self.step), must=must)
        return super().get_params(ctx)

    def switches(self) -> frozenset[str]:
        from lpm_kernel.commands.options import switches_of

        return switches_of(_kind(self.step))


class Steps(Group):
    """The steps of the table, then the scripts that serve two of them."""

    member = "step"

    def list_commands(self, ctx: Any) -> list[str]:
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
    from lpm_kernel import chain
    from lpm_kernel.settings import open_workspace, resolve_all

    given = {key: value for key, value in options.items() if value is not None}
    settings = {key: given.pop(key) for key in _kind(step).model_fields if key in given}
    paths = {role: _path(role, value) for role, value in given.items()}
    if name in SHARED:
        paths = _with_reports(step, paths)
    place = open_workspace(workspace)
    chain.run_one(step, place, resolve_all(place, preset=preset, flags={step.name: settings}), paths)


def _with_reports(step: "Step", paths: dict[str, Path]) -> dict[str, Path]:
    """What a shared stage makes besides its first output stands beside it, unless a flag says otherwise."""
    first, *others = step.makes
    return {role: paths[first].with_suffix(".fidelity.json") for role in others} | paths


def _path(role: str, value: str) -> Path:
    if not value:
        raise UsageError(f"--{role} is empty; give a path, or leave it out to take the workspace's")
    return Path(value).expanduser().absolute()


def _kind(step: "Step") -> Any:
    return importlib.import_module(step.module).StageConfig


def _docstring(module: str) -> str:
    """The docstring of a module that is not imported for it."""
    spec = find_spec(module)
    assert spec and spec.origin
    return ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
