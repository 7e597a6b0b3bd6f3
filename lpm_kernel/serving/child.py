"""A child process that is ours: its own group, no terminal, no secrets, output to a file, dead when we are."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lpm_kernel.checkout import CHECKOUT

GUARD = Path(__file__).with_name("parent_guard.py")
GRACE_S = 5.0
"""From terminate to kill."""
TAIL_LINES = 12
TAIL_BYTES = 8192
LIKELY_CAUSES = {
    "SIGILL": "the binary was built for another processor",
    "SIGKILL": "most likely out of memory: fewer --slots or --slot-tokens, or a smaller model",
    "SIGSEGV": "the binary is broken on this processor",
}
NEEDED = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_.+|TZ|TMPDIR|TEMP|TMP|LD_LIBRARY_PATH|DYLD_.+|SSL_CERT_(FILE|DIR)|XDG_.+"
    r"|(CUDA|NVIDIA|HIP|HSA|ROCR|ROCM|GGML|VK|MESA|SYCL|ONEAPI|ZE|OMP|KMP|GOMP|MKL|OPENBLAS|MALLOC)_.+|PYTHON.+|VIRTUAL_ENV"
)
"""Environment variables that a child needs: to be found, to write, and to compute."""
PRIVATE = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
WORKING_FOLDER = "/"
"""Where children work: llama.cpp loads libraries, and Python modules, that lie in the current folder."""


def clean_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What is NEEDED of our environment, with our package on the path, no current folder there, and with `more`."""
    kept = {n: value for n, value in os.environ.items() if NEEDED.fullmatch(n) and not PRIVATE.search(n)}
    kept |= {name: _absolute_only(kept[name]) for name in ("PATH", "LD_LIBRARY_PATH") if name in kept}
    kept["PYTHONPATH"] = _absolute_only(os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))
    return {**kept, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", **(more or {})}


def find_program(name: str) -> Path | None:
    """The program on PATH, where relative entries and empty ones, which mean the current folder, do not count."""
    found = shutil.which(name, path=_absolute_only(os.environ.get("PATH", os.defpath)))
    return Path(found) if found else None


def _absolute_only(paths: str) -> str:
    return os.pathsep.join(path for path in paths.split(os.pathsep) if Path(path).is_absolute())


class Child:
    """Start with the constructor, always end with `stop`; `log_path` is appended to."""

    def __init__(self, name: str, program: Sequence[str], environ: Mapping[str, str], log_path: Path) -> None:
        self.name, self.log_path = name, log_path
        log_path.parent.mkdir(parents=True, exist_ok=True)
        guard = [sys.executable, "-I", "-S", str(GUARD), str(os.getpid())]
        with log_path.open("ab") as log:
            self._log_start = log.tell()
            self._popen = subprocess.Popen(
                [*guard, *program],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environ),
                cwd=WORKING_FOLDER,
                process_group=0,
            )

    @property
    def pid(self) -> int:
        """Process id, and the id of its group."""
        return self._popen.pid

    def wait(self, timeout_s: float) -> int | None:
        """Its exit code, negative for a signal; None when it still runs after timeout_s."""
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def trouble(self, wait_s: float = 0.0) -> str:
        """How it died, with the end of its log; empty while it lives. Waits up to wait_s for a death under way."""
        code = self.wait(wait_s)
        return "" if code is None else f"{self.name}, pid {self.pid}, {_fate(code)}; {self.log_end()}"

    def log_lines(self) -> list[str]:
        """The end of its log, this process's lines only."""
        with self.log_path.open("rb") as log:
            log.seek(max(self._log_start, self.log_path.stat().st_size - TAIL_BYTES))
            return log.read().decode("utf-8", errors="replace").strip().splitlines()[-TAIL_LINES:]

    def log_end(self) -> str:
        """Where the log is and how it ends."""
        lines = self.log_lines()
        ending = "\n".join(f"  | {line[:300]}" for line in lines)
        return f"its log {self.log_path} ends:\n{ending}" if lines else f"its log {self.log_path} is empty"

    def stop(self) -> None:
        """Terminate the group, kill what is left after GRACE_S, and reap. Safe to call twice."""
        try:
            if self._popen.poll() is None:
                self._signal(signal.SIGTERM)
                self.wait(GRACE_S)
        finally:
            self._signal(signal.SIGKILL)
            self._popen.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # the whole group is gone already
            os.killpg(self.pid, number)


def _fate(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    cause = LIKELY_CAUSES.get(name)
    return f"died of {name}" + (f" ({cause})" if cause else "")
