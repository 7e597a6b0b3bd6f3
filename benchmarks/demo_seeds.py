"""The demo over several seeds: what the answers tell before and after DPO, win rate and decision, with times.

python benchmarks/demo_seeds.py [--seeds 5] [--first 1] [--demo-language en]

Each seed draws its own weights, split, sampling and order, and runs the whole chain in a fresh workspace.
Prints one line per seed to standard error and one JSON line with median, minimum and maximum.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from spread import spread


def main() -> None:
    """Run the seeds one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="How many seeds.")
    parser.add_argument("--first", type=int, default=1, help="The first of them.")
    parser.add_argument("--demo-language", default="en", help="Of the demo's owner.")
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.seeds)
    with tempfile.TemporaryDirectory() as folder:
        rows = [one_seed(seed, Path(folder) / str(seed), given.demo_language) for seed in seeds]
    figures = {key: spread(rows, key) for key in rows[0]}
    print(json.dumps({"figure": "demo_seeds", "language": given.demo_language, "seeds": [*seeds], **figures}))


def one_seed(seed: int, workspace: Path, language: str) -> dict[str, Any]:
    """The figures of one run of the chain."""
    environment = {**os.environ, "LPM_SEED": str(seed)}
    door = [sys.executable, "-m", "lpm_kernel"]
    start = time.monotonic()
    chain = [*door, "pipeline", "--demo", "--demo-language", language, "--workspace", str(workspace)]
    subprocess.run(chain, env=environment, check=True)
    wall_s = time.monotonic() - start
    found = workspace.rglob("evaluation.json")
    evaluation = json.loads(next(iter(found)).read_text(encoding="utf-8"))
    wins, told, probes = evaluation["win_rate"], evaluation["answers"], evaluation["probes"]
    changes = {
        **{name: told[name] for name in ("right", "wrong", "vague")},
        "unanswerable_wrong": probes["unanswerable"]["wrong"],
        "bios_version": probes["contested"]["bios_version"],
    }
    row = {
        **{f"{name}_{when}": change[when] for name, change in changes.items() for when in ("before", "after")},
        "win_rate": wins["rate"],
        "promoted": float(evaluation["decision"] == "promote"),
        "wall_s": wall_s,
    }
    print(f"seed {seed}:", {key: round(value, 3) for key, value in row.items()}, file=sys.stderr, flush=True)
    return row


if __name__ == "__main__":
    main()
