"""What a stage tells the screen: sentences, and progress with the time left. Never a person's text."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

LINE_EVERY_S = 5.0
"""Where the output is no terminal, a progress line at most this often."""
REDRAW_EVERY_S = 0.1


_log: list[TextIO] = []


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Write every sentence to a file too, with its time."""
    with path.open("a", encoding="utf-8") as file:
        _log.append(file)
        try:
            yield
        finally:
            _log.remove(file)


def say(text: str) -> None:
    """One line on standard error, so that standard output stays for results."""
    print(text, file=sys.stderr, flush=True)
    for file in _log:
        print(time.strftime("%H:%M:%S"), text, file=file, flush=True)


class Progress:
    """Counts to a total; draws `label 12/80 15 % 0:42 left`."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.done = label, total, 0
        self._terminal = sys.stderr.isatty()
        self._start = self._drawn = time.monotonic()

    def advance(self, count: int = 1) -> None:
        """Add to what is done, and redraw when it is time."""
        self.done += count
        now = time.monotonic()
        if now - self._drawn >= (REDRAW_EVERY_S if self._terminal else LINE_EVERY_S):
            self._drawn = now
            self._draw(end="\r" if self._terminal else "\n")

    def _draw(self, end: str) -> None:
        spent_s = time.monotonic() - self._start
        share = self.done / self.total if self.total else 1.0
        left = f"{clock(spent_s / share - spent_s)} left" if 0 < share < 1 else f"in {clock(spent_s)}"
        clear = "\x1b[2K" if self._terminal else ""
        print(
            f"{clear}  {self.label} {self.done}/{self.total} {share:.0%} {left}",
            end=end,
            file=sys.stderr,
            flush=True,
        )


@contextmanager
def progress(label: str, total: int) -> Iterator[Progress]:
    """A Progress whose last line stays on the screen."""
    shown = Progress(label, total)
    yield shown
    shown._draw(end="\n")


def tally(counts: Mapping[str, int]) -> str:
    """` (3 tie, 1 cycle)`, or nothing when all counts are zero."""
    told = [f"{count} {name}" for name, count in sorted(counts.items()) if count]
    return f" ({', '.join(told)})" if told else ""


def clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
