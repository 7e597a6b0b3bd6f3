"""The judge's examination by itself: the step of the chain, beside what the chain made."""

from collections.abc import Mapping

from lpm_kernel.config import Config
from lpm_kernel.errors import LpmError
from lpm_kernel.files import read_record, remove
from lpm_kernel.pipeline import step_named
from lpm_kernel.records import Examination
from lpm_kernel.runner.run import run_one
from lpm_kernel.workspace.places import Workspace


def examine_judge(workspace: Workspace, configs: Mapping[str, Config]) -> tuple[Examination | None, LpmError | None]:
    """What was found, and why the judge is not to be believed, or could not be asked.

    Its verdicts are those of the step `judge-exam`, which asks none of them again; its file is another one, so that
    nothing that was made becomes stale.
    """
    step = step_named("judge-exam")
    place = workspace.work_path(step.name) / "examination.json"
    remove(place)
    refusal = None
    try:
        run_one(step, workspace, configs, {"examination_path": place}, given=False)
    except LpmError as error:
        refusal = error
    return (read_record(place, Examination) if place.exists() else None), refusal
