"""Bio steering: where the notes tell two versions, does the model follow the bio? Over seeds, and with three bios.

python benchmarks/bio_steering.py [--seeds 5] [--first 21] [--demo-language en] [--folder PATH]

Of each seed one SFT model, then pairs, DPO and evaluation with the bio as it is, with the bio that tells the other
versions (`lpm_kernel/demo/owner.py: flipped`), and with a stranger's, which is measured by the owner's. What is done
stays in the folder, so that a run that was stopped goes on, and a greater number of seeds adds to it.
Prints one line a run to standard error and one JSON line: share of the bio's version among the answers that tell one of
the two, and share of the answers that tell one at all, each before -> after as median, minimum and maximum.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from spread import spread

from lpm_kernel.demo.owner import Owner, biography, flipped, load_owner
from lpm_kernel.judges.stranger import stranger_bio

SFT = ("sft-train", "sft-merge", "sft-gguf")


def main() -> None:
    """Run the seeds one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="How many seeds.")
    parser.add_argument("--first", type=int, default=21, help="The first of them.")
    parser.add_argument("--demo-language", default="en", help="Of the demo's owner.")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "lpm-bio-steering"))
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.seeds)
    rows = [
        one_run(given.folder / f"{given.demo_language}-{seed}", seed, given.demo_language, name)
        for seed in seeds
        for name in bios(load_owner(given.demo_language), given.demo_language)
    ]
    by_bio = {name: [row for row in rows if row["bio"] == name] for name in dict.fromkeys(row["bio"] for row in rows)}
    figures = {name: {key: spread(found, key) for key in found[0] if key != "bio"} for name, found in by_bio.items()}
    print(json.dumps({"figure": "bio_steering", "language": given.demo_language, "seeds": [*seeds], **figures}))


def bios(owner: Owner, language: str) -> dict[str, tuple[str, str]]:
    """Name -> the bio that judges the pairs, and the one that measures."""
    own = biography(owner)
    other = flipped(own, owner)
    return {"as it is": (own, own), "flipped": (other, other), "a stranger's": (stranger_bio(language), own)}


def one_run(workspace: Path, seed: int, language: str, name: str) -> dict[str, Any]:
    """The figures of one bio on the seed's SFT model, which is made once."""
    done = workspace / f"steering {name}.json"
    if not done.is_file():
        done.write_text(json.dumps(_measured(workspace, seed, language, name)), encoding="utf-8")
    row: dict[str, Any] = {"bio": name, **json.loads(done.read_text(encoding="utf-8"))}
    print(f"seed {seed}:", json.dumps(row, ensure_ascii=False), file=sys.stderr, flush=True)
    return row


def _measured(workspace: Path, seed: int, language: str, name: str) -> dict[str, float]:
    judging, measuring = bios(load_owner(language), language)[name]
    gguf_path = workspace / "model/output/lpm.gguf"
    if not gguf_path.exists():
        lpm(workspace, seed, "pipeline", "--demo", "--demo-language", language, "--until", "sft-gguf")
    bio_path = workspace / "L2/data/global_bio.md"
    bio_path.write_text(judging, encoding="utf-8")
    plan = json.loads(lpm(workspace, seed, "pipeline", "--dry-run", "--json"))
    stale = [step["name"] for step in plan["steps"] if step["name"] in SFT and step["action"] == "run"]
    made = gguf_path.stat().st_mtime_ns
    lpm(workspace, seed, "pipeline", "--until", "dpo-gguf")
    if stale or gguf_path.stat().st_mtime_ns != made:
        sys.exit(f"the bio made SFT stale, which does not read it: {plan}")
    bio_path.write_text(measuring, encoding="utf-8")
    lpm(workspace, seed, "run", "evaluate")
    evaluation = json.loads((workspace / "model/output/dpo_model/evaluation.json").read_text(encoding="utf-8"))
    contested = evaluation["probes"]["contested"]
    return {
        "bios_version_before": contested["bios_version"]["before"],
        "bios_version_after": contested["bios_version"]["after"],
        "told_before": contested["told"]["before"],
        "told_after": contested["told"]["after"],
        "promoted": float(evaluation["decision"] == "promote"),
    }


def lpm(workspace: Path, seed: int, *arguments: str) -> str:
    """What the command prints; its sentences go to `log.txt` in the workspace."""
    workspace.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "lpm_kernel", *arguments, "--workspace", str(workspace)]
    environment = {**os.environ, "LPM_SEED": str(seed)}
    with (workspace / "log.txt").open("a", encoding="utf-8") as log:
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}; see {workspace / 'log.txt'}")
    return done.stdout


if __name__ == "__main__":
    main()
