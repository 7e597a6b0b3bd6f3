#!/usr/bin/env python3
"""Damage every file that a chain keeps, one range after another, and hold what comes next to its promises.

    .venv/bin/python tests/soak/damage.py --ranges 4 --rebuilds 20 --seed 1

One chain runs to its end, and its candidate is kept as a version. Then each file below the workspace (but the journals,
which repair themselves) is damaged in each of its ranges: cut there, a page of zeros, one flipped bit; the times are
set back. After each damage `lpm status`, `lpm pipeline --dry-run`, `lpm versions` and the choices of `lpm serve` and
of the promotion run on it: none ends in a traceback or with another code than sysexits has; a damaged artifact is
said to be made again; and no model but a whole one is served or promoted. Then the file is as it was.

For some damages, drawn by the seed, `lpm pipeline` really runs: it ends with everything whole and as before, or with a
sentence. Exit code 1 when a promise is broken; the workspace is then kept.
"""

import argparse
import io
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[2]))
sys.path.insert(1, str(Path(__file__).resolve().parents[2] / "tests"))

from checks import fingerprint
from kill_laws import half_made
from tiny_chain import Place, placed, write_owner

from lpm_kernel.commands.app import main as lpm
from lpm_kernel.errors import LpmError
from lpm_kernel.files import file_sha256
from lpm_kernel.pipeline import STEPS
from lpm_kernel.runner import versions as promotion
from lpm_kernel.runner.settings import resolve_all
from lpm_kernel.runner.state import chain_states
from lpm_kernel.workspace import versions
from lpm_kernel.workspace.lock import lock
from lpm_kernel.workspace.manifest import files_of, manifest_path
from lpm_kernel.workspace.places import Workspace

LOOKS = (("status",), ("pipeline", "--dry-run"), ("versions",), ("doctor",), ("path", "lpm.gguf"))
SYSEXITS = {0, 1, *range(64, 79)}
PAGE_BYTES = 4096
LONGEST_RUN_S = 600.0


@dataclass(frozen=True)
class Damage:
    """What is done to one file."""

    path: Path
    kind: str
    at: int
    """Offset in bytes."""

    def inflict(self) -> None:
        """In place, so that hard links suffer too; the times are set back."""
        stat = self.path.stat()
        with self.path.open("r+b") as file:
            if self.kind == "cut":
                file.truncate(self.at)
            else:
                file.seek(self.at)
                page = file.read(PAGE_BYTES)
                file.seek(self.at)
                file.write(bytes(len(page)) if self.kind == "zeros" else bytes([page[0] ^ 1]))
        os.utime(self.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@dataclass
class Soak:
    """All that is known so far."""

    place: Place
    whole: dict[Path, bytes]
    """File -> its content before any damage."""
    sha256: dict[Path, str]
    outcomes: Counter[str] = field(default_factory=Counter)
    rebuilds: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def hold(self, law: str, damage: Damage, against: object) -> None:
        """Note and tell a violation when there is something that speaks against the law."""
        if against:
            where = damage.path.relative_to(self.place.root)
            self.violations.append(f"{law}, but after {damage.kind} at {damage.at} of {where}: {against}")
            tell(f"VIOLATED: {self.violations[-1]}")


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def damages(path: Path, size: int, ranges: int, dice: random.Random) -> Iterator[Damage]:
    """Each kind at a random place of each range."""
    for number in range(ranges if size else 0):
        low, high = size * number // ranges, size * (number + 1) // ranges
        if low < high:
            yield from (Damage(path, kind, dice.randrange(low, high)) for kind in ("cut", "zeros", "flip"))


# After one damage -----------------------------------------------------------------------------------------------


def look(soak: Soak, damage: Damage) -> None:
    """The commands that only look, and the choices of those that serve and promote."""
    for arguments in LOOKS:
        code, told = run([*arguments, "--workspace", str(soak.place.root)])
        soak.hold(f"lpm {arguments[0]} ends in a sentence", damage, told if code not in SYSEXITS else "")
        soak.outcomes[f"{arguments[0]}: {code}"] += 1
    soak.hold("a damaged artifact is made again", damage, unnoticed(soak, damage))
    soak.hold("no damaged model is served", damage, served_damaged(soak))
    soak.hold("no damaged model is promoted", damage, promoted_damaged(soak))


def run(arguments: list[str]) -> tuple[int, str]:
    """(exit code, -1 for a traceback; what was told) of a command in this process."""
    screen = io.StringIO()
    try:
        with redirect_stdout(screen), redirect_stderr(screen):
            lpm(arguments)
    except SystemExit as end:
        return int(end.code or 0), screen.getvalue()
    except BaseException as error:
        return -1, f"{type(error).__name__}: {error}"
    return 0, screen.getvalue()


def unnoticed(soak: Soak, damage: Damage) -> str:
    """The artifact whose file or manifest is damaged while its step counts as done; empty for none."""
    workspace = Workspace(soak.place.root)
    try:
        states = chain_states(workspace, resolve_all(workspace), STEPS[-1].name)
    except LpmError:
        return ""
    for step in STEPS:
        for artifact in step.makes.values():
            place = workspace.place(artifact)
            ours = damage.path in (place, manifest_path(place)) or place in damage.path.parents
            if ours and not states[step.name].must_run and damage.path.read_bytes() != soak.whole[damage.path]:
                return f"{step.name} is {states[step.name].name}, {states[step.name].reason}"
    return ""


def served_damaged(soak: Soak) -> str:
    """The model that `lpm serve` would serve, when it is not what the chain made; empty for none."""
    try:
        with redirect_stderr(io.StringIO()):
            chosen = promotion.current_gguf(Workspace(soak.place.root))
    except LpmError:
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return str(chosen) if soak.sha256.get(chosen) != file_sha256(chosen) else ""


def promoted_damaged(soak: Soak) -> str:
    """What speaks against the manifest that a promotion would go by; empty for nothing."""
    workspace = Workspace(soak.place.root)
    try:
        with lock(workspace):
            manifest = promotion.promoting(workspace)
    except LpmError:
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    paths = [workspace.place("evaluation.json"), workspace.place("dpo_lpm.gguf")]
    return str(paths) if manifest and any(soak.sha256[path] != file_sha256(path) for path in paths) else ""


# What the chain makes of it ---------------------------------------------------------------------------------------


def rebuild(soak: Soak, damage: Damage, pristine: Path, expected: dict[str, dict[str, str]]) -> None:
    """The real pipeline on the damaged workspace, which is put back afterwards."""
    with soak.place.pipeline() as process:
        code = process.wait(LONGEST_RUN_S)
    told = soak.place.screen_path.read_text(encoding="utf-8", errors="replace")
    soak.hold("lpm pipeline ends in a sentence", damage, told if code not in SYSEXITS or "Traceback" in told else "")
    soak.rebuilds[
        "made whole" if code == 0 else f"refused with {code}: {soak.place.screen_end().splitlines()[-1]}"
    ] += 1
    if code == 0:
        given = damage.path.parent.name == "tiny" or damage.path.name in ("merged.json", "global_bio.md", "lpm.toml")
        found = fingerprint(soak.place)
        soak.hold("a chain made again is whole", damage, half_made(soak.place.root))
        changed = [artifact for artifact in expected if found.get(artifact) != expected[artifact]]
        soak.hold("a chain made again is as it was", damage, [] if given else changed)
    shutil.rmtree(soak.place.root)
    shutil.copytree(pristine, soak.place.root)


def keep_a_version(root: Path) -> None:
    """As a promotion does, whatever the evaluation of so small a model decided."""
    workspace = Workspace(root)
    with lock(workspace):
        manifest = workspace.manifest(workspace.place("evaluation.json"))
        assert manifest
        parts = dict(promotion._parts(workspace, manifest))
        version = versions.keep(workspace, parts, manifest.making, manifest.inputs["held_out_path"], manifest.demo)
        versions.make_current(workspace, version.name, "promoted")


def soak_files(folder: Path, ranges: int, most: int, rebuilds: int, dice: random.Random) -> Soak:
    """One chain, and all damages to it."""
    write_owner(folder / "owner")
    with placed(folder, "damaged", folder / "owner") as place:
        with place.pipeline() as process:
            if process.wait(LONGEST_RUN_S) != 0:
                raise SystemExit(f"the undisturbed run failed:\n{place.screen_end()}")
        keep_a_version(place.root)
        expected, pristine = fingerprint(place), folder / "pristine"
        shutil.copytree(place.root, pristine)
        kept = [path for path in files_of(place.root).values() if not path.name.startswith("journal.sqlite")]
        soak = Soak(place, {path: path.read_bytes() for path in kept}, {path: file_sha256(path) for path in kept})
        every = [damage for path in kept for damage in damages(path, path.stat().st_size, ranges, dice)]
        chosen = dice.sample(every, min(most or len(every), len(every)))
        tell(f"{len(kept)} files, {len(chosen)} of {len(every)} damages")
        for number, damage in enumerate(chosen, 1):
            damage.inflict()
            look(soak, damage)
            damage.path.parent.mkdir(parents=True, exist_ok=True)
            with damage.path.open("r+b" if damage.path.exists() else "wb") as file:
                file.write(soak.whole[damage.path])
            damage.path.with_name(f"{damage.path.name}.damaged").unlink(missing_ok=True)
            if number % 20 == 0:
                tell(f"  {number}/{len(chosen)}")
        for damage in dice.sample(every, min(rebuilds, len(every))):
            damage.inflict()
            rebuild(soak, damage, pristine, expected)
    return soak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranges", type=int, default=4, help="Parts of each file that are damaged one by one.")
    parser.add_argument("--most", type=int, default=0, help="Damages to draw of all, 0 for all.")
    parser.add_argument("--rebuilds", type=int, default=20, help="Damages after which the pipeline really runs.")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    started, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="lpm-damage-"))
    soak = soak_files(folder, given.ranges, given.most, given.rebuilds, random.Random(given.seed))
    for what, count in [*sorted(soak.outcomes.items()), *sorted(soak.rebuilds.items())]:
        print(f"{count:6} {what}")
    print(f"{len(soak.violations)} violations in {time.monotonic() - started:.0f} s, seed {given.seed}")
    if soak.violations:
        tell(f"kept: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
