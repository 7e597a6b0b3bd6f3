"""The one door: `lpm pipeline | run STEP | steps | status | path | doctor | bio | serve`."""

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from lpm_kernel.errors import DiskError, LpmError, OutputError, UsageError
from lpm_kernel.progress import say, show_sentences

app = typer.Typer(
    help="Make a personal language model prefer its own best answers, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
bio_app = typer.Typer(help="The global bio that every verdict is given by.", no_args_is_help=True)
app.add_typer(bio_app, name="bio")

WorkspaceOption = Annotated[
    str, typer.Option("--workspace", help="Root of all data and models; else LPM_WORKSPACE, else resources/.")
]
PresetOption = Annotated[str, typer.Option("--preset", help="Shipped settings to start from, such as second-me.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="One setting: STEP.KEY=VALUE; may be repeated.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For machines: one JSON object on standard output.")]
PASS_ALL = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command()
def pipeline(
    demo: Annotated[bool, typer.Option("--demo", help="The embedded demo: a fictional owner, a tiny model.")] = False,
    start: Annotated[str, typer.Option("--from", help="Run this step and all after it, made or not.")] = "",
    until: Annotated[str, typer.Option("--until", help="Stop after this step.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run and why; run nothing.")] = False,
    workspace: WorkspaceOption = "",
    preset: PresetOption = "",
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the chain to its verdict; skip what is made."""
    from lpm_kernel import chain, screen
    from lpm_kernel.pipeline import STEPS
    from lpm_kernel.settings import is_demo, open_workspace, resolve_all

    place = open_workspace(workspace, demo=demo, dry_run=dry_run)
    configs = resolve_all(place, preset=preset or ("demo" if demo else ""), assignments=settings or ())
    last = until or STEPS[-1].name
    if is_demo(place) and not demo:
        say(f"{place.root} holds the demo; for your own model take it away first: make clean")
    if dry_run:
        screen.show_plan(place, configs, until=last, start=start or None, filled=demo, as_json=as_json)
        return
    chain.run_chain(place, configs, until=last, start=start or None)
    if last == STEPS[-1].name:
        screen.show_verdict(place, as_json=as_json)


@app.command(context_settings=PASS_ALL)
def run(context: typer.Context) -> None:
    """Run one step: lpm run STEP [--setting VALUE] [--some_path PATH]; lpm run STEP --help lists them."""
    from lpm_kernel import chain
    from lpm_kernel.flags import parse
    from lpm_kernel.settings import open_workspace, resolve_all

    order = parse(context.args)
    place = open_workspace(order.workspace)
    configs = resolve_all(place, preset=order.preset, flags={order.step.name: order.settings})
    chain.run_one(order.step, place, configs, order.paths)


@app.command()
def steps(as_json: JsonOption = False) -> None:
    """The table of the chain."""
    from lpm_kernel import screen

    screen.show_steps(as_json)


@app.command()
def status(workspace: WorkspaceOption = "", preset: PresetOption = "", as_json: JsonOption = False) -> None:
    """What is made, running, failed or stale."""
    from lpm_kernel import screen
    from lpm_kernel.settings import open_workspace, resolve_all

    place = open_workspace(workspace)
    screen.show_status(place, resolve_all(place, preset=preset), as_json)


@app.command()
def path(
    artifact: Annotated[str, typer.Argument(help="Its name, as in `lpm steps`.")],
    workspace: WorkspaceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Where an artifact is, or would be."""
    from lpm_kernel.settings import open_workspace

    place = open_workspace(workspace)
    found = place.find(artifact)
    shown = str(found or place.place(artifact))
    print(json.dumps({"artifact": artifact, "path": shown, "exists": found is not None}) if as_json else shown)


@app.command()
def doctor(workspace: WorkspaceOption = "", as_json: JsonOption = False) -> None:
    """What is missing here, and the cure; exit code 1 when the pipeline cannot run."""
    from lpm_kernel.doctor import examine
    from lpm_kernel.screen import show_findings
    from lpm_kernel.settings import open_workspace, resolve_all

    place = open_workspace(workspace)
    findings = examine(place, resolve_all(place))
    show_findings(findings, as_json)
    raise typer.Exit(code=int(any(f.blocks for f in findings)))


@app.command()
def serve(
    model: Annotated[Path | None, typer.Option("--model", help="A GGUF; else the promoted model.")] = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Loopback port.")] = 8080,
    workspace: WorkspaceOption = "",
) -> None:
    """Serve a GGUF on 127.0.0.1:8080 until Ctrl-C, without a key, OpenAI-compatible."""
    from lpm_kernel.promotion import best_gguf
    from lpm_kernel.serving.llama_cpp import serve_forever
    from lpm_kernel.settings import open_workspace

    place = open_workspace(workspace)
    serve_forever(model or best_gguf(place), port=port, log_path=place.work_path("serve") / "server.log")


@bio_app.command("show")
def bio_show(workspace: WorkspaceOption = "", as_json: JsonOption = False) -> None:
    """Print the bio."""
    from lpm_kernel.preferences.bio import read_bio
    from lpm_kernel.settings import open_workspace

    place = open_workspace(workspace)
    source = place.find("global_bio") or place.place("global_bio")
    text = read_bio(source)
    print(json.dumps({"path": str(source), "text": text}, ensure_ascii=False) if as_json else text)


@bio_app.command("edit")
def bio_edit(workspace: WorkspaceOption = "") -> None:
    """Open the bio in $VISUAL or $EDITOR; a template where there is none yet."""
    from lpm_kernel.bio_editor import edit
    from lpm_kernel.settings import open_workspace

    place = open_workspace(workspace)
    edit(place.place("global_bio"), found=place.find("global_bio"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: errors become one message and a sysexits code, signals 128 + their number."""
    signal.signal(signal.SIGTERM, _terminate)
    show_sentences()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin beside other work cost a factor of 20
    try:
        code = app(args=list(sys.argv[1:] if arguments is None else arguments), standalone_mode=False)
    except LpmError as error:
        _end(f"error: {error}", error.exit_code)
    except KeyboardInterrupt:
        _end(STOPPED, 130)
    except BrokenPipeError:
        _end("", 141)
    except OSError as error:
        if error.errno in DENIED_ERRNOS:
            _end(f"error: {error}; make it writable for you, or choose another --workspace", OutputError.exit_code)
        if error.errno not in DISK_ERRNOS:
            raise
        _end(f"error: {error}; free space and start again: what was there before still is", DiskError.exit_code)
    except Exception as error:
        usage = _usage_message(error)
        if usage is None:
            raise
        _end(f"error: {usage}" if usage else "", UsageError.exit_code)
    if code == 130:  # typer turns Ctrl-C into a code
        _end(STOPPED, 130)
    sys.exit(code if isinstance(code, int) else 0)


STOPPED = "stopped; what was done is kept, the same command goes on from there"
DENIED_ERRNOS = {1, 13, 30}
"""EPERM, EACCES, EROFS."""
DISK_ERRNOS = {5, 27, 28, 122}
"""EIO, EFBIG, ENOSPC, EDQUOT."""


def _usage_message(error: Exception) -> str | None:
    """The message of typer's own usage errors, which have `format_message`; empty when it has shown the help."""
    shape: Any = getattr(error, "format_message", None)
    if shape is None:
        return None
    told = str(shape()).rstrip(".")
    return told and f"{told}; see lpm --help"


def _end(message: str, code: int) -> None:
    if message:
        say(message)
    sys.exit(code)


def _terminate(number: int, frame: FrameType | None) -> None:
    """SIGTERM unwinds the stack like Ctrl-C, so that servers stop and the journal is closed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + number)
