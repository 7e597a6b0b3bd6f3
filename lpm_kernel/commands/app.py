"""The one door: every `lpm` command, what errors and signals exit with, and who may read what is written."""

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, Any

import typer

from lpm_kernel import __version__
from lpm_kernel.commands import look
from lpm_kernel.commands.base import ChainCommand, Command, Group
from lpm_kernel.commands.bio import bio_app
from lpm_kernel.commands.blind import blind
from lpm_kernel.commands.clean import clean
from lpm_kernel.commands.init import init
from lpm_kernel.commands.judge import judge_app
from lpm_kernel.commands.pairs import pairs_app
from lpm_kernel.commands.pipeline import pipeline
from lpm_kernel.commands.run import run_app
from lpm_kernel.commands.serve import serve
from lpm_kernel.commands.use import use
from lpm_kernel.commands.versions import compare, rollback, versions
from lpm_kernel.errors import LpmError, UsageError, from_system
from lpm_kernel.progress import say, show_sentences

app = typer.Typer(
    cls=Group,
    context_settings={"help_option_names": ["--help", "-h"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command(cls=ChainCommand)(pipeline)
app.add_typer(run_app, name="run")
for command in (init, look.steps, look.status, look.path, look.doctor, use, blind, serve, versions, rollback, clean):
    app.command(cls=Command)(command)
app.command(cls=ChainCommand)(compare)
app.add_typer(bio_app, name="bio")
app.add_typer(judge_app, name="judge")
app.add_typer(pairs_app, name="pairs")


def _print_version(asked: bool) -> None:
    if asked:
        print(f"lpm {__version__}")
        raise typer.Exit


@app.callback()
def lpm(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Make a personal language model prefer its own best answers, and prove it."""


PRIVATE_UMASK = 0o077
"""What we and our children write is for its owner alone: folders 0700, files 0600, whoever writes them."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: errors become one message and a sysexits code, signals 128 + their number."""
    os.umask(PRIVATE_UMASK)
    signal.signal(signal.SIGTERM, _terminate)
    show_sentences()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin beside other work cost a factor of 20
    try:
        given = list(sys.argv[1:] if arguments is None else arguments)
        code = app(args=given, prog_name="lpm", standalone_mode=False)
    except LpmError as error:
        _end(f"error: {error}", error.exit_code)
    except KeyboardInterrupt:
        _end(STOPPED, 130)
    except typer.Abort:  # Ctrl-C or Ctrl-D at a question, which comes before anything is done
        _end("\nstopped at the question; nothing is changed", 130)
    except BrokenPipeError:
        _end("", 141)
    except Exception as error:
        known, usage = from_system(error), _usage_message(error)
        if known is not None:
            _end(f"error: {known}", known.exit_code)
        if usage is None:
            raise
        _end(f"error: {usage}" if usage else "", UsageError.exit_code)
    if code == 130:  # typer turns Ctrl-C into a code
        _end(STOPPED, 130)
    sys.exit(code if isinstance(code, int) else 0)


STOPPED = "stopped; what was done is kept, the same command goes on from there"


def _usage_message(error: Exception) -> str | None:
    """The message of typer's own usage errors, which have `format_message`; empty when it has shown the help."""
    shape: Any = getattr(error, "format_message", None)
    if shape is None:
        return None
    told = str(shape()).rstrip(".")
    place = getattr(getattr(error, "ctx", None), "command_path", "lpm")
    return told and f"{place}: {told[0].lower()}{told[1:]}; see {place} --help"


def _end(message: str, code: int) -> None:
    if message:
        say(message)
    sys.exit(code)


def _terminate(number: int, _: FrameType | None) -> None:
    """SIGTERM unwinds the stack like Ctrl-C, so that servers stop and the journal is closed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + number)
