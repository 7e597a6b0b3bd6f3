"""The demo over several seeds: fact recall and win rate of the model before and after DPO, with times.

python benchmarks/demo_seeds.py [--seeds 5] [--first 1]

Each seed draws its own weights, split, sampling and order, and runs the whole chain in a fresh workspace.
Prints one line per seed to standard error and one JSON line with median, minimum and maximum.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def main() -> None:
    """Run the seeds one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="How many seeds.")
    parser.add_argument("--first", type=int, default=1, help="The first of them.")
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.seeds)
    with tempfile.TemporaryDirectory() as folder:
        rows = [one_seed(seed, Path(folder) / str(seed)) for seed in seeds]
    print(json.dumps({"figure": "demo_seeds", "seeds": [*seeds], **{key: spread(rows, key) for key in rows[0]}}))


def one_seed(seed: int, workspace: Path) -> dict[str, Any]:
    """The figures of one run of the chain."""
    environment = {**os.environ, "LPM_SEED": str(seed)}
    door = [sys.executable, "-m", "lpm_kernel"]
    start = time.monotonic()
    subprocess.run([*door, "pipeline", "--demo", "--workspace", workspace], env=environment, check=True)
    wall_s = time.monotonic() - start
    found = workspace.rglob("evaluation.json")
    evaluation = json.loads(next(iter(found)).read_text(encoding="utf-8"))
    recall, wins = evaluation["fact_recall"], evaluation["win_rate"]
    row = {
        "recall_before": recall["before"],
        "recall_after": recall["after"],
        "win_rate": wins["rate"],
        "win_rate_without_ties": wins["after_wins"] / max(1, wins["after_wins"] + wins["before_wins"]),
        "promoted": float(evaluation["decision"] == "promote"),
        "wall_s": wall_s,
    }
    print(f"seed {seed}:", {key: round(value, 3) for key, value in row.items()}, file=sys.stderr, flush=True)
    return row


def spread(rows: Iterable[dict[str, Any]], key: str) -> dict[str, float]:
    """Median, minimum and maximum over the seeds."""
    values = [row[key] for row in rows]
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


if __name__ == "__main__":
    main()
