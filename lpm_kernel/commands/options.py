"""The options of `lpm run STEP`, made from the stage: one for each path, one for each field of its settings."""

import inspect
from collections.abc import Collection, Iterable
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from rich.markup import escape

from lpm_kernel.commands.base import PresetOption, WorkspaceOption
from lpm_kernel.config import Config, OneOf
from lpm_kernel.pipeline import Step

PATHS = "Paths; left out, they are found in the workspace"
SETTINGS = "Settings; underscores do as well as hyphens"
WIDEST_BOUND = 1_000_000
"""A bound beyond this is not worth its place in the help."""
SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
MIRRORED = {"ge": "<=", "gt": "<"}


def options_of(step: Step, kind: type[Config], *, must: Collection[str]) -> list[Any]:
    """Options whose values stay text: pydantic reads them, and its error names the flag.

    `must` are the roles whose path has to be given.
    """
    paths = [
        _parameter(role, _path_option(role, artifact, use, "Paths" if must else PATHS), role in must)
        for use, roles in {
            "read": step.needs,
            "written": step.makes,
            "read if there": {**step.heeds, **step.uses},
        }.items()
        for role, artifact in roles.items()
    ]
    settings = [_parameter(key, _setting_option(key, field)) for key, field in kind.settings().items()]
    common = [
        inspect.Parameter("workspace", inspect.Parameter.KEYWORD_ONLY, default="", annotation=WorkspaceOption),
        inspect.Parameter("preset", inspect.Parameter.KEYWORD_ONLY, default="", annotation=PresetOption),
    ]
    return _made([*paths, *settings, *common])


def options_of_all(kinds: Iterable[type[Config]], *, shown: Collection[str]) -> list[Any]:
    """An option for each setting of any of these; the help shows those of `shown`."""
    fields = {key: field for kind in kinds for key, field in kind.settings().items()}
    options = _made([_parameter(key, _setting_option(key, field)) for key, field in fields.items()])
    for option in options:
        option.hidden = option.name not in shown
    return options


def _made(parameters: list[inspect.Parameter]) -> list[Any]:
    def takes_them(**given: str) -> None:
        """Never called: typer reads the options off its signature."""

    takes_them.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    app = typer.Typer(add_completion=False)
    app.command()(takes_them)
    return typer.main.get_command(app).params


def switches_of(kind: type[Config]) -> frozenset[str]:
    """The settings that are true or false: their value may be left out."""
    return frozenset(key for key, field in kind.settings().items() if field.annotation is bool)


def _parameter(name: str, option: Any, must: bool = False) -> inspect.Parameter:
    kind: Any = str if must else str | None
    default = inspect.Parameter.empty if must else None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


def _path_option(role: str, artifact: str, use: str, panel: str) -> Any:
    return typer.Option(_flag(role), metavar="<path>", help=_help(artifact, use), rich_help_panel=panel)


def _setting_option(key: str, field: FieldInfo) -> Any:
    choices = _choices(field)
    limits = "" if field.annotation is bool else "|".join(choices) or _bounds(field)
    remark = "; ".join(part for part in (limits, f"default: {_shown(field.default)}") if part)
    return typer.Option(
        _flag(key),
        metavar="<choice>" if choices and field.annotation is not bool else f"<{_type_name(field.annotation)}>",
        help=_help(field.description or "", remark),
        rich_help_panel=SETTINGS,
        autocompletion=(lambda: choices) if choices else None,
    )


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _help(text: str, remark: str) -> str:
    """Rich markup: the text as it stands, and a dim remark in brackets, as typer writes defaults."""
    return f"{escape(text)} [dim]{escape(f'[{remark}]')}[/dim]"


def _choices(field: FieldInfo) -> list[str]:
    """The words that a setting may be, where they can be counted."""
    if field.annotation is bool:
        return ["true", "false"]
    named = [name for mark in field.metadata if isinstance(mark, OneOf) for name in mark.names]
    listed = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return named or [str(word) for word in listed]


def _type_name(annotation: Any) -> str:
    """One short word, so that the help of a narrow terminal has room for the names of the options."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    return str((kinds or [annotation])[0].__name__)


def _bounds(field: FieldInfo) -> str:
    """`0<=x<1`, `x>0`, or nothing."""
    marks = {name: getattr(mark, name) for mark in field.metadata for name in SIGNS if hasattr(mark, name)}
    found = {name: bound for name, bound in marks.items() if bound <= WIDEST_BOUND}
    above = [name for name in ("ge", "gt") if name in found]
    below = "".join(f"{SIGNS[name]}{found[name]}" for name in ("le", "lt") if name in found)
    if above and below:
        return f"{found[above[0]]}{MIRRORED[above[0]]}x{below}"
    return "".join(f"x{SIGNS[name]}{found[name]}" for name in above) or (below and f"x{below}")


def _shown(value: Any) -> str:
    """A default as one would type it."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return str(value) or "empty"
