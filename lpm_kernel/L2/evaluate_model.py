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
from lpm_kernel.proof.probes import Tried, measure_probes
from lpm_kernel.proof.report import write_report
from lpm_kernel.records import Answer, Probe, Prompt, Verdict
from lpm_kernel.serving import connect
from lpm_kernel.serving.asking import AskingConfig, answers_of
from lpm_kernel.serving.concurrency import map_in_order
from lpm_kernel.training.settings import LOG as TRAINING_LOG


class StageConfig(AskingConfig, JudgeConfig, GateConfig):
    """Evaluation and the gate."""


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
    probes_path: Path | None = None,
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
    probes = list(read_jsonl(probes_path, Probe)) if probes_path else []
    models = Models(before=_model(before_gguf_path), after=_model(after_gguf_path))
    with open_journal(work_path / "journal.sqlite") as journal:

        def ask(gguf_path: Path, model: Model, label: str) -> list[list[Answer]]:
            prompts, log_path = [*questions, *(probe.prompt for probe in probes)], work_path / f"{label}.log"
            return answers_of(gguf_path, prompts, config, journal, model=model.sha256, log_path=log_path)

        before = ask(before_gguf_path, models.before, "before")
        after = ask(after_gguf_path, models.after, "after")
        tried = list(map(Tried, probes, before[len(questions) :], after[len(questions) :]))
        before, after = before[: len(questions)], after[: len(questions)]
        judge, trials = asyncio.run(_judge(questions, before, after, facts, bio, journal, config))
    merge = read_merge_report(merged_model_path)
    fidelity = read_record(fidelity_path, Fidelity) if fidelity_path else None
    retained = merge.update_retained if merge else None
    origin = _origin(models, judge, bio_path, run_path)
    measures = measure(trials, config, origin=origin, retained=retained, fidelity=fidelity)
    probed = measure_probes(tried, facts, config.bootstrap_seed)
    evaluation = decide(measures.model_copy(update={"probes": probed}), config)
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
