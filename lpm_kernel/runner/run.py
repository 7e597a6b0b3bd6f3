"""Run the chain or one step of it: skip what is made, publish what is whole, record what happened."""

import gc
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lpm_kernel.config import Config
from lpm_kernel.demo.gift import is_all_demo
from lpm_kernel.errors import LpmError, MissingInputError, translated
from lpm_kernel.pipeline import STEPS, Step, maker_of, step_named
from lpm_kernel.progress import clock, say
from lpm_kernel.runner.preflight import refuse_when_blocked
from lpm_kernel.runner.provenance import library_versions
from lpm_kernel.runner.run_record import RunRecord, recording
from lpm_kernel.runner.settings import take_documented_bio
from lpm_kernel.runner.state import (
    StepState,
    chain_states,
    forced_from,
    lacking_message,
    refuse_changed_inputs,
    refuse_when_edited,
    refuse_when_lacking,
    refuse_when_undecided,
    state_of,
)
from lpm_kernel.runner.versions import promote
from lpm_kernel.workspace.lock import lock
from lpm_kernel.workspace.manifest import Manifest, now
from lpm_kernel.workspace.places import OWN_MARK, Workspace
from lpm_kernel.workspace.publish import building, publish


def run_chain(
    workspace: Workspace,
    configs: Mapping[str, Config],
    *,
    until: str = STEPS[-1].name,
    start: str | None = None,
) -> None:
    """Run what is not made, in order. `start` runs that step and all after it again.

    Raises before anything runs: MissingInputError when the owner must give something first, and what the preflight of
    a step to come says, such as PermissionDeniedError for a judge without a key.
    """
    with _taken(workspace), recording(workspace, configs, is_all_demo(workspace)) as record:
        states = forced_from(chain_states(workspace, configs, until), start)
        refuse_when_lacking(workspace, states)
        refuse_when_undecided(workspace, states)
        refuse_when_edited(states)
        refuse_when_blocked(states, configs)
        for number, (name, state) in enumerate(states.items(), 1):
            step = step_named(name)
            if state.name == "done":  # until a step before it made something else
                state = state_of(step, workspace, configs[name])
            say(f"[{number}/{len(states)}] {name}: {state.reason}")
            if state.must_run:
                run_step(step, workspace, configs[name], {}, record)
            else:
                record.note(name, "done", outputs=outputs_of(step, workspace))


def run_one(
    step: Step,
    workspace: Workspace,
    configs: Mapping[str, Config],
    overrides: Mapping[str, Path | None],
    *,
    given: bool = True,
) -> None:
    """Run one step, and before it what it lacks and costs little: `prepare`, and the GGUF of a model that is there.

    `overrides` are paths by role, and `given` says that they come from the owner and not from this workspace.
    """
    demo = is_all_demo(workspace) and not (given and overrides)
    with _taken(workspace), recording(workspace, configs, demo) as record:
        asked = {step.name: StepState("stale", "asked for")}
        refuse_when_undecided(workspace, asked, overrides)
        refuse_when_blocked(asked, configs)
        for needed in _cheap_steps(step, workspace, configs, overrides):
            state = state_of(needed, workspace, configs[needed.name])
            refuse_when_edited({needed.name: state})
            say(f"{needed.name}: {state.reason}")
            run_step(needed, workspace, configs[needed.name], {}, record)
        say(f"{step.name}:")
        run_step(step, workspace, configs[step.name], overrides, record)


@contextmanager
def _taken(workspace: Workspace) -> Iterator[None]:
    """The workspace for one run. What a killed run came to promote is kept before anything takes its place."""
    with lock(workspace):
        promote(workspace)
        take_documented_bio(workspace)
        yield
        promote(workspace)


def run_step(
    step: Step, workspace: Workspace, config: Config, overrides: Mapping[str, Path | None], record: RunRecord
) -> None:
    """Run one stage on its paths and publish what it made.

    `overrides` are paths by role; None leaves out what is only shown.
    """
    inputs = _inputs_of(step, workspace, overrides)
    digests = {role: workspace.digest(path) for role, path in inputs.items() if path}
    used = {role: overrides[role] if role in overrides else workspace.find(a) for role, a in step.uses.items()}
    places = {role: overrides.get(role) or workspace.place(a) for role, a in step.makes.items()}
    own = _own_paths(step, workspace, record)
    started = time.monotonic()
    record.note(step.name, "running")

    def manifest() -> Manifest:
        seconds = round(time.monotonic() - started, 2)
        return _manifest(step, config, digests, seconds, demo=record.demo, identity=workspace.identity)

    with building(places) as drafts:
        try:
            with translated(workspace.root):  # before the drafts go, and with them the full disk
                step.stage.run(config, **inputs, **used, **drafts, **own)
        except LpmError:
            if account := _account_alone(step, drafts, places):
                publish(workspace, account, places, manifest().model_copy(update={"complete": False}))
            raise
        made = manifest()
        publish(workspace, drafts, places, made)
    if step.resumes and not step.journals:
        workspace.clear_work(step.name)
    record.note(step.name, "done", outputs=tuple(str(p) for p in places.values()))
    workspace.hashes.save()
    say(f"  {step.name} took {clock(made.seconds)}")
    gc.collect()


def _inputs_of(step: Step, workspace: Workspace, overrides: Mapping[str, Path | None]) -> dict[str, Path | None]:
    """Role -> path; raises MissingInputError for what is not there, DataError for what is not as it was made."""
    inputs = {role: overrides.get(role) or workspace.find(a) for role, a in {**step.needs, **step.heeds}.items()}
    for role, path in inputs.items():
        if path is None and role in step.needs and role not in step.replaceable:
            raise MissingInputError(lacking_message(step.needs[role], workspace))
        if path is not None and not path.exists():
            raise MissingInputError(f"{path} is not there (given as --{role}); check the path")
    refuse_changed_inputs(step, workspace, overrides)
    return inputs


def _own_paths(step: Step, workspace: Workspace, record: RunRecord) -> dict[str, Path]:
    """Folders of ours that the stage takes: where it goes on after a kill, and where the run is recorded."""
    paths = {}
    if step.resumes:
        paths["work_path"] = workspace.work_path(step.name)
        if not record.demo:
            (paths["work_path"] / OWN_MARK).touch()
    if step.names_run:
        paths["run_path"] = record.folder
    return paths


def _manifest(
    step: Step, config: Config, inputs: dict[str, str], seconds: float, *, demo: bool, identity: str
) -> Manifest:
    """Of one making, but for its files."""
    return Manifest(
        step=step.name,
        making=uuid.uuid4().hex,
        config=config.recorded(),
        flags=tuple(sorted(config.flags)),
        inputs=inputs,
        seconds=seconds,
        made_at=now(),
        versions=library_versions() | _stage_versions(step, config),
        demo=demo,
        workspace=identity,
    )


def _account_alone(step: Step, drafts: Mapping[str, Path], places: Mapping[str, Path]) -> dict[str, Path]:
    """The account of a run that came to nothing; where an earlier result stands, its own account stays beside it."""
    if step.account is None or not drafts[step.account].exists():
        return {}
    principal = next(iter(step.makes))
    stands_alone = step.account == principal or not places[principal].exists()
    return {step.account: drafts[step.account]} if stands_alone else {}


def outputs_of(step: Step, workspace: Workspace) -> tuple[str, ...]:
    """Paths of the step's outputs that are there."""
    return tuple(str(p) for a in step.makes.values() if (p := workspace.find(a)))


def _stage_versions(step: Step, config: Config) -> dict[str, str]:
    """What the stage itself tells of the tools that it uses."""
    tell = getattr(step.stage, "versions", None)
    return tell(config) if tell else {}


def _cheap_steps(
    step: Step, workspace: Workspace, configs: Mapping[str, Config], overrides: Mapping[str, Path | None]
) -> Iterator[Step]:
    """Steps whose lack would be a riddle and whose run costs seconds, in the order of the chain."""
    lacking = {artifact for role, artifact in step.needs.items() if role not in overrides}
    first = STEPS[0]
    reads_first = step is not first and lacking & set(first.makes.values())
    if reads_first and state_of(first, workspace, configs[first.name]).must_run:
        yield first
    for role, stands_in in step.replaceable.items():
        artifact = step.needs[role]
        if artifact not in lacking or workspace.find(artifact) or stands_in(configs[step.name]):
            continue
        maker = maker_of(artifact)
        if maker and all(workspace.find(needed) for needed in maker.needs.values()):
            yield maker
