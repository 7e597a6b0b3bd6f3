"""Examine the judge on cases whose truth is known, made of the owner's own notes, before any pair is believed."""

import sys
from pathlib import Path

if __package__ is None:
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from lpm_kernel.checkout import enter

    enter()

import asyncio

from lpm_kernel import judges
from lpm_kernel.errors import Finding
from lpm_kernel.files import read_jsonl, write_json
from lpm_kernel.journal import open_journal
from lpm_kernel.judges import JudgeConfig, open_judge
from lpm_kernel.judges.examination import ExamConfig, examine, refuse_unbelieved
from lpm_kernel.judges.journaled import JournaledJudge
from lpm_kernel.judges.questions import Owner
from lpm_kernel.owner.bio import read_bio
from lpm_kernel.progress import say
from lpm_kernel.records import Examination, Prompt


class StageConfig(JudgeConfig, ExamConfig):
    """Who is examined, and how: the judge of the pairs, unless another one is named."""

    follows = "dpo-data"


def preflight(config: StageConfig) -> list[Finding]:
    """Whether the judge can be asked."""
    return [judges.preflight(config)]


def run(
    config: StageConfig,
    *,
    items_path: Path,
    bio_path: Path,
    examination_path: Path,
    work_path: Path,
) -> None:
    """Raises DataError for a judge that failed, or cannot be examined, unless it is accepted; ServiceError when it is
    down. What was found is written before that.
    """
    found = asyncio.run(_examine(config, items_path, read_bio(bio_path), work_path))
    write_json(examination_path, found)
    refuse_unbelieved(found, judges.cure(config))
    say(found.sentence)


async def _examine(config: StageConfig, items_path: Path, bio: str, work_path: Path) -> Examination:
    owner = Owner(list(read_jsonl(items_path, Prompt)), bio)
    with open_journal(work_path / "journal.sqlite") as journal:
        async with open_judge(config) as judge:
            try:
                return await examine(JournaledJudge(judge, journal), owner, config)
            finally:
                await journal.flush()


if __name__ == "__main__":
    from lpm_kernel.commands.app import main

    main(["run", "judge-exam", *sys.argv[1:]])
