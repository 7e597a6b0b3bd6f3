"""Run the chain or one step of it: skip what is made, publish what is whole, record what happened."""

import gc
import importlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from lpm_kernel.config import Config
from lpm_kernel.demo.gift import is_all_demo
from lpm_kernel.errors import MissingInputError
from lpm_kernel.judges.base import JudgeConfig
from lpm_kernel.judges.asking import judge_endpoint
from lpm_kernel.pipeline import STEPS, Step, maker_of, step_named
from lpm_kernel.progress import clock, say
from lpm_kernel.runner.run_record import Record, birth_of, recording
from lpm_kernel.serving.endpoint import ServingConfig
from lpm_kernel.serving.probe import is_free
from lpm_kernel.runner.state import Standing, forced_from, lacking_message, refuse_when_lacking, standing, wanted
from lpm_kernel.workspace import Workspace


def run_chain(
    workspace: Workspace,
    configs: Mapping[str, Config],
    *,
    until: str = STEPS[-1].name,
    start: str | None = None,
) -> None:
    """Run what is not made, in order. `start` runs that step and all after it again.

    Raises MissingInputError before anything runs when the owner must give something first.
    """
    with workspace.lock(), recording(workspace, configs, is_all_demo(workspace)) as record:
        standings = forced_from(wanted(workspace, configs, until), start)
        refuse_when_lacking(workspace, standings)
        refuse_without_key(standings, configs)
        for number, (name, found) in enumerate(standings.items(), 1):
            step = step_named(name)
            if found.state == "done":  # until a step before it made something else
                found = standing(step, workspace, configs[name])
            say(f"[{number}/{len(standings)}] {name}: {found.reason}")
            if found.state in ("done", "given"):
                record.note(name, "done", outputs=outputs_of(step, workspace))
            else:
                run_step(step, workspace, configs[name], {}, record)


def run_step(
    step: Step,
    workspace: Workspace,
    config: Config,
    overrides: Mapping[str, Path],
    record: Record,
) -> None:
    """Run one stage on its paths and publish what it made. `overrides` are paths given by flags, by role."""
    inputs = {role: overrides.get(role) or workspace.find(a) for role, a in step.needs.items()}
    for role, path in inputs.items():
        if path is None and role not in step.replaceable:
            raise MissingInputError(lacking_message(step.needs[role], workspace))
        if path is not None and not path.exists():
            raise MissingInputError(f"{path} is not there (given as --{role}); check the path")
    digests = {role: workspace.digest(path) for role, path in inputs.items() if path}
    used = {role: overrides.get(role) or workspace.find(a) for role, a in step.uses.items()}
    places = {role: overrides.get(role) or workspace.place(a) for role, a in step.makes.items()}
    extra = {"work_path": workspace.work_path(step.name)} if step.resumes else {}
    stage = importlib.import_module(step.module)
    started = time.monotonic()
    record.note(step.name, "running")
    with workspace.building(places) as drafts:
        stage.run(config, **inputs, **used, **drafts, **extra)
        seconds = round(time.monotonic() - started, 2)
        birth = birth_of(step.name, config, digests, seconds, demo=record.demo and not overrides)
        workspace.publish(drafts, places, birth)
    if step.resumes and not step.journals:
        workspace.clear_work(step.name)
    record.note(step.name, "done", outputs=[str(p) for p in places.values()])
    workspace.save_hashes()
    say(f"  {step.name} took {clock(seconds)}")
    gc.collect()


def refuse_without_key(standings: Mapping[str, Standing], configs: Mapping[str, Config]) -> None:
    """Raise PermissionDeniedError before hours of work, not after, when a judge to come needs a key."""
    for name, found in standings.items():
        config = configs[name]
        if found.state in ("pending", "stale") and isinstance(config, JudgeConfig) and config.judge != "reference":
            judge_endpoint(config)


def run_one(
    step: Step,
    workspace: Workspace,
    configs: Mapping[str, Config],
    overrides: Mapping[str, Path],
) -> None:
    """Run one step, and before it what it lacks and costs little: `prepare`, and the GGUF of a model that is there."""
    with workspace.lock(), recording(workspace, configs, is_all_demo(workspace)) as record:
        for needed in _cheap(step, workspace, configs, overrides):
            say(f"{needed.name}: {standing(needed, workspace, configs[needed.name]).reason}")
            run_step(needed, workspace, configs[needed.name], {}, record)
        say(f"{step.name}:")
        run_step(step, workspace, configs[step.name], overrides, record)


def _cheap(
    step: Step, workspace: Workspace, configs: Mapping[str, Config], overrides: Mapping[str, Path]
) -> Iterator[Step]:
    """Steps whose lack would be a riddle and whose run costs seconds, in the order of the chain."""
    lacking = {artifact for role, artifact in step.needs.items() if role not in overrides}
    first = STEPS[0]
    reads_first = step is not first and lacking & set(first.makes.values())
    if reads_first and standing(first, workspace, configs[first.name]).state in ("pending", "stale"):
        yield first
    for role in sorted(step.replaceable - overrides.keys()):
        maker = maker_of(step.needs[role])
        makeable = maker and all(workspace.find(artifact) for artifact in maker.needs.values())
        if maker and makeable and not workspace.find(step.needs[role]) and _must_serve(configs[step.name]):
            yield maker


def _must_serve(config: Config) -> bool:
    """Whether no endpoint is configured and nobody listens on the port."""
    return isinstance(config, ServingConfig) and not config.endpoint and is_free(config.port)


def outputs_of(step: Step, workspace: Workspace) -> list[str]:
    """Paths of the step's outputs that are there."""
    return [str(p) for a in step.makes.values() if (p := workspace.find(a))]
