#!/usr/bin/env python3
"""Run every step of the chain on a disk that is full at one size after another, and hold it to its promises.

    sudo .venv/bin/python tests/soak/full_disk.py --sizes 8          # root, because it mounts a tmpfs

A chain is made undisturbed. Then, for each step and each size from nothing to just short of what the step took at its
peak, the workspace stands on a tmpfs with that much room left: the step must end with exit code 74 and one sentence
that names a path and the cure, leave no half-made artifact, and succeed once there is room. Exit code 1 otherwise.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import NoReturn

sys.path.insert(1, str(Path(__file__).resolve().parents[2]))
sys.path.insert(1, str(Path(__file__).resolve().parents[2] / "tests"))

from conftest import ROOT
from kill_laws import half_made, litter
from tiny_chain import ONE_THREAD, Place, placed, write_owner

from lpm_kernel.commands.app import main as main_of_lpm
from lpm_kernel.pipeline import STEPS, step_named
from lpm_kernel.workspace.manifest import manifest_path
from lpm_kernel.workspace.places import Workspace

DISK_BYTES = 256 * 2**20
SMALL = (0, 4096, 100 * 1024)
"""Bytes free, whatever a step takes."""
POLL_S = 0.002
LONGEST_RUN_S = 300.0


@dataclass(frozen=True)
class Trial:
    """One step on one disk."""

    step: str
    free_bytes: int
    code: int
    told: str
    violations: tuple[str, ...]


@contextmanager
def small_disk(root: Path, whole: Path) -> Iterator[None]:
    """A tmpfs at `root` that holds what `whole` does."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", root], check=True)
    try:
        shutil.copytree(whole, root, dirs_exist_ok=True, symlinks=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", root], check=True)


def free_bytes(root: Path) -> int:
    return shutil.disk_usage(root).free


def fill(root: Path, left_bytes: int) -> Path:
    """A file that leaves so much room."""
    ballast = root / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free_bytes(root) - left_bytes))
    return ballast


def undo(root: Path, step: str) -> None:
    """The step was never run."""
    workspace = Workspace(root)
    shutil.rmtree(root / "runs/work" / step, ignore_errors=True)
    for artifact in step_named(step).makes.values():
        place = workspace.place(artifact)
        for path in (manifest_path(place), place):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def run(place: Place, step: str) -> tuple[int, str]:
    """`lpm run STEP` in a fork of this process, which has the libraries loaded: exit code and screen."""
    if (pid := os.fork()) == 0:
        _become(place, ["run", step, "--workspace", str(place.root)])
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status), place.screen_path.read_text(encoding="utf-8", errors="replace")


def _become(place: Place, arguments: list[str]) -> NoReturn:
    """This process is `lpm` now, without settings of this machine."""
    code = 1
    try:
        screen = os.open(place.screen_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(screen, 1)
        os.dup2(screen, 2)
        os.chdir(place.root.parent)
        for name in [name for name in os.environ if name.startswith(("LPM_", "OPENAI_"))]:
            del os.environ[name]
        os.environ |= {"OPENAI_API_KEY": "scripted", "PYTHONPATH": str(ROOT), "TMPDIR": str(place.temporary_path)}
        main_of_lpm(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def peak_bytes(place: Place, whole: Path, step: str) -> int:
    """What the step takes of the disk, at most, while it runs undisturbed."""
    with small_disk(place.root, whole):
        undo(place.root, step)
        before, least, over = free_bytes(place.root), [free_bytes(place.root)], threading.Event()

        def watch() -> None:
            while not over.wait(POLL_S):
                least[0] = min(least[0], free_bytes(place.root))

        watching = threading.Thread(target=watch)
        watching.start()
        code, screen = run(place, step)
        over.set()
        watching.join()
    if code:
        raise SystemExit(f"{step} fails on a large disk:\n{screen}")
    return before - least[0]


def sizes_below(peak: int, count: int) -> list[int]:
    """Bytes free: some small sizes, and an even spread to a page short of the peak."""
    spread = [peak * n // count for n in range(1, count)]
    return sorted({size for size in (*SMALL, *spread, peak - 4096) if 0 <= size < peak})


def trial(place: Place, whole: Path, step: str, size: int) -> Trial:
    """One step on one disk, full and then with room."""
    with small_disk(place.root, whole):
        undo(place.root, step)
        absent = set(step_named(step).makes.values())
        ballast = fill(place.root, size)
        code, screen = run(place, step)
        told = screen[screen.rfind("error:") :].strip() if "error:" in screen else screen[-300:]
        found = []
        if code == 0:
            found += ["fewer bytes than at the peak were enough"] if litter(place.root) else []
        else:
            found += [] if code == 74 else [f"exit code {code}"]
            found += ["a traceback"] if "Traceback" in screen else []
            found += [] if re.search(r"/resources.*(free|room)", told, re.DOTALL) else ["no path or cure"]
        found += [f"half made: {name}" for name in half_made(place.root)]
        if code and (made := {a for a in absent if Workspace(place.root).place(a).exists()}) == absent:
            found.append(f"all outputs are there: {made}")
        ballast.unlink()
        again, screen = run(place, step)
        found += [] if again == 0 and not litter(place.root) else [f"with room: exit code {again}: {screen[-300:]}"]
    return Trial(step, size, code, told, tuple(found))


def main() -> None:
    """Exits 1 when a law is violated."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, default=8, help="between nothing and a step's peak, besides three small")
    parser.add_argument("--steps", nargs="*", default=[step.name for step in STEPS])
    parser.add_argument("--json", action="store_true", help="one JSON object a line on standard output")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # unwind, so that nothing of ours stays
    with tempfile.TemporaryDirectory(prefix="lpm-full-") as folder:
        trials = list(all_trials(Path(folder), options.steps, options.sizes, options.json))
    bad = [t for t in trials if t.violations]
    full = sum(t.code == 74 for t in trials)
    print(f"{len(trials)} runs on a full disk, {full} ended with 74, {len(bad)} against a promise", file=sys.stderr)
    sys.exit(1 if bad else 0)


def all_trials(folder: Path, steps: list[str], sizes: int, as_json: bool) -> Iterator[Trial]:
    """Each as it comes, told on the screen."""
    os.environ |= ONE_THREAD | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    for library in ("torch", "peft", "trl.trainer.dpo_trainer", "datasets"):
        import_module(library)
    write_owner(folder / "owner")
    with placed(folder, "chain", folder / "owner") as place:
        with place.pipeline() as process:
            if process.wait(LONGEST_RUN_S):
                raise SystemExit(place.screen_end())
        whole = place.root.with_name("whole")
        place.root.rename(whole)
        place.root.mkdir()
        for step in steps:
            peak = peak_bytes(place, whole, step)
            for size in sizes_below(peak, sizes):
                started = time.monotonic()
                found = trial(place, whole, step, size)
                if as_json:
                    print(json.dumps(asdict(found)), flush=True)
                verdict = "; ".join(found.violations) or "ok"
                print(
                    f"{step}: {size} of {peak} bytes free: exit {found.code}, {time.monotonic() - started:.0f} s: "
                    f"{verdict}\n    {found.told[:400]}",
                    file=sys.stderr,
                    flush=True,
                )
                yield found


if __name__ == "__main__":
    main()
