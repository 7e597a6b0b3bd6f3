"""What of the chain is made, what must run, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lpm_kernel.config import Config
from lpm_kernel.errors import MissingInputError, UsageError
from lpm_kernel.pipeline import STEPS, Step, maker_of, step_named
from lpm_kernel.workspace import Manifest, Workspace, manifest_path

UNNEEDED = "not needed"

CURES = {
    "merged.json": "your SFT data, a JSON list as Second-Me writes it",
    "global_bio": "your bio: `lpm bio edit`",
    "base_model": "the base model that SFT starts from, or give your SFT model as model/output/merged_model",
    "merged_model": "your SFT model, in Hugging Face format",
    "lpm.gguf": "your SFT model as GGUF; `lpm run sft-gguf` makes it from merged_model",
}


@dataclass(frozen=True)
class Standing:
    """Where a step stands now."""

    state: Literal["done", "given", "stale", "pending"]
    reason: str
    manifest: Manifest | None = None
    """Of the principal output, when the step is done."""


def standing(step: Step, workspace: Workspace, config: Config) -> Standing:
    """Whether the step's outputs are made, from these inputs and settings."""
    principal = workspace.find(next(iter(step.makes.values())))
    if principal is None:
        return Standing("pending", "not made yet")
    manifests = {}
    for artifact in step.makes.values():
        place = workspace.find(artifact)
        manifests[artifact] = workspace.manifest(place) if place else None
    made = [m for m in manifests.values() if m]
    if not made and not manifest_path(principal).exists():
        return Standing("given", f"{principal.name} is yours")
    if len({m.making for m in made}) != 1 or len(made) < len(step.makes):
        missing = [a for a, m in manifests.items() if m is None]
        return Standing("stale", f"{', '.join(missing) or 'its outputs'} changed or incomplete")
    change = _changed_input(step, workspace, made[0]) or _changed_setting(config, made[0])
    return Standing("stale", change) if change else Standing("done", f"made {made[0].made_at}", made[0])


def _changed_input(step: Step, workspace: Workspace, manifest: Manifest) -> str | None:
    for role, artifact in step.needs.items():
        path = workspace.find(artifact)
        now_there = workspace.digest(path) if path else None
        if now_there != manifest.inputs.get(role):
            return f"{artifact} changed" if path else f"{artifact} is gone"
    return None


def _changed_setting(config: Config, manifest: Manifest) -> str | None:
    """What was decided by a flag stays until another flag says otherwise; operational settings change nothing."""
    decided = set(manifest.flags) - config.flags
    for key, value in config.told().items():
        was = manifest.config.get(key, type(config).model_fields[key].default)
        if value != was and key not in config.all_operational() | decided:
            return f"setting {key}: {was!r} -> {value!r}"
    return None


def wanted(workspace: Workspace, configs: Mapping[str, Config], until: str) -> dict[str, Standing]:
    """Every step's standing, walking back from `until`: what is given, or needed by nobody, is `given`."""
    order = [s.name for s in STEPS]
    step_named(until)
    targets = set(step_named(until).makes.values())
    result: dict[str, Standing] = {}
    for step in reversed(STEPS[: order.index(until) + 1]):
        if not targets & set(step.makes.values()):
            result[step.name] = Standing("given", UNNEEDED)
            continue
        result[step.name] = standing(step, workspace, configs[step.name])
        if result[step.name].state != "given":
            targets |= set(step.needs.values())
    return {s.name: result[s.name] for s in STEPS if s.name in result}


def missing_inputs(workspace: Workspace, standings: Mapping[str, Standing]) -> list[str]:
    """What only the owner can give, that a step which must run needs and that is not there."""
    lacking: dict[str, None] = {}
    for name, found in standings.items():
        if found.state == "given":
            continue
        for artifact in step_named(name).needs.values():
            if maker_of(artifact) is None and workspace.find(artifact) is None:
                lacking[artifact] = None
    return list(lacking)


def refuse_when_lacking(workspace: Workspace, standings: Mapping[str, Standing]) -> None:
    """Raise MissingInputError with the places and cures of all that the owner must give."""
    lacking = missing_inputs(workspace, standings)
    if lacking:
        lines = [f"  {workspace.place(a)}: {CURES[a]}" for a in lacking]
        raise MissingInputError(
            "the pipeline needs what is not there:\n" + "\n".join(lines) + "\nTo see it work first: lpm pipeline --demo"
        )


def lacking_message(artifact: str, workspace: Workspace) -> str:
    maker = maker_of(artifact)
    cure = f"make it with: lpm run {maker.name}" if maker else "it is yours to give"
    hint = f" ({CURES[artifact]})" if artifact in CURES else ""
    return f"{workspace.place(artifact)} is not there{hint}; {cure}"


def forced_from(standings: Mapping[str, Standing], start: str | None) -> dict[str, Standing]:
    """The same with `start` and all after it asked for, but for steps that nobody needs."""
    if start is not None and start not in standings:
        raise UsageError(f"--from {start}: no such step before the last one; known: {', '.join(standings)}")
    names = list(standings)
    first = names.index(start) if start else len(names)
    return {
        name: Standing("stale", "asked for") if names.index(name) >= first and found.reason != UNNEEDED else found
        for name, found in standings.items()
    }
