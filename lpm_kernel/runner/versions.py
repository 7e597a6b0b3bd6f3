"""Which model is served: what the evidence promoted is kept as a version, and stays until another takes its place."""

from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from lpm_kernel.errors import DataError, MissingInputError, UsageError
from lpm_kernel.files import read_record
from lpm_kernel.pipeline import step_named
from lpm_kernel.progress import say
from lpm_kernel.proof.evaluation import Evaluation
from lpm_kernel.workspace import versions
from lpm_kernel.workspace.manifest import Manifest
from lpm_kernel.workspace.places import Workspace
from lpm_kernel.workspace.versions import CANDIDATE, SFT

ARTIFACTS = {CANDIDATE: "dpo_lpm.gguf", SFT: "lpm.gguf"}
"""Models that are no version -> the artifact that holds them as GGUF."""


def promote(workspace: Workspace) -> None:
    """Keep the candidate as a version and make it current, if its evaluation says so; needs the lock.

    What is kept already is not promoted a second time, so a model that the owner went back to stays current.
    """
    manifest = promoting(workspace)
    if manifest is None:
        return
    kept = {version.making: version for version in versions.all_versions(workspace)}
    version = kept.get(manifest.making)
    if version is None:
        parts = dict(_parts(workspace, manifest))
        questions = manifest.inputs["held_out_path"]
        version = versions.keep(workspace, parts, manifest.making, questions, manifest.demo)
    if version.name not in [change.version for change in versions.history(workspace).changes]:
        before = versions.current(workspace)
        versions.make_current(workspace, version.name, "promoted")
        say(f"kept as {version.name}, which lpm serve serves from now on in place of {before}; see lpm versions")


def promoting(workspace: Workspace) -> Manifest | None:
    """The manifest of the evaluation, when it promotes the candidate as it is now, and rests on what is here now.

    One that a flag gave another old model, other questions or another bio is no evidence for this workspace, and says
    so.
    """
    new, evaluation = workspace.find("dpo_lpm.gguf"), workspace.find("evaluation.json")
    manifest = workspace.manifest(evaluation) if evaluation else None
    if new is None or evaluation is None or manifest is None:
        return None
    judged = manifest.inputs.get("after_gguf_path") == workspace.digest(new)
    if not judged or read_record(evaluation, Evaluation).decision != "promote":
        return None
    if other := _evaluated_with_others(workspace, manifest):
        if manifest.making not in {version.making for version in versions.all_versions(workspace)}:
            say(
                f"{', '.join(other)} is not what the evaluation was made with, so the candidate is not kept, and what "
                "was served is served; to evaluate it with what is here: lpm run evaluate"
            )
        return None
    return manifest


def _evaluated_with_others(workspace: Workspace, evaluation: Manifest) -> list[str]:
    """What the evaluation rested on that is not, or no longer, the workspace's own."""
    step = step_named("evaluate")
    there = {role: (artifact, workspace.find(artifact)) for role, artifact in {**step.needs, **step.heeds}.items()}
    return [
        artifact
        for role, (artifact, path) in there.items()
        if evaluation.inputs.get(role) != (workspace.digest(path) if path else None)
    ]


def _parts(workspace: Workspace, evaluation: Manifest) -> Iterator[tuple[str, Path]]:
    """What the candidate is made of, by its name in the version: as far back as the manifests tell."""

    def part(artifact: str) -> tuple[Path | None, Manifest | None]:
        path = workspace.find(artifact)
        return path, workspace.manifest(path) if path else None

    gguf_path, gguf = part("dpo_lpm.gguf")
    assert gguf_path is not None
    yield versions.GGUF, gguf_path
    for name, artifact, maker in (
        (versions.EVALUATION, "evaluation.json", evaluation),
        ("report.html", "report.html", evaluation),
        ("lpm.fidelity.json", "dpo_fidelity", gguf),
    ):
        path, manifest = part(artifact)
        if path and manifest and maker and manifest.making == maker.making:
            yield name, path
    child = gguf
    for name, artifact, role in (
        ("merged_model", "dpo_merged_model", "model_path"),
        ("adapter", "adapter", "lora_adapter_path"),
    ):
        path, manifest = part(artifact)
        if path is None or child is None or child.inputs.get(role) != workspace.digest(path):
            return
        yield name, path
        child = manifest


def gguf_of(workspace: Workspace, name: str) -> Path:
    """The GGUF of a version, of SFT or of the candidate; raises UsageError, MissingInputError or DataError."""
    if name not in ARTIFACTS:
        return versions.whole_gguf(workspace, name)
    path = workspace.find(ARTIFACTS[name])
    if path is None:
        raise MissingInputError(f"{workspace.place(ARTIFACTS[name])} is not there; make it: lpm pipeline")
    if wrong := workspace.misfit(path):
        raise DataError(
            f"{wrong}; make it again: lpm pipeline, or to serve it as it is: lpm serve --model {quote(str(path))}"
        )
    return path


def gguf_to_serve(workspace: Workspace, told: str) -> Path:
    """A file, or a model by its name; without either the current one. Raises as `gguf_of` does."""
    if not told:
        return current_gguf(workspace)
    path = Path(told).expanduser()
    return path if path.suffix or path.exists() or len(path.parts) > 1 else gguf_of(workspace, told)


def current_gguf(workspace: Workspace) -> Path:
    """The GGUF to serve; raises MissingInputError when there is none, DataError when it is not what was promoted."""
    workspace.hashes.believe_no_earlier()
    name = versions.current(workspace)
    path = gguf_of(workspace, name)
    promoted = "no model is promoted" if name == SFT else "lpm versions tells the others"
    say(f"serving {name}, {path}: {promoted}")
    return path


def go_back(workspace: Workspace, name: str) -> None:
    """Make a version current, or SFT, or without a name the one before the current; needs the lock."""
    name = name or _one_before(workspace)
    if name == CANDIDATE:
        raise UsageError("the candidate is no version: it becomes one when its evaluation promotes it")
    path = gguf_of(workspace, name)
    versions.make_current(workspace, name, "rollback")
    say(f"{name} is current: lpm serve serves {path}")


def _one_before(workspace: Workspace) -> str:
    now_served = versions.current(workspace)
    if now_served == SFT:
        raise UsageError("the SFT model is current, and nothing is before it; name a version: lpm versions")
    names = [SFT, *(version.name for version in versions.all_versions(workspace))]
    return names[names.index(now_served) - 1] if now_served in names else names[-1]
