"""Two answers -> a verdict, or none with its reason. A new judge is one file, and one line of JUDGES."""

from contextlib import AbstractAsyncContextManager
from typing import Annotated

from pydantic import Field

from lpm_kernel.config import OneOf
from lpm_kernel.errors import Finding
from lpm_kernel.judges import pairwise, reference
from lpm_kernel.judges.base import Judge, JudgeKind, JudgingSettings

JUDGES: dict[str, JudgeKind] = {
    "openai": pairwise.KIND,
    "reference": reference.KIND,
}


class JudgeConfig(*(kind.settings for kind in JUDGES.values()), JudgingSettings):  # type: ignore[misc]
    """Who judges, with the settings of every judge."""

    judge: Annotated[str, OneOf(tuple(JUDGES))] = Field(
        "openai",
        description=f"Who judges. {'; '.join(f'{name}: {kind.about}' for name, kind in JUDGES.items())}.",
    )


def open_judge(config: JudgeConfig) -> AbstractAsyncContextManager[Judge]:
    """The judge that the settings name; raises PermissionDeniedError when it needs a key and there is none."""
    return JUDGES[config.judge].open(config)


def cure(config: JudgeConfig) -> str:
    """What to try when the judge that the settings name does not tell answers apart."""
    return JUDGES[config.judge].cure


def preflight(config: JudgeConfig) -> Finding:
    """Whether the judge that the settings name can be asked."""
    return JUDGES[config.judge].preflight(config)
