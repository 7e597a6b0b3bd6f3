"""`lpm pipeline`: the whole chain."""

from typing import Annotated

import typer

from lpm_kernel.commands.base import JsonOption, PresetOption, SetOption, WorkspaceOption
from lpm_kernel.commands.decide import deciding, exit_unless_promoted, requires_promotion
from lpm_kernel.errors import UsageError
from lpm_kernel.progress import say


def _step_names() -> list[str]:
    from lpm_kernel.pipeline import STEPS

    return [step.name for step in STEPS]


def _step_option(flag: str, text: str) -> object:
    return typer.Option(flag, metavar="<step>", help=text, show_default=False, autocompletion=_step_names)


def _demo_languages() -> list[str]:
    from lpm_kernel.demo.owner import languages

    return languages()


def _language_option() -> object:
    text = "Language of the demo's owner, such as de, ja or zh; else of the demo that is there, or English."
    return typer.Option(
        "--demo-language", metavar="<code>", help=text, show_default=False, autocompletion=_demo_languages
    )


def pipeline(
    demo: Annotated[bool, typer.Option("--demo", help="The embedded demo: a fictional owner, a tiny model.")] = False,
    demo_language: Annotated[str, _language_option()] = "",
    start: Annotated[str, _step_option("--from", "Run this step and all after it, made or not.")] = "",
    until: Annotated[str, _step_option("--until", "Stop after this step.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run and why; run nothing.")] = False,
    workspace: WorkspaceOption = "",
    preset: PresetOption = "",
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the chain to its verdict; skip what is made."""
    from lpm_kernel.commands import tables
    from lpm_kernel.demo.gift import preset_of
    from lpm_kernel.pipeline import STEPS
    from lpm_kernel.runner.run import run_chain
    from lpm_kernel.runner.settings import demo_workspace, fill_with_demo, is_demo, open_workspace, resolve_all

    if demo_language and not demo:
        raise UsageError(f"--demo-language {demo_language} is for the demo alone; add --demo")
    place, language = demo_workspace(workspace, demo_language) if demo else (open_workspace(workspace), "")
    if demo and not dry_run:
        fill_with_demo(place, language)
    configs = resolve_all(place, preset=preset or (preset_of(language) if demo else ""), assignments=settings or ())
    last = until or STEPS[-1].name
    if last != STEPS[-1].name and requires_promotion(configs[STEPS[-1].name]):
        raise UsageError(f"--require-promote asks for a verdict, and --until {last} stops before it; leave one out")
    if is_demo(place) and not demo:
        say(f"{place.root} holds the demo; to go to your own data: lpm init, which sets the demo aside")
    if dry_run:
        tables.show_plan(place, configs, until=last, start=start or None, filled=demo, as_json=as_json)
        return
    deciding(place, lambda: run_chain(place, configs, until=last, start=start or None))
    if last == STEPS[-1].name:
        tables.show_verdict(place, as_json=as_json)
        exit_unless_promoted(configs[last], place.place("evaluation.json"))
