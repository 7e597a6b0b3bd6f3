"""The flags of `lpm run STEP`, made from the stage: a setting or a path each, in both spellings."""

import argparse
import importlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from lpm_kernel.config import Config, nearest
from lpm_kernel.errors import UsageError
from lpm_kernel.pipeline import STEPS, Step, step_named

SHARED = {"merge": "dpo-merge", "export-gguf": "dpo-gguf"}
"""Names of the scripts that serve two steps -> the step whose settings count; their paths must be given."""


@dataclass(frozen=True)
class Order:
    """What the command line asks for."""

    step: Step
    settings: dict[str, Any]
    """Only what was given."""
    paths: dict[str, Path]
    workspace: str
    preset: str


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}; see {self.prog} --help")


def parse(arguments: Sequence[str]) -> Order:
    """Raises UsageError with the nearest known flag; `--help` prints and exits 0."""
    if not arguments or arguments[0].startswith("-"):
        print(f"usage: lpm run STEP [flags]; lpm run STEP --help\n\nsteps: {', '.join(s.name for s in STEPS)}")
        raise SystemExit(0 if arguments and arguments[0] in ("--help", "-h") else UsageError.exit_code)
    name, *rest = arguments
    step = step_named(SHARED.get(name, name))
    stage = importlib.import_module(step.module)
    kind: type[Config] = stage.StageConfig
    roles = [*step.needs, *step.makes, *step.uses]
    parser = _parser(name, step, stage, required=[*step.needs, next(iter(step.makes))] if name in SHARED else [])
    values, unknown = parser.parse_known_args(rest)
    if unknown:
        known = [option for action in parser._actions for option in action.option_strings]
        flag = unknown[0].split("=")[0]
        raise UsageError(f"lpm run {name}: unknown argument {flag!r}{nearest(flag, known)}; see lpm run {name} --help")
    given = vars(values)
    if name in SHARED:
        _place_reports(step, given)
    return Order(
        step=step,
        settings={key: given[key] for key in kind.model_fields if given[key] is not None},
        paths={role: Path(given[role]).expanduser().absolute() for role in roles if given[role] is not None},
        workspace=given["workspace"] or "",
        preset=given["preset"] or "",
    )


def _place_reports(step: Step, given: dict[str, Any]) -> None:
    """What a shared stage makes besides its first output stands beside it, unless a flag says otherwise."""
    first, *others = step.makes
    for role in others:
        if given[role] is None:
            given[role] = str(Path(given[first]).with_suffix(".fidelity.json"))


def _parser(name: str, step: Step, stage: Any, required: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"lpm run {name}",
        usage=f"lpm run {name} [--setting VALUE ...] [--some_path PATH ...]",
        description=inspect.getdoc(stage),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    paths = parser.add_argument_group("paths; left out, they are found in the workspace")
    for role, artifact in {**step.needs, **step.makes, **step.uses}.items():
        paths.add_argument(*_spellings(role), metavar="PATH", required=role in required, help=artifact)
    settings = parser.add_argument_group("settings")
    for key, field in stage.StageConfig.model_fields.items():
        text = f"{field.description} [default: {field.default!r}]".replace("%", "%%")
        switch: dict[str, Any] = {"nargs": "?", "const": "true"} if field.annotation is bool else {}
        settings.add_argument(*_spellings(key), metavar="VALUE", help=text, **switch)
    parser.add_argument("--workspace", metavar="PATH", help="root of all data and models [default: resources/]")
    parser.add_argument("--preset", metavar="NAME", help="shipped settings to start from, such as second-me")
    return parser


def _spellings(key: str) -> list[str]:
    return list(dict.fromkeys([f"--{key.replace('_', '-')}", f"--{key}"]))
