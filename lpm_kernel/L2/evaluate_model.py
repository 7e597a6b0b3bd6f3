"""Ask before and after the same held-out questions, count facts and blind wins, and decide: promote or keep."""

import sys
from pathlib import Path

if __package__ is None:
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from lpm_kernel.checkout import enter

    enter()

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from pydantic import Field

from lpm_kernel import judges
from lpm_kernel.errors import DataError, Finding
from lpm_kernel.export.fidelity import Fidelity
from lpm_kernel.files import file_sha256, read_jsonl, read_record, write_json
from lpm_kernel.journal import Journal, open_journal
from lpm_kernel.judges import JudgeConfig, open_judge
from lpm_kernel.judges.base import Judge
from lpm_kernel.judges.journaled import JournaledJudge
from lpm_kernel.judges.questions import question_of
from lpm_kernel.judges.stranger import stranger_bio
from lpm_kernel.models.gguf_header import read_header
from lpm_kernel.models.merge_report import read_merge_report
from lpm_kernel.owner.bio import read_bio
from lpm_kernel.owner.facts import Facts
from lpm_kernel.progress import say
from lpm_kernel.proof.evaluation import JudgeIdentity, Model, Models, Origin, Trial
from lpm_kernel.proof.gate import GateConfig, decide, measure
from lpm_kernel.proof.report import write_report
from lpm_kernel.records import Answer, Prompt, Verdict
from lpm_kernel.serving import connect
from lpm_kernel.serving.client import ChatClient
from lpm_kernel.serving.concurrency import map_in_order
from lpm_kernel.serving.endpoint import Endpoint, ServingConfig
from lpm_kernel.serving.own_server import serve
from lpm_kernel.serving.sampling import SamplingConfig, sample
from lpm_kernel.training.settings import LOG as TRAINING_LOG


class StageConfig(ServingConfig, SamplingConfig, JudgeConfig, GateConfig):
    """Evaluation and the gate."""

    samples: int = Field(4, ge=1, le=16, description="Answers of each model to each question.")


def preflight(config: StageConfig) -> list[Finding]:
    """Whether our own server can be started and the judge be asked."""
    return [connect.engine_finding(config), judges.preflight(config)]


def run(
    config: StageConfig,
    *,
    before_gguf_path: Path,
    after_gguf_path: Path,
    held_out_path: Path,
    items_path: Path,
    bio_path: Path,
    evaluation_path: Path,
    report_path: Path,
    work_path: Path,
    verdicts_path: Path | None = None,
    prompts_path: Path | None = None,
    adapter_path: Path | None = None,
    merged_model_path: Path | None = None,
    fidelity_path: Path | None = None,
    run_path: Path | None = None,
) -> None:
    """Raises DataError without questions, ServiceError when a model or the judge is down; the journal stays."""
    bio = read_bio(bio_path)
    questions = list(read_jsonl(held_out_path, Prompt))
    facts = Facts(read_jsonl(items_path, Prompt), bio)
    if not questions:
        raise DataError(f"{held_out_path} holds no question; raise --held-out-share in prepare")
    models = Models(before=_model(before_gguf_path), after=_model(after_gguf_path))
    with open_journal(work_path / "journal.sqlite") as journal:

        def ask(gguf_path: Path, model: Model, label: str) -> list[list[Answer]]:
            return _ask_model(questions, gguf_path, model, journal, config, work_path / f"{label}.log", label)

        before = ask(before_gguf_path, models.before, "before")
        after = ask(after_gguf_path, models.after, "after")
        judge, trials = asyncio.run(_judge(questions, before, after, facts, bio, journal, config))
    merge = read_merge_report(merged_model_path)
    fidelity = read_record(fidelity_path, Fidelity) if fidelity_path else None
    retained = merge.update_retained if merge else None
    origin = _origin(models, judge, bio_path, run_path)
    evaluation = decide(measure(trials, config, origin=origin, retained=retained, fidelity=fidelity), config)
    write_json(evaluation_path, evaluation)
    write_report(
        report_path,
        evaluation=evaluation,
        trials=trials,
        evidence_path=verdicts_path,
        prompts_path=prompts_path,
        training_log_path=adapter_path and adapter_path / TRAINING_LOG,
    )
    say(f"decision: {evaluation.decision} ({'; '.join(evaluation.reasons)})")


def _origin(models: Models, judge: JudgeIdentity, bio_path: Path, run_path: Path | None) -> Origin:
    return Origin(
        run=run_path.name if run_path else None,
        finished_at=datetime.now(UTC).replace(microsecond=0),
        models=models,
        judge=judge,
        bio_sha256=file_sha256(bio_path),
    )


def _model(gguf_path: Path) -> Model:
    name = read_header(gguf_path).values.get("general.name")
    file = "/".join(gguf_path.absolute().parts[-2:])
    return Model(name=name if isinstance(name, str) else "", file=file, sha256=file_sha256(gguf_path))


def _ask_model(
    questions: Sequence[Prompt],
    gguf_path: Path,
    model: Model,
    journal: Journal,
    config: StageConfig,
    log_path: Path,
    label: str,
) -> list[list[Answer]]:
    async def ask(endpoint: Endpoint) -> list[list[Answer]]:
        in_flight = max(1, endpoint.slots // config.samples) + 1
        async with ChatClient(endpoint, timeout_s=config.answer_timeout_s, max_in_flight=in_flight) as client:

            async def one(prompt: Prompt) -> list[Answer]:
                return await sample(client, journal, prompt, config, count=config.samples, model=model.sha256)

            total, about = len(questions), f"answers {label}"
            try:
                return [a async for a in map_in_order(one, questions, total=total, width=in_flight, label=about)]
            finally:
                await journal.flush()

    with serve(gguf_path, config, log_path) as endpoint:
        return asyncio.run(ask(endpoint))


async def _judge(
    questions: Sequence[Prompt],
    before: Iterable[list[Answer]],
    after: Iterable[list[Answer]],
    known: Facts,
    bio: str,
    journal: Journal,
    config: StageConfig,
) -> tuple[JudgeIdentity, list[Trial]]:
    """Who judged, and a trial a question."""
    stranger = stranger_bio()
    async with open_judge(config) as judge:
        journaled = JournaledJudge(judge, journal)

        async def one(asked: tuple[Prompt, list[Answer], list[Answer]]) -> Trial:
            prompt, old, new = asked
            pairs = list(zip(old, new, strict=True))
            measured = known.measure(prompt)
            return Trial(
                prompt=prompt,
                before=old,
                after=new,
                verdicts=[await _verdict(journaled, prompt, known, bio, b, a) for b, a in pairs],
                stranger_verdicts=[await _verdict(journaled, prompt, known, stranger, b, a) for b, a in pairs],
                facts=measured.asked,
                facts_before=[measured.told(answer.text) for answer in old],
                facts_after=[measured.told(answer.text) for answer in new],
            )

        total, width = len(questions), config.judge_in_flight
        asked = zip(questions, before, after, strict=True)
        try:
            trials = [t async for t in map_in_order(one, asked, total=total, width=width, label="verdicts")]
        finally:
            await journal.flush()
        return _identity(judge, config.judge), trials


async def _verdict(
    judge: JournaledJudge, prompt: Prompt, known: Facts, bio: str, before: Answer, after: Answer
) -> Verdict:
    """Cut answers are judged too, as they are what the owner would read; equal ones are a tie without asking."""
    if before.text == after.text:
        return Verdict(prompt_id=prompt.id, first=0, second=1, outcome="tie", reason="the same answer", judge="")
    question = question_of(prompt, known, bio)
    return await judge.verdict(prompt.id, question, [before.text, after.text], 0, 1)


def _identity(judge: Judge, kind: str) -> JudgeIdentity:
    return JudgeIdentity(label=judge.label, kind=kind, name=judge.name, place=judge.place, is_remote=judge.is_remote)


if __name__ == "__main__":
    from lpm_kernel.commands.app import main

    main(["run", "evaluate", *sys.argv[1:]])
