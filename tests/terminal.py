"""A terminal of our own for a command that asks: what it shows, and keys typed into it."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import ROOT

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PATIENCE_S = 60.0


class Terminal:
    """A process on a pseudo-terminal; `shown` is all that it has written."""

    def __init__(self, process: "subprocess.Popen[bytes]", ours: int) -> None:
        self.process, self._ours, self._raw = process, ours, b""

    @property
    def raw(self) -> str:
        """All of it, escapes too."""
        return self._raw.decode(errors="replace")

    @property
    def shown(self) -> str:
        """Without colours."""
        return ESCAPES.sub("", self.raw).replace("\r\n", "\n")

    def wait_for(self, text: str, after: int = 0) -> str:
        """What was shown from `after` on, once the text stands in it; all there is when the process ends."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.shown[after:] and self._read(deadline):
            pass
        assert text in self.shown[after:], self.shown
        return self.shown[after:]

    def press(self, keys: str) -> None:
        """Type them."""
        os.write(self._ours, keys.encode())

    def end(self) -> int:
        """Wait for the end; the exit code."""
        while self._read(time.monotonic() + PATIENCE_S):
            pass
        return self.process.wait(PATIENCE_S)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._ours], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"nothing more came: {self.shown}"
        try:
            part = os.read(self._ours, 2**16)
        except OSError:  # Linux tells the end of a terminal so
            part = b""
        self._raw += part
        return bool(part)


@contextmanager
def lpm_on_a_terminal(*arguments: str | Path, columns: int = 80, cwd: Path = ROOT) -> Iterator[Terminal]:
    """`lpm` with all three streams on a terminal of so many columns; killed at the end if it still runs."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LPM_", "OPENAI_", "COLUMNS", "LINES"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "lpm_kernel", *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=cwd,
        env={**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "PYTHONUTF8": "1"},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
