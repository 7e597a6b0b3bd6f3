"""What of the chain is made, what must run, and why."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Literal

from lpm_kernel.config import Config
from lpm_kernel.errors import DataError, MissingInputError, UsageError
from lpm_kernel.pipeline import STEPS, Step, maker_of, step_named
from lpm_kernel.runner.settings import awaited_bio, documented_bio
from lpm_kernel.runner.use import USABLE
from lpm_kernel.workspace.manifest import Manifest, manifest_path
from lpm_kernel.workspace.places import Workspace

UNNEEDED = "not needed"

CURES = {
    "merged.json": "your SFT data, a JSON list as Second-Me writes it",
    "global_bio": "your bio: `lpm bio edit`",
    "base_model": "the base model that SFT starts from, or give your SFT model as model/output/merged_model",
    "merged_model": "your SFT model, in Hugging Face format",
    "lpm.gguf": "your SFT model as GGUF; `lpm run sft-gguf` makes it from merged_model",
}


@dataclass(frozen=True)
class StepState:
    """Where a step stands now."""

    name: Literal["done", "given", "stale", "pending"]
    reason: str
    manifest: Manifest | None = None
    """Of the principal output, when the step is done."""
    edited: str = ""
    """The principal output, when it is there and is not as it was made."""

    @property
    def must_run(self) -> bool:
        """Whether its outputs are lacking or out of date."""
        return self.name in ("stale", "pending")


def state_of(step: Step, workspace: Workspace, config: Config) -> StepState:
    """Whether the step's outputs are made, from these inputs and settings."""
    name, *others = step.makes.values()
    principal = workspace.find(name)
    if principal is None:
        return StepState("pending", "not made yet")
    if not manifest_path(principal).exists():
        return StepState("given", f"{principal.name} is yours")
    manifest = workspace.manifest(principal)
    if manifest is None:
        return StepState("stale", workspace.misfit(principal), edited=name if name in USABLE else "")
    if workspace.is_foreign(manifest):
        return StepState("given", f"{principal.name} was made elsewhere and is yours")
    owners = [a for a in step.needs.values() if maker_of(a) is None]
    gone = [a for a in owners if workspace.find(a) is None and not (a == "global_bio" and awaited_bio(workspace))]
    if gone:
        return StepState("given", f"{', '.join(gone)} is gone, so {principal.name} stays as it is")
    beside = {artifact: _made_beside(workspace, artifact, manifest) for artifact in others}
    if not all(beside.values()):
        lacking = next(artifact for artifact, is_there in beside.items() if not is_there)
        place = workspace.find(lacking)
        return StepState("stale", (workspace.misfit(place) if place else "") or f"{lacking} is gone or of another run")
    if not manifest.complete:
        return StepState("stale", f"it ended without a result: {principal.name} says why")
    change = _changed_input(step, workspace, manifest) or _changed_setting(config, manifest)
    return StepState("stale", change) if change else StepState("done", f"made {manifest.made_at}", manifest)


def _made_beside(workspace: Workspace, artifact: str, principal: Manifest) -> bool:
    """Whether another output of the same run of the step is whole."""
    place = workspace.find(artifact)
    manifest = workspace.manifest(place) if place else None
    return manifest is not None and manifest.making == principal.making


def refuse_changed_inputs(step: Step, workspace: Workspace, overrides: Mapping[str, Path | None]) -> None:
    """Raise DataError for an input that is not as its step made it, unless a flag names it."""
    for role, artifact in {**step.needs, **step.heeds, **step.uses}.items():
        maker, path = maker_of(artifact), workspace.find(artifact)
        wrong = workspace.misfit(path) if maker and path and role not in overrides else ""
        if maker and wrong:
            flag = f"lpm run {step.name} --{role.replace('_', '-')} {quote(str(path))}"
            as_it_is = f"lpm use {artifact}" if artifact in USABLE else flag
            raise DataError(f"{wrong}. To work with it as it is: {as_it_is}; to make it again: lpm run {maker.name}")


def _changed_input(step: Step, workspace: Workspace, manifest: Manifest) -> str | None:
    for role, artifact in step.needs.items():
        path = workspace.find(artifact)
        now_there = workspace.digest(path) if path else None
        if artifact == "global_bio" and awaited_bio(workspace):
            return "global_bio changed"
        if now_there != manifest.inputs.get(role):
            return f"{artifact} changed" if path else f"{artifact} is gone"
    for role, artifact in step.heeds.items():
        path, then = workspace.find(artifact), manifest.inputs.get(role)
        now_there = workspace.digest(path) if path else None
        if now_there != then:
            return f"{artifact} {'changed' if path and then else 'came' if path else 'is gone'}"
    return None


def _changed_setting(config: Config, manifest: Manifest) -> str | None:
    """What was decided by a flag stays until another flag says otherwise; operational settings change nothing."""
    decided = set(manifest.flags) - config.flags
    for key, value in config.recorded().items():
        was = manifest.config.get(key, type(config).model_fields[key].default)
        if value != was and key not in config.all_operational() | decided:
            return f"setting {key}: {was!r} -> {value!r}"
    return None


def chain_states(workspace: Workspace, configs: Mapping[str, Config], until: str) -> dict[str, StepState]:
    """Every step's state, walking back from `until`: what is given, or needed by nobody, is `given`."""
    order = [s.name for s in STEPS]
    step_named(until)
    targets = set(step_named(until).makes.values())
    result: dict[str, StepState] = {}
    for step in reversed(STEPS[: order.index(until) + 1]):
        if not targets & set(step.makes.values()):
            result[step.name] = StepState("given", UNNEEDED)
            continue
        result[step.name] = state_of(step, workspace, configs[step.name])
        if result[step.name].name != "given":
            targets |= set(step.needs.values())
    return {s.name: result[s.name] for s in STEPS if s.name in result}


def forced_from(states: Mapping[str, StepState], start: str | None) -> dict[str, StepState]:
    """The same with `start` and all after it asked for, but for steps that nobody needs."""
    if start is not None and start not in states:
        raise UsageError(f"--from {start}: no such step before the last one; known: {', '.join(states)}")
    names = list(states)
    first = names.index(start) if start else len(names)
    return {
        name: StepState("stale", "asked for") if names.index(name) >= first and found.reason != UNNEEDED else found
        for name, found in states.items()
    }


def awaited_inputs(states: Mapping[str, StepState]) -> dict[str, list[str]]:
    """Step that is done -> those of its inputs that a step before it will make again."""
    again: set[str] = set()
    found: dict[str, list[str]] = {}
    for name, state in states.items():
        step = step_named(name)
        awaited = [artifact for artifact in step.needs.values() if artifact in again]
        if state.name == "done" and awaited:
            found[name] = awaited
        if state.must_run or name in found:
            again |= set(step.makes.values())
    return found


def missing_inputs(workspace: Workspace, states: Mapping[str, StepState]) -> list[str]:
    """What only the owner can give, that a step which must run needs and that is not there."""
    lacking: dict[str, None] = {}
    for name, state in states.items():
        if state.name == "given":
            continue
        for artifact in step_named(name).needs.values():
            taken_over = artifact == "global_bio" and documented_bio()
            if maker_of(artifact) is None and workspace.find(artifact) is None and not taken_over:
                lacking[artifact] = None
    return list(lacking)


class UndecidedError(UsageError):
    """Several base models are there, and nobody has said which one is meant."""

    def __init__(self, workspace: Workspace) -> None:
        self.names = workspace.base_models()
        super().__init__(
            f"{workspace.base_models_path} holds {len(self.names)} base models ({', '.join(self.names)}), "
            f'expected one, or a choice: write base_model = "{self.names[0]}" above the tables of '
            f"{workspace.settings_path}, or set LPM_BASE_MODEL={self.names[0]}"
        )


def refuse_when_undecided(
    workspace: Workspace, states: Mapping[str, StepState], overridden: Collection[str] = ()
) -> None:
    """Raise UndecidedError when a step to come takes a base model and it is open which; not for overridden roles."""
    taken = [
        artifact
        for name, state in states.items()
        if state.must_run
        for role, artifact in step_named(name).needs.items()
        if role not in overridden
    ]
    if "base_model" in taken and not workspace.base_model and len(workspace.base_models()) > 1:
        raise UndecidedError(workspace)


def refuse_when_lacking(workspace: Workspace, states: Mapping[str, StepState]) -> None:
    """Raise MissingInputError with the places and cures of all that the owner must give."""
    lacking = missing_inputs(workspace, states)
    if lacking:
        lines = [f"  {workspace.place(a)}: {CURES[a]}" for a in lacking]
        raise MissingInputError(
            "the pipeline needs what is not there:\n" + "\n".join(lines) + "\nTo see it work first: lpm pipeline --demo"
        )


def refuse_when_edited(states: Mapping[str, StepState]) -> None:
    """Raise DataError for what is not as it was made: what an owner edited is never made again unasked."""
    for name, state in states.items():
        if state.edited:
            raise DataError(
                f"{state.reason}: edited, replaced or damaged. To work with it as it is: lpm use {state.edited}; "
                f"to make it again (what is there is kept beside it): lpm pipeline --from {name}"
            )


def lacking_message(artifact: str, workspace: Workspace) -> str:
    """What to do about an artifact that one step needs."""
    maker = maker_of(artifact)
    cure = f"make it with: lpm run {maker.name}" if maker else "it is yours to give"
    hint = f" ({CURES[artifact]})" if artifact in CURES else ""
    return f"{workspace.place(artifact)} is not there{hint}; {cure}"
