"""Ask before and after the same held-out questions, count facts and blind wins, and decide: promote or keep."""

import sys
from pathlib import Path

if __package__ is None:
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from lpm_kernel.by_path import enter

    enter()

import asyncio
import json
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from pydantic import Field

from lpm_kernel.errors import DataError
from lpm_kernel.hashing import file_sha256
from lpm_kernel.journal import Journal, open_journal
from lpm_kernel.judges.base import JudgeConfig, Question
from lpm_kernel.judges.facts import coverage, facts_of, strays
from lpm_kernel.L2.bootstrap import mean
from lpm_kernel.L2.bounded import map_bounded
from lpm_kernel.L2.gate import GateConfig, Trial, summarise
from lpm_kernel.L2.judging import Bench, open_judge
from lpm_kernel.L2.report import write_report
from lpm_kernel.L2.sampling import SamplingConfig, sample
from lpm_kernel.preferences.bio import read_bio
from lpm_kernel.progress import say
from lpm_kernel.records import Answer, Prompt, Verdict, read_jsonl, write_json
from lpm_kernel.serving.client import ChatClient
from lpm_kernel.serving.endpoint import Endpoint, ServingConfig
from lpm_kernel.serving.llama_cpp import serve

STRANGER_BIO = """## Who
A stranger: a retired lighthouse inspector from the Faroe Islands who keeps bees and restores barometers.

## Habits
Rises at four, drinks black tea, reads tide tables, and has never owned a telephone.
"""
"""The control: what wins by the owner's bio and not by this one is personal."""


class StageConfig(ServingConfig, SamplingConfig, JudgeConfig, GateConfig):
    """Evaluation and the gate."""

    samples: int = Field(4, ge=1, le=16, description="Answers of each model to each question.")


def run(
    config: StageConfig,
    *,
    before_gguf_path: Path,
    after_gguf_path: Path,
    held_out_path: Path,
    bio_path: Path,
    evaluation_path: Path,
    report_path: Path,
    work_path: Path,
    verdicts_path: Path | None = None,
    prompts_path: Path | None = None,
    adapter_path: Path | None = None,
    merged_model_path: Path | None = None,
    fidelity_path: Path | None = None,
) -> None:
    """Raises DataError without questions, ServiceError when a model or the judge is down; the journal stays."""
    bio = read_bio(bio_path)
    questions = list(read_jsonl(held_out_path, Prompt))
    if not questions:
        raise DataError(f"{held_out_path} holds no question; raise --held-out-share in prepare")
    with open_journal(work_path / "journal.sqlite") as journal:
        before = _ask_model(questions, before_gguf_path, journal, config, work_path / "before.log", "before")
        after = _ask_model(questions, after_gguf_path, journal, config, work_path / "after.log", "after")
        trials = asyncio.run(_judge(questions, before, after, bio, journal, config))
    retained = _read(merged_model_path and merged_model_path / "merge_report.json").get("update_retained")
    evaluation = summarise(trials, config, judge=_judge_name(config), retained=retained, fidelity=_read(fidelity_path))
    write_json(evaluation_path, evaluation)
    write_report(
        report_path,
        evaluation=evaluation,
        trials=trials,
        evidence_path=verdicts_path,
        prompts_path=prompts_path,
        training_log=_read(adapter_path and adapter_path / "training_log.json"),
    )
    say(f"decision: {evaluation['decision']} ({'; '.join(evaluation['reasons'])})")


def _ask_model(
    questions: Sequence[Prompt], gguf_path: Path, journal: Journal, config: StageConfig, log_path: Path, label: str
) -> list[list[Answer]]:
    model = file_sha256(gguf_path)

    async def ask(endpoint: Endpoint) -> list[list[Answer]]:
        in_flight = max(1, endpoint.slots // config.samples) + 1
        async with ChatClient(endpoint, timeout_s=config.answer_timeout_s, max_in_flight=in_flight) as client:

            async def one(prompt: Prompt) -> list[Answer]:
                return await sample(client, journal, prompt, config, count=config.samples, model=model)

            try:
                return await map_bounded(one, questions, width=in_flight, label=f"answers {label}")
            finally:
                await journal.flush()

    with ExitStack() as stack:
        endpoint = stack.enter_context(serve(gguf_path, config, log_path))
        return asyncio.run(ask(endpoint))


async def _judge(
    questions: Sequence[Prompt],
    before: Sequence[list[Answer]],
    after: Sequence[list[Answer]],
    bio: str,
    journal: Journal,
    config: StageConfig,
) -> list[Trial]:
    async with open_judge(config) as judge:
        bench = Bench(judge, journal)

        async def one(index: int) -> Trial:
            prompt = questions[index]
            pairs = list(zip(before[index], after[index], strict=True))
            return Trial(
                prompt=prompt,
                before=before[index],
                after=after[index],
                verdicts=[await _verdict(bench, prompt, bio, b, a) for b, a in pairs],
                stranger_verdicts=[await _verdict(bench, prompt, STRANGER_BIO, b, a) for b, a in pairs],
                recall=_recall(prompt, bio, before[index], after[index]),
                strays=(_mean_strays(before[index], prompt), _mean_strays(after[index], prompt)),
            )

        try:
            return await map_bounded(one, range(len(questions)), width=config.judge_in_flight, label="verdicts")
        finally:
            await journal.flush()


async def _verdict(bench: Bench, prompt: Prompt, bio: str, before: Answer, after: Answer) -> Verdict:
    """Cut answers are judged too, as they are what the owner would read; equal ones are a tie without asking."""
    if before.text == after.text:
        return Verdict(
            prompt_id=prompt.id, first=0, second=1, outcome="tie", reason="the same answer", judge="", orders=()
        )
    question = Question(prompt.user, prompt.reference, bio)
    return await bench.verdict(prompt.id, question, [before.text, after.text], 0, 1)


def _recall(prompt: Prompt, bio: str, before: Sequence[Answer], after: Sequence[Answer]) -> tuple[float, float] | None:
    facts = facts_of(prompt.reference, bio, prompt.user)
    if not facts:
        return None
    return _mean_coverage(before, facts), _mean_coverage(after, facts)


def _mean_coverage(answers: Sequence[Answer], facts: frozenset[str]) -> float:
    return mean([coverage(answer.text, facts) or 0.0 for answer in answers])


def _mean_strays(answers: Sequence[Answer], prompt: Prompt) -> float:
    return mean([strays(answer.text, prompt.reference, prompt.user) for answer in answers])


def _judge_name(config: StageConfig) -> str:
    return config.judge if config.judge == "reference" else config.judge_model


def _read(path: Path | None) -> Any:
    """A JSON report of an earlier step, or an empty one when it is not there."""
    if path is None or not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); run the step that makes it again") from None


if __name__ == "__main__":
    from lpm_kernel.commands.app import main

    main(["run", "evaluate", *sys.argv[1:]])
