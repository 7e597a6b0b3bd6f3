"""What a stage tells: sentences, by the logger `lpm_kernel`, and progress with the time left. Never a person's text.

Importing it configures nothing: the door calls `show_sentences`, whoever uses the package as a library `logging`.
"""

import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpm_kernel.urls import without_logins

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar

LINE_EVERY_S = 5.0
"""Where the output is no terminal, a progress line at most this often."""
WORTH_A_LINE_S = 1.0
"""What is done sooner is told there by its result alone."""
REDRAW_EVERY_S = 0.1
BAR_CHARS = 24
UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    r"\U000e0000-\U000e007f]"
)
"""What steers a terminal, turns the reading direction or hides text, and what UTF-8 cannot hold; not tab, line feed."""

logger = logging.getLogger("lpm_kernel")


def say(text: str) -> None:
    """One sentence for the person at the screen, and for the run's log."""
    logger.info(text)


def show_sentences() -> None:
    """From now on, write sentences to standard error, so that standard output stays for results."""
    if not any(isinstance(handler, _Screen) for handler in logger.handlers):
        screen = _Screen()
        screen.setFormatter(_Printable())
        logger.addHandler(screen)
    logger.setLevel(logging.INFO)


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Write every sentence to a file too, with the time of day."""
    handler, level = _LogFile(path, encoding="utf-8"), logger.level
    handler.setFormatter(_Printable("%(asctime)s %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    if not logger.isEnabledFor(logging.INFO):
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()


def printable(text: str) -> str:
    r"""The text with each character that steers a terminal written out, such as `\x1b`; URLs without passwords."""
    return UNPRINTABLE.sub(_written_out, without_logins(text))


def inline(text: str) -> str:
    """The same as one line: what others sent stands in a sentence, and begins none."""
    return re.sub(r"[\t\n]", _written_out, printable(text))


def printable_json(value: Any) -> str:
    """JSON for machines that steers no terminal."""
    told = json.dumps(value, indent=2, ensure_ascii=False)
    return UNPRINTABLE.sub(lambda found: json.dumps(found[0])[1:-1], told)


def _written_out(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


class _Printable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _Screen(logging.Handler):
    """Standard error as it is at the time; on a terminal, above a progress bar that is under way."""

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if _on_terminal():
            _console().out(text, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's signature
        """A full disk ends the run, as it does everywhere else."""
        raise


class Progress:
    """Counts to a total: `label 12/80 15% 0:42 left`, on a terminal with a bar."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.done = label, total, 0
        self._bar = _bar(label, total) if _on_terminal() else None
        self._start = self._drawn = time.monotonic()

    def advance(self, count: int = 1) -> None:
        """Add to what is done, and redraw when it is time."""
        self.done += count
        now = time.monotonic()
        if now - self._drawn >= (REDRAW_EVERY_S if self._bar else LINE_EVERY_S):
            self._drawn = now
            self._draw()

    def _draw(self) -> None:
        if self._bar is None:
            print(f"  {self.label} {self._told()}", file=sys.stderr, flush=True)
        else:
            self._bar.update(self._bar.task_ids[0], completed=self.done, told=self._told(), refresh=True)

    def _told(self) -> str:
        spent_s = time.monotonic() - self._start
        share = self.done / self.total if self.total else 1.0
        left = f"{clock(spent_s / share - spent_s)} left" if 0 < share < 1 else f"in {clock(spent_s)}"
        return f"{self.done}/{self.total} {share:.0%} {left}"


@contextmanager
def progress(label: str, total: int) -> Iterator[Progress]:
    """A Progress whose last line stays on the screen, where it took long enough to be worth one."""
    shown = Progress(label, total)
    with shown._bar or nullcontext():
        yield shown
        if shown._bar or time.monotonic() - shown._start >= WORTH_A_LINE_S:
            shown._draw()


def tally(counts: Mapping[str, int]) -> str:
    """` (3 tie, 1 cycle)`, or nothing when all counts are zero."""
    told = [f"{count} {name}" for name, count in sorted(counts.items()) if count]
    return f" ({', '.join(told)})" if told else ""


def clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def human_bytes(count: int) -> str:
    """`0 bytes`, `96 KiB`, `1.4 GiB`."""
    size, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.1f} {unit}" if unit == "GiB" else f"{size:.0f} {unit}"


def _on_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


@cache
def _console() -> "Console":
    from rich.console import Console

    return Console(stderr=True, force_terminal=True)


def _bar(label: str, total: int) -> "Bar":
    """Redrawn by `advance` alone: a thread of its own would run beside training and through every fork."""
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("  {task.description}", markup=False),
        BarColumn(BAR_CHARS, complete_style="green", finished_style="green"),
        TextColumn("{task.fields[told]}", markup=False),
    )
    bar = Bar(*columns, console=_console(), auto_refresh=False, redirect_stdout=False)
    bar.add_task(label, total=total, told=f"0/{total}")
    return bar
