"""What every command shares: the options that mean the same everywhere, and one kind of usage error."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from lpm_kernel.errors import UsageError


def _presets() -> list[str]:
    from lpm_kernel.config import preset_names

    return preset_names()


WorkspaceOption = Annotated[
    str,
    typer.Option(
        "--workspace",
        metavar="<path>",
        help="Root of all data and models; else LPM_WORKSPACE, else resources/.",
        show_default=False,
    ),
]
PresetOption = Annotated[
    str,
    typer.Option(
        "--preset",
        metavar="<name>",
        help="Shipped settings to start from, such as second-me.",
        show_default=False,
        autocompletion=_presets,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="<step.key=value>",
        help="One setting of one step, or of all as common.key=value; may be repeated. Every setting is an option here "
        "too, for all steps that have it: lpm run STEP --help tells them.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="For machines: one JSON object on standard output.")]


class Command(TyperCommand):
    """A command whose options may be spelt with underscores, and that tells the nearest right one to a wrong one."""

    def switches(self) -> frozenset[str]:
        """Options whose value may be left out; they mean `true` then."""
        return frozenset()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args if ctx.resilient_parsing else checked(ctx, args, self.switches()))

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        found = super().shell_complete(ctx, _plain(incomplete))
        if "_" in incomplete:
            for item in found:
                item.value = f"--{item.value[2:].replace('-', '_')}"
        return found


class ChainCommand(Command):
    """A command for many steps: every setting is an option, for all steps that have it, as in `--judge reference`."""

    shown = frozenset({"judge", "accept_judge"})
    """Settings that the help tells here; `lpm run STEP --help` tells all."""

    def get_params(self, ctx: Any) -> list[Any]:
        if not ctx.meta.get(__name__):
            from lpm_kernel.commands.options import options_of_all
            from lpm_kernel.pipeline import config_kinds

            ctx.meta[__name__] = options_of_all(config_kinds().values(), shown=self.shown)
        return [*super().get_params(ctx), *ctx.meta[__name__]]

    def switches(self) -> frozenset[str]:
        from lpm_kernel.commands.options import switches_of
        from lpm_kernel.pipeline import config_kinds

        return frozenset().union(*(switches_of(kind) for kind in config_kinds().values()))

    def invoke(self, ctx: Any) -> Any:
        keys = {option.name for option in ctx.meta[__name__]}
        given = {key: value for key, value in ctx.params.items() if key in keys and value is not None}
        ctx.params = {key: value for key, value in ctx.params.items() if key not in keys}
        ctx.params["settings"] = [*(ctx.params["settings"] or ()), *(f"common.{k}={v}" for k, v in given.items())]
        return super().invoke(ctx)


class Group(TyperGroup):
    """The same for a group of commands; an unknown command is told with the nearest right one."""

    member = "command"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args if ctx.resilient_parsing else checked(ctx, args))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        known = self.list_commands(ctx)
        if args[0] not in known and not ctx.resilient_parsing:
            raise UsageError(
                f"{ctx.command_path}: no {self.member} is called {args[0]!r}{_nearest(args[0], known)}; "
                f"known: {', '.join(known)}"
            )
        return super().resolve_command(ctx, args)


def checked(ctx: Any, arguments: Sequence[str], switches: frozenset[str] = frozenset()) -> list[str]:
    """The arguments as typer wants them: `--lora_r` is `--lora-r`, and `--switch` without a value `--switch=true`.

    A word that starts with `--` is no value unless `=` joins it to its option; a negative number is one.
    Raises UsageError for an option that the command does not have, one whose value is missing, and all that must be
    given and are not.
    """
    options = {name: p for p in ctx.command.get_params(ctx) for name in p.opts if name.startswith("-")}
    rest = list(arguments)
    told: list[str] = []
    while rest and rest[0] != "--":
        word = rest.pop(0)
        if len(word) < 2 or not word.startswith("-"):
            told.append(word)
            if not ctx.allow_interspersed_args:
                break
            continue
        given, joined, value = word.partition("=")
        name = _plain(given)
        if name not in options:
            raise UsageError(
                f"{ctx.command_path}: there is no option {given!r}{_nearest(name, options)}; "
                f"see {ctx.command_path} --help"
            )
        told.append(name + joined + value)
        if joined or options[name].is_flag:
            continue
        if rest and not rest[0].startswith("--") and rest[0] not in options:
            told.append(rest.pop(0))
        elif options[name].name in switches:
            told[-1] = f"{name}=true"
        else:
            raise UsageError(f"{ctx.command_path}: {given} needs a value; see {ctx.command_path} --help")
    given_names = {word.partition("=")[0] for word in told}
    lacking = [name for name, option in options.items() if option.required and name not in given_names]
    if lacking and not given_names & set(ctx.help_option_names):
        raise UsageError(f"{ctx.command_path}: {', '.join(lacking)} must be given; see {ctx.command_path} --help")
    return [*told, *rest]


def _plain(option: str) -> str:
    """The spelling that the help shows: hyphens."""
    return option.replace("_", "-")


def _nearest(name: str, known: Any) -> str:
    from lpm_kernel.config import nearest

    return nearest(name, known)
