#!/usr/bin/env python3
"""Kill `lpm pipeline` with SIGKILL at random moments of every step until it is done, and hold it to its promises.

    .venv/bin/python tests/soak/kill.py --kills 30 --seed 1

One chain runs undisturbed. Others are killed, each time at a moment drawn over the length of a step (or of the
start), and begun again until they are complete; a fresh workspace follows until all kills are spent.

After each run: every artifact fits its manifest or is absent; no record of a journal is gone or written again; no
more is asked again than was asked and not yet journaled; no child lives; the next run needs no unlocking. After each
complete chain: nothing temporary lies about, and what the chain promises to repeat is, byte for byte, what the
undisturbed one made. Exit code 1 when one of these is violated; the workspaces are then kept.
"""

import argparse
import ctypes
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).resolve().parents[2]))
sys.path.insert(1, str(Path(__file__).resolve().parents[2] / "tests"))

from checks import Before, Found, check_chain, check_run
from tiny_chain import ASKING, Place, placed, write_owner

from lpm_kernel.pipeline import STEPS

BETWEEN = "between steps"
"""Before the first step too."""
NAMES = [step.name for step in STEPS]
PR_SET_CHILD_SUBREAPER = 36
POLL_S = 0.002
LONGEST_RUN_S = 600.0
BRINGS_ITS_LIBRARIES = {"prepare", "sft-train", "dpo-data"}
"""Steps whose time in the undisturbed chain holds all their imports; the others found torch loaded."""


@dataclass
class Tally:
    """What befell one step."""

    kills: int = 0
    repeated: int = 0
    in_flight: int = 0
    """Asked and not yet journaled when a run began, over all runs: so many may be repeated."""
    orphans: int = 0
    lost_s: float = 0.0
    """From the beginning of the runs that were killed in the step to their death."""


@dataclass
class Soak:
    """All that is known so far."""

    dice: random.Random
    plan: Counter[str]
    """Kills still to come, by the step at which they are aimed."""
    lengths: dict[str, float] = field(default_factory=dict)
    """Seconds of each step in the undisturbed chain; of BETWEEN, until the first step."""
    imports_s: float = 0.0
    chains: int = 0
    runs: int = 0
    burial_s: float = 0.0
    tallies: dict[str, Tally] = field(default_factory=lambda: {name: Tally() for name in (BETWEEN, *NAMES)})
    repeats_to_the_byte: Counter[str] = field(default_factory=Counter)
    """Artifact -> complete chains that made it as the undisturbed one did."""
    violations: list[str] = field(default_factory=list)

    def note(self, violations: Sequence[str]) -> None:
        """Keep and tell them."""
        for violation in violations:
            self.violations.append(f"chain {self.chains + 1}, run {self.runs}: {violation}")
            tell(f"VIOLATED: {self.violations[-1]}")

    def count(self, where: str, found: Found) -> None:
        """Add what was found after a run that ended in the step `where`."""
        self.tallies[where].orphans += len(found.orphans)
        self.burial_s = max(self.burial_s, found.burial_s)
        for step, again in found.repetitions.items():
            self.tallies[step].repeated += again.repeated
            self.tallies[step].in_flight += again.allowed
        self.note(found.violations)


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def spread(kills: int) -> Counter[str]:
    """Evenly over the start and all steps, what is left to the later ones."""
    places = [BETWEEN, *NAMES]
    return Counter(places[-1 - number % len(places)] for number in range(kills))


# One run --------------------------------------------------------------------------------------------------------


def run_once(soak: Soak, place: Place) -> bool:
    """Run, and kill where the plan wants it; whether the chain is complete."""
    before, started = Before.of(place), time.monotonic()
    with place.pipeline() as process:
        aim, wait_s = await_aim(soak, place, before.run, process)
        with suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
    spent_s = time.monotonic() - started
    soak.runs += 1
    where = place.running_step(before.run) or (NAMES[-1] if process.returncode == 0 else BETWEEN)
    soak.count(where, check_run(place, before))
    if process.returncode == 0:
        tell(f"  chain {soak.chains + 1} is complete, its last run took {spent_s:.1f} s")
        return True
    if process.returncode != -9:
        raise SystemExit(
            f"exit code {process.returncode} of a run in {place.root}, which is kept:\n{place.screen_end()}"
        )
    soak.plan -= Counter({aim: 1})
    soak.tallies[where].kills += 1
    soak.tallies[where].lost_s += spent_s
    tell(f"  killed after {spent_s:.1f} s in {where}; {soak.plan.total()} kills to come")
    return False


def await_aim(soak: Soak, place: Place, run_before: str, process: subprocess.Popen[bytes]) -> tuple[str, float]:
    """Wait for a step at which kills are aimed; that step, and the seconds from now to the kill."""
    if soak.dice.random() < soak.plan[BETWEEN] / max(1, soak.plan.total()):
        return BETWEEN, soak.dice.uniform(0, soak.lengths[BETWEEN])
    first = ""
    deadline = time.monotonic() + LONGEST_RUN_S
    while process.poll() is None and time.monotonic() < deadline:
        step = place.running_step(run_before)
        first = first or step
        if soak.plan[step] > 0:
            is_cold = step == first and step not in BRINGS_ITS_LIBRARIES
            return step, soak.dice.uniform(0, soak.lengths[step] + is_cold * soak.imports_s)
        time.sleep(POLL_S)
    return "", LONGEST_RUN_S


def run_undisturbed(soak: Soak, place: Place) -> None:
    """The chain to compare with; how long its steps take."""
    started = time.monotonic()
    with place.pipeline() as process:
        while process.poll() is None and not place.running_step(""):
            time.sleep(POLL_S)
        soak.lengths[BETWEEN] = time.monotonic() - started
        process.wait(LONGEST_RUN_S)
    if process.returncode != 0:
        raise SystemExit(f"the undisturbed run failed:\n{place.screen_end()}")
    soak.lengths |= {step["name"]: float(step["seconds"]) for step in place.steps()}
    tell(f"  the undisturbed chain took {time.monotonic() - started:.1f} s")


def import_seconds() -> float:
    """What a run that begins at a late step spends on libraries."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", "import torch, transformers"], check=True)
    return time.monotonic() - started


def soak_chains(soak: Soak, folder: Path) -> None:
    """Chains until the plan is spent, each in a fresh workspace."""
    write_owner(folder / "owner")
    soak.imports_s = import_seconds()
    with ExitStack() as stack:
        reference = stack.enter_context(placed(folder, "undisturbed", folder / "owner"))
        run_undisturbed(soak, reference)
        while soak.plan.total():
            with placed(folder, f"killed-{soak.chains + 1}", folder / "owner") as place:
                while not run_once(soak, place):
                    pass
                differing, violations = check_chain(place, reference)
                soak.repeats_to_the_byte.update({artifact: not files for artifact, files in differing.items()})
                soak.note(violations)
                soak.chains += 1


# What is told ---------------------------------------------------------------------------------------------------


def table(soak: Soak) -> str:
    """For people, as Markdown."""
    lines = [
        "| step | undisturbed, s | kills | in flight | asked again | orphans | lost, s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, tally in soak.tallies.items():
        asks = name in ASKING
        lines.append(
            f"| {name} | {soak.lengths[name]:.2f} | {tally.kills} | {tally.in_flight if asks else ''} "
            f"| {tally.repeated if asks else ''} | {tally.orphans} | {tally.lost_s:.1f} |"
        )
    kills, orphans = (sum(getattr(t, key) for t in soak.tallies.values()) for key in ("kills", "orphans"))
    same = [artifact for artifact, times in soak.repeats_to_the_byte.items() if times == soak.chains]
    return "\n".join(
        [
            *lines,
            "",
            f"{kills} kills, {soak.runs} runs, {soak.chains} chains completed; {orphans} orphans, the last child was "
            f"dead {soak.burial_s:.2f} s after its run; {len(soak.violations)} violations",
            f"the same in all chains, byte for byte: {', '.join(same) or 'nothing'}",
        ]
    )


def report(soak: Soak) -> dict[str, Any]:
    """For machines."""
    steps = {name: {"undisturbed_s": soak.lengths[name], **asdict(tally)} for name, tally in soak.tallies.items()}
    totals = {key: getattr(soak, key) for key in ("runs", "chains", "burial_s", "repeats_to_the_byte", "violations")}
    return {"kills": sum(t.kills for t in soak.tallies.values()), **totals, "steps": steps}


def main() -> None:
    """Exits 1 when a law is violated."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1, help="of the moments; the machine's pace has a say too")
    parser.add_argument("--folder", type=Path, help="where the workspaces go; a temporary folder if not given")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # unwind, so that nothing of ours stays
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="lpm-soak-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    soak = Soak(random.Random(options.seed), spread(options.kills))
    soak_chains(soak, folder)
    print(json.dumps(report(soak), indent=2) if options.json else table(soak))
    if soak.violations:
        sys.exit(f"violated; the workspaces are kept in {folder}")
    if options.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
