"""One model against another: the evaluation of the chain, on any two of the models that the workspace holds."""

from collections.abc import Mapping
from pathlib import Path

from lpm_kernel.config import Config
from lpm_kernel.errors import UsageError
from lpm_kernel.pipeline import step_named
from lpm_kernel.progress import say
from lpm_kernel.runner.run import run_one
from lpm_kernel.runner.versions import ARTIFACTS, gguf_of
from lpm_kernel.workspace.places import Workspace
from lpm_kernel.workspace.versions import version_named


def compare_models(workspace: Workspace, configs: Mapping[str, Config], before: str, after: str) -> Path:
    """Evaluate one model against another, each a version, `sft` or `candidate`; returns the folder of what was found.

    Raises UsageError for a model against itself.
    """
    if before == after:
        raise UsageError(f"{before} against itself shows nothing; name two models: lpm versions")
    place = workspace.comparison_path(before, after)
    paths: dict[str, Path | None] = {
        "before_gguf_path": gguf_of(workspace, before),
        "after_gguf_path": gguf_of(workspace, after),
        "evaluation_path": place / "evaluation.json",
        "report_path": place / "report.html",
    }
    for name in (before, after):
        if name not in ARTIFACTS and not _knows_todays_questions(workspace, name):
            say(f"warning: {name} was evaluated on other questions, and may have been trained on some of today's")
    step = step_named("evaluate")
    named = configs[step.name].model_copy(update={"before_name": before, "after_name": after})
    run_one(step, workspace, {**configs, step.name: named}, {**dict.fromkeys(step.uses), **paths}, given=False)
    return place


def _knows_todays_questions(workspace: Workspace, name: str) -> bool:
    held_out = workspace.find("held_out")
    return held_out is not None and version_named(workspace, name).questions == workspace.digest(held_out)
