"""What the steps to come say of the work before them, without doing any of it."""

import inspect
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from lpm_kernel.config import Config
from lpm_kernel.errors import LpmError
from lpm_kernel.pipeline import Step, step_named
from lpm_kernel.runner.state import StepState
from lpm_kernel.workspace.places import Workspace


def forecasts(
    workspace: Workspace, configs: Mapping[str, Config], states: Mapping[str, StepState]
) -> dict[str, list[str]]:
    """Step -> what its stage's `forecast` foresees, for each that may run and whose long-made inputs will stay."""
    found: dict[str, list[str]] = {}
    remade: set[str] = set()
    for name, state in states.items():
        step = step_named(name)
        if state.name != "given":
            found[name] = _forecast_of(step, workspace, configs[name], remade)
        if (state.must_run and step.resumes) or remade & set(step.needs.values()):
            remade |= set(step.makes.values())
    return found


def _forecast_of(step: Step, workspace: Workspace, config: Config, remade: Collection[str]) -> list[str]:
    """Empty for a stage that foresees nothing, lacks what it would read, or reads what a long step will make again."""
    forecast = getattr(step.stage, "forecast", None)
    if forecast is None:
        return []
    artifacts = {**step.needs, **step.makes}
    paths: dict[str, Path] = {"work_path": workspace.work_place(step.name)}
    for role, parameter in inspect.signature(forecast).parameters.items():
        artifact = artifacts.get(role)
        if artifact is None:
            continue
        path = workspace.find(artifact)
        if artifact in remade or (path is None and parameter.default is parameter.empty):
            return []
        paths |= {role: path} if path else {}
    with suppress(LpmError):  # what is wrong is said by the run itself, and by what else the plan tells
        return list(forecast(config, **paths))
    return []
