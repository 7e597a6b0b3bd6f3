"""Ask before and after the same held-out questions, count facts and blind wins, and decide: promote or keep."""

import sys
from pathlib import Path

if __package__ is None:
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from lpm_kernel.checkout import enter

    enter()

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import Field

from lpm_kernel import judges
from lpm_kernel.errors import DataError, Finding
from lpm_kernel.export.fidelity import Fidelity
from lpm_kernel.files import file_sha256, read_jsonl, read_record, write_json
from lpm_kernel.journal import Journal, open_journal
from lpm_kernel.judges import JudgeConfig, open_judge
from lpm_kernel.judges.base import Judge
from lpm_kernel.judges.examination import ExamConfig, examination_of
from lpm_kernel.judges.journaled import JournaledJudge
from lpm_kernel.judges.questions import Owner
from lpm_kernel.models.gguf_header import read_header
from lpm_kernel.models.merge_report import read_merge_report
from lpm_kernel.owner.bio import read_bio
from lpm_kernel.progress import say
from lpm_kernel.proof.blind import preference
from lpm_kernel.proof.cards import probe_cards
from lpm_kernel.proof.evaluation import JudgeIdentity, Model, Models, Origin, Trial
from lpm_kernel.proof.gate import GateConfig, decide
from lpm_kernel.proof.measuring import measure
from lpm_kernel.proof.probes import Tried, measure_probes
from lpm_kernel.proof.report import write_report
from lpm_kernel.proof.sentences import outcome
from lpm_kernel.proof.trials import judge_trials
from lpm_kernel.records import Agreement, Answer, Evidence, Examination, PairsAccount, Probe, Prompt
from lpm_kernel.serving import connect
from lpm_kernel.serving.asking import AskingConfig, answers_of
from lpm_kernel.training.settings import LOG as TRAINING_LOG


class StageConfig(AskingConfig, JudgeConfig, ExamConfig, GateConfig):
    """Evaluation and the gate."""

    operational = frozenset({"before_name", "after_name"})

    before_name: str = Field("", description="What the old model is called, where two are compared: lpm compare.")
    after_name: str = Field("", description="What the new model is called there.")


def preflight(config: StageConfig) -> list[Finding]:
    """Whether our own server can be started and the judge be asked."""
    return [connect.engine_finding(config), judges.preflight(config)]


def examines_itself(_: StageConfig) -> bool:
    """Whether the judge is examined here, where no examination of it is at hand: always."""
    return True


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
    examination_path: Path | None = None,
    model_votes_path: Path | None = None,
    verdicts_path: Path | None = None,
    prompts_path: Path | None = None,
    pairs_account_path: Path | None = None,
    adapter_path: Path | None = None,
    merged_model_path: Path | None = None,
    fidelity_path: Path | None = None,
    run_path: Path | None = None,
) -> None:
    """Raises DataError without questions, ServiceError when a model or the judge is down; the journal stays."""
    questions = list(read_jsonl(held_out_path, Prompt))
    if not questions:
        raise DataError(f"{held_out_path} holds no question; raise --held-out-share in prepare")
    probes = list(read_jsonl(probes_path, Probe)) if probes_path else []
    prompts = [*questions, *(probe.prompt for probe in probes)]
    owner = Owner(list(read_jsonl(items_path, Prompt)), read_bio(bio_path))
    models = Models(before=_model(before_gguf_path), after=_model(after_gguf_path))
    with open_journal(work_path / "journal.sqlite") as journal:

        def ask(gguf_path: Path, model: Model, label: str) -> list[list[Answer]]:
            log_path = work_path / f"{label}.log"
            return answers_of(gguf_path, prompts, config, journal, model=model.sha256, log_path=log_path)

        before, after = ask(before_gguf_path, models.before, "before"), ask(after_gguf_path, models.after, "after")
        answers = before[: len(questions)], after[: len(questions)]
        judge, examination, trials = asyncio.run(_judge(owner, questions, answers, examination_path, journal, config))
    tried = list(map(Tried, probes, before[len(questions) :], after[len(questions) :]))
    merge = read_merge_report(merged_model_path)
    votes = preference(model_votes_path, models.before.sha256, models.after.sha256)
    measures = measure(
        trials,
        origin=_origin(models, judge, bio_path, run_path, config),
        examination=examination,
        probes=measure_probes(tried, owner.facts),
        owner=votes,
        judged_pairs_too=_judged_pairs_too(judge, verdicts_path),
        agreement=_agreement(pairs_account_path),
        update_retained=merge.update_retained if merge else None,
        fidelity=read_record(fidelity_path, Fidelity) if fidelity_path else None,
    )
    evaluation = decide(measures, config)
    write_json(evaluation_path, evaluation)
    write_report(
        report_path,
        evaluation=evaluation,
        trials=trials,
        probed=probe_cards(tried, owner.facts),
        evidence_path=verdicts_path,
        prompts_path=prompts_path,
        training_log_path=adapter_path and adapter_path / TRAINING_LOG,
    )
    say(f"{outcome(evaluation)} ({'; '.join(evaluation.reasons)})")


def _origin(models: Models, judge: JudgeIdentity, bio_path: Path, run_path: Path | None, config: StageConfig) -> Origin:
    return Origin(
        run=run_path.name if run_path else None,
        finished_at=datetime.now(UTC).replace(microsecond=0),
        models=models,
        names=(config.before_name, config.after_name) if config.before_name and config.after_name else None,
        judge=judge,
        bio_sha256=file_sha256(bio_path),
    )


def _model(gguf_path: Path) -> Model:
    name = read_header(gguf_path).values.get("general.name")
    file = "/".join(gguf_path.absolute().parts[-2:])
    return Model(name=name if isinstance(name, str) else "", file=file, sha256=file_sha256(gguf_path))


async def _judge(
    owner: Owner,
    questions: Sequence[Prompt],
    answers: tuple[Sequence[list[Answer]], Sequence[list[Answer]]],
    examination_path: Path | None,
    journal: Journal,
    config: StageConfig,
) -> tuple[JudgeIdentity, Examination, list[Trial]]:
    """Who judged, what it is worth, and a trial a question."""
    async with open_judge(config) as judge:
        journaled = JournaledJudge(judge, journal)
        try:
            examination = await examination_of(journaled, owner, config, examination_path)
            trials = await judge_trials(journaled, owner, questions, *answers, config.judge_in_flight)
        finally:
            await journal.flush()
        return _identity(judge, config.judge), examination, trials


def _identity(judge: Judge, kind: str) -> JudgeIdentity:
    return JudgeIdentity(label=judge.label, kind=kind, name=judge.name, place=judge.place, is_remote=judge.is_remote)


def _agreement(pairs_account_path: Path | None) -> Agreement | None:
    """Of the pairs that were made with the owner's votes; None without votes."""
    account = read_record(pairs_account_path, PairsAccount) if pairs_account_path else None
    return account.owner.agreement if account and account.owner else None


def _judged_pairs_too(judge: JudgeIdentity, verdicts_path: Path | None) -> bool | None:
    """Whether the pairs are this judge's; None where nobody's verdicts on them are at hand."""
    evidence = read_jsonl(verdicts_path, Evidence) if verdicts_path else ()
    names = {verdict.judge for line in evidence for verdict in line.verdicts if verdict.judge}
    return judge.name in names if names else None


if __name__ == "__main__":
    from lpm_kernel.commands.app import main

    main(["run", "evaluate", *sys.argv[1:]])
