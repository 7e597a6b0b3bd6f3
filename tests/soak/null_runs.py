#!/usr/bin/env python3
"""Whether the chain promotes where there is nothing to promote: runs whose truth is "no better", and the real gain.

    .venv/bin/python tests/soak/null_runs.py --languages en de zh ja --seeds 1 2 3 4 5 --out runs.jsonl

For each language and seed the demo's owner is fine-tuned once; then come eleven null runs and one real one:

- vices of the judge: it makes the pairs, trains on them and evaluates: coin, consistent coin, first, tie, longer,
  shorter. Each first as it is, where the examination must refuse it, and, where pairs come of it, once more with
  --accept-judge, where the gate must keep the old model;
- swapped pairs; an empty adapter; the adapter of another owner; the same model twice; a random LoRA of the real one's
  norm in each layer: judged by the embedded judge;
- the real gain: the embedded judge's own pairs.

A line a run is written to --out as it ends, and a run that stands there is not made again. Exit code 1 when a null run
was promoted or ended in an error. The stages are the real ones, and so are the server and the converter.
"""

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE", "OPENAI_API_KEY": "scripted"}
sys.path.insert(1, str(Path(__file__).resolve().parents[2]))
sys.path.insert(1, str(Path(__file__).resolve().parents[2] / "tests"))

from scripted_server import NONCE, Call, Reply, ScriptedServer, sides, verdict

from lpm_kernel.errors import DataError
from lpm_kernel.L2.dpo.utils import read_pairs, write_pairs
from lpm_kernel.models.fingerprint import ADAPTER_RECORD
from lpm_kernel.pipeline import STEPS, step_named
from lpm_kernel.runner.settings import demo_workspace, fill_with_demo, resolve_all
from lpm_kernel.workspace.places import ARTIFACTS, Workspace

OWNER_STEPS = ("prepare", "sft-train", "sft-merge", "sft-gguf")
CANDIDATE_STEPS = ("dpo-merge", "dpo-gguf", "evaluate")
REAL = "real gain"


# Judges with a vice ---------------------------------------------------------------------------------------------------


def _dice(call: Call, salt: str, *texts: str) -> random.Random:
    return random.Random(json.dumps([salt, NONCE.sub("", call.user.split("\n\n")[0]), *texts]))


def coin(call: Call) -> str:
    """Thrown anew for each order."""
    _, first, second = sides(call)
    return _dice(call, "coin", first, second).choice(("first", "second"))


def consistent_coin(call: Call) -> str:
    """The same answer in both orders."""
    _, first, second = sides(call)
    low, high = sorted((first, second))
    chosen = _dice(call, "consistent", low, high).choice((low, high))
    return "first" if chosen == first else "second"


def by_length(call: Call, sign: int) -> str:
    """The longer one, or with sign -1 the shorter one."""
    _, first, second = sides(call)
    lead = sign * (len(first) - len(second))
    return "tie" if lead == 0 else "first" if lead > 0 else "second"


VICES: dict[str, Callable[[Call], str]] = {
    "coin": coin,
    "consistent coin": consistent_coin,
    "first": lambda _: "first",
    "tie": lambda _: "tie",
    "longer": lambda call: by_length(call, 1),
    "shorter": lambda call: by_length(call, -1),
}


def as_behaviour(rule: Callable[[Call], str]) -> Callable[[Call], Reply]:
    """A vice as the scripted server plays it."""
    return lambda call: Reply((verdict(call, rule(call)),) * call.n)


# The stages, without the runner ---------------------------------------------------------------------------------------


@dataclass
class Case:
    """One language and seed: an owner's SFT model, from which every run starts."""

    language: str
    seed: int
    workspace: Workspace
    server: ScriptedServer
    paths: dict[str, Path] = field(default_factory=dict)
    """Artifact -> what the owner's steps made."""

    def settings(self, *assignments: str) -> dict[str, Any]:
        """Every step's settings."""
        common = (f"common.seed={self.seed}", "common.threads=1")
        return resolve_all(self.workspace, assignments=(*common, *assignments))

    def run(self, names: tuple[str, ...], folder: Path, made: dict[str, Path], *assignments: str) -> dict[str, Path]:
        """Run these steps; what they make goes below `folder`. Returns every artifact that is there now."""
        configs = self.settings(*assignments)
        found = {**self.paths, **made}
        for step in map(step_named, names):
            needs = {role: found[artifact] for role, artifact in step.needs.items()}
            uses = {role: found.get(artifact) for role, artifact in step.uses.items()}
            makes = {role: folder / Path(ARTIFACTS[artifact][0]).name for role, artifact in step.makes.items()}
            own = {"work_path": self._work_path(step.name, folder)} if step.resumes else {}
            own |= {"run_path": folder} if step.names_run else {}
            for path in own.values():
                path.mkdir(parents=True, exist_ok=True)
            step.stage.run(configs[step.name], **needs, **uses, **makes, **own)
            found |= {artifact: makes[role] for role, artifact in step.makes.items() if makes[role].exists()}
        return found

    def _work_path(self, step: str, folder: Path) -> Path:
        """Answers are journaled for all runs of the case, so that each model is asked once."""
        return self.workspace.work_path(step) if step_named(step).journals else folder / "work" / step


def case_of(language: str, seed: int, folder: Path, server: ScriptedServer) -> Case:
    """The owner and its SFT model, made once."""
    workspace, _ = demo_workspace(str(folder / f"{language}-{seed}"), language)
    fill_with_demo(workspace, language)
    case = Case(language, seed, workspace, server)
    given = {name: place for name in ("merged.json", "global_bio", "base_model") if (place := workspace.find(name))}
    owner = workspace.root / "owner"
    kept = owner / "made.json"
    if kept.is_file():
        case.paths = {name: Path(path) for name, path in json.loads(kept.read_text()).items()}
        return case
    owner.mkdir(exist_ok=True)
    case.paths = given
    case.paths = case.run(OWNER_STEPS, owner, {})
    kept.write_text(json.dumps({name: str(path) for name, path in case.paths.items()}))
    return case


# Runs -----------------------------------------------------------------------------------------------------------------

Run = Callable[[Case, Path], dict[str, Path]]


def judged_by(vice: str, *more: str) -> Run:
    """The whole chain under a judge with a vice; raises DataError where the examination refuses it."""

    def run(case: Case, folder: Path) -> dict[str, Path]:
        url = case.server.url(vice.replace(" ", "-"))
        judge = ("common.judge=openai", f"common.judge_model={vice.replace(' ', '-')}", f"common.judge_base_url={url}")
        names = tuple(s.name for s in STEPS if s.name not in OWNER_STEPS)
        return case.run(names, folder, {}, *judge, *more)

    return run


def real_gain(case: Case, folder: Path) -> dict[str, Path]:
    """The embedded judge's own pairs."""
    return case.run(tuple(s.name for s in STEPS if s.name not in OWNER_STEPS), folder, {})


def swapped_pairs(case: Case, folder: Path) -> dict[str, Path]:
    """The same pairs, the worse answer chosen."""
    made = _pairs(case)
    path = folder / "swapped.json"
    pairs = read_pairs(made["dpo_direct.json"])
    write_pairs(path, [p.model_copy(update={"chosen": p.rejected, "rejected": p.chosen}) for p in pairs])
    return case.run(("dpo-train", *CANDIDATE_STEPS), folder, {**made, "dpo_direct.json": path})


def empty_adapter(case: Case, folder: Path) -> dict[str, Path]:
    """An adapter that changes nothing."""
    return _with_adapter(case, folder, lambda name, tensor, _: tensor * 0 if "lora_B" in name else tensor)


def random_adapter(case: Case, folder: Path) -> dict[str, Path]:
    """Noise of the trained adapter's norm, tensor by tensor."""

    def noise(_: str, tensor: Any, dice: Any) -> Any:
        import torch

        drawn = torch.randn(tensor.shape, generator=dice)
        return drawn * tensor.norm() / drawn.norm()

    return _with_adapter(case, folder, noise)


def same_model(case: Case, folder: Path) -> dict[str, Path]:
    """Before and after are one file."""
    made = _pairs(case) | {"dpo_lpm.gguf": case.paths["lpm.gguf"]}
    return case.run(("evaluate",), folder, made)


def others_adapter(case: Case, folder: Path) -> dict[str, Path]:
    """What was trained for another owner, put on this one's model."""
    root = case.workspace.root.parent
    others = [p for p in sorted(root.glob("*/runs-of-nulls/real-gain/adapter")) if case.workspace.root not in p.parents]
    if not others:
        raise LookupError("no other owner's adapter is made yet")
    path = random.Random(f"{case.language}{case.seed}").choice(others)
    return _with_adapter(case, folder, lambda _, tensor, __: tensor, source=path)


def _pairs(case: Case) -> dict[str, Path]:
    """What the embedded judge's run made, which comes first."""
    folder = _folder(case, REAL)
    found = {name: folder / Path(places[0]).name for name, places in ARTIFACTS.items()}
    return {name: path for name, path in found.items() if name not in case.paths and path.exists()}


def _with_adapter(
    case: Case, folder: Path, change: Callable[[str, Any, Any], Any], source: Path | None = None
) -> dict[str, Path]:
    """Merge, export and evaluate a changed adapter, with the record of the base that it is put on."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    made = _pairs(case)
    path = folder / "changed"
    shutil.copytree(source or made["adapter"], path, dirs_exist_ok=True)
    shutil.copy(made["adapter"] / ADAPTER_RECORD, path / ADAPTER_RECORD)
    weights_path = path / "adapter_model.safetensors"
    dice = torch.Generator().manual_seed(case.seed)
    weights = load_file(weights_path)
    weights_path.unlink()
    save_file({name: change(name, tensor, dice).contiguous() for name, tensor in weights.items()}, weights_path)
    return case.run(CANDIDATE_STEPS, folder, {**made, "adapter": path})


def runs_of(_: Case) -> dict[str, Run]:
    """All runs of a case; the real one first, because others start from its pairs."""
    runs: dict[str, Run] = {REAL: real_gain}
    runs |= {f"judge {vice}": judged_by(vice) for vice in VICES}
    accepted = "judge-exam.accept_judge=true"
    runs |= {f"judge {vice}, accepted": judged_by(vice, accepted) for vice in VICES}
    return runs | {
        "swapped pairs": swapped_pairs,
        "empty adapter": empty_adapter,
        "random adapter": random_adapter,
        "same model twice": same_model,
        "another owner's adapter": others_adapter,
    }


def _folder(case: Case, name: str) -> Path:
    return case.workspace.root / "runs-of-nulls" / "".join(c if c.isalnum() else "-" for c in name)


def outcome_of(case: Case, name: str, run: Run) -> dict[str, Any]:
    """What became of one run: promote, keep, or refused with the sentence."""
    import shutil

    folder, started = _folder(case, name), time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    row: dict[str, Any] = {"language": case.language, "seed": case.seed, "run": name}
    with (folder / "log.txt").open("w", encoding="utf-8") as log, redirect_stderr(log):
        try:
            made = run(case, folder)
        except DataError as error:
            row |= {"outcome": _refusal(folder, str(error)), "why": str(error)[:300]}
        else:
            evaluation = json.loads(made["evaluation.json"].read_text(encoding="utf-8"))
            row |= {"outcome": evaluation["decision"], "why": "; ".join(evaluation["reasons"])[:300]}
            row |= {"win_rate": evaluation["win_rate"]["rate"], "answers": evaluation["answers"]}
    return row | {"seconds": round(time.monotonic() - started, 1)}


def _refusal(folder: Path, why: str) -> str:
    """Whether it was refused for the reason that it must be refused for; any other error is an error."""
    path = folder / Path(ARTIFACTS["examination"][0]).name
    failed = path.exists() and not json.loads(path.read_text(encoding="utf-8"))["passed"]
    return "refused" if failed or "no prompt gave a pair" in why else "error"


def main() -> int:
    """Run what is not yet in --out; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--languages", nargs="+", default=["en", "de", "zh", "ja"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--folder", type=Path, default=Path("null-runs"), help="Where the owners and runs are made.")
    parser.add_argument("--out", type=Path, default=Path("null-runs.jsonl"))
    parser.add_argument("--only", nargs="+", default=[], help="Names of runs, or their beginnings.")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    script = ScriptedServer("model")
    script.behaviours |= {vice.replace(" ", "-"): as_behaviour(rule) for vice, rule in VICES.items()}
    with script as server:
        for seed in given.seeds:
            for language in given.languages:
                one_case(language, seed, server, given)
    return summary(given.out)


def one_case(language: str, seed: int, server: ScriptedServer, given: argparse.Namespace) -> None:
    """Every run of a language and seed that is not made yet."""
    done = {row["run"] for row in rows_of(given.out) if (row["language"], row["seed"]) == (language, seed)}
    case = case_of(language, seed, given.folder.resolve(), server)
    for name, run in runs_of(case).items():
        if name in done or (given.only and not name.startswith((REAL, *given.only))):
            continue
        with suppress(LookupError):
            row = outcome_of(case, name, run)
            with given.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            print(f"{language} {seed} {name}: {row['outcome']} ({row['seconds']} s) {row['why'][:120]}", flush=True)


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The runs that are made."""
    if path.is_file():
        yield from (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line)


def summary(path: Path) -> int:
    """The table of outcomes; 1 when a null run was promoted."""
    rows = list(rows_of(path))
    counts = Counter((row["run"], row["language"], row["outcome"]) for row in rows)
    for (run, language, outcome), number in sorted(counts.items()):
        print(f"{run:28} {language} {outcome:8} {number}")
    nulls = [row for row in rows if row["run"] != REAL]
    wrong = [row for row in nulls if row["outcome"] == "promote"]
    real = [row for row in rows if row["run"] == REAL]
    errors = [row for row in rows if row["outcome"] == "error"]
    print(f"{len(nulls)} null runs, {len(wrong)} promoted, {len(errors)} errors; {len(real)} real ones, ", end="")
    print(f"{sum(row['outcome'] == 'promote' for row in real)} promoted")
    return 1 if wrong or errors else 0


if __name__ == "__main__":
    sys.exit(main())
