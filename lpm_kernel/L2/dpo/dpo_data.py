"""Let the SFT model answer every prompt several times, judge the answers by the bio, and write the pairs."""

import sys
from pathlib import Path

if __package__ is None:
    sys.path[0] = str(Path(__file__).resolve().parents[3])
    from lpm_kernel.checkout import enter

    enter()

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pydantic import Field

from lpm_kernel import judges
from lpm_kernel.errors import DataError, Finding, ServiceError
from lpm_kernel.files import draft_of, file_sha256, read_jsonl, read_record, write_json
from lpm_kernel.journal import Journal, open_journal, reading_journal
from lpm_kernel.judges import JudgeConfig, open_judge
from lpm_kernel.judges.base import Judge
from lpm_kernel.judges.choices import REJECTED, TIED, Words, heard, not_believed, read_words, waiting
from lpm_kernel.judges.confidence import ConfidenceConfig
from lpm_kernel.judges.examination import ExamConfig, examination_of, refuse_unbelieved
from lpm_kernel.judges.journaled import JournaledJudge
from lpm_kernel.judges.manner import manner_of, vice
from lpm_kernel.judges.pairing import comparisons, distinct
from lpm_kernel.judges.questions import Owner
from lpm_kernel.judges.synthesis import Synthesis
from lpm_kernel.judges.tally import Tally
from lpm_kernel.L2.dpo.utils import full_row_of, pair_of, write_full, write_pairs
from lpm_kernel.owner.bio import digests, read_bio
from lpm_kernel.progress import say, tally
from lpm_kernel.proof.agreement import AgreementConfig, agreement_of, refusal, told
from lpm_kernel.records import Evidence, Examination, OwnersShare, PairsAccount, Prompt
from lpm_kernel.serving import connect
from lpm_kernel.serving.asking import asking
from lpm_kernel.serving.concurrency import map_in_order
from lpm_kernel.serving.endpoint import Endpoint, ServingConfig
from lpm_kernel.serving.sampling import SamplingConfig, known_answers, knows_all
from lpm_kernel.serving.served import served_by

ENOUGH_COMPARISONS = 10
"""Of fewer, nothing is said about the judge while there are pairs."""


class StageConfig(ServingConfig, SamplingConfig, JudgeConfig, ExamConfig, ConfidenceConfig, AgreementConfig):
    """Sampling, serving, judging, and how far the owner's votes decide."""

    answers: int = Field(3, ge=2, le=16, description="Answers to each prompt.")


def preflight(config: StageConfig) -> list[Finding]:
    """Whether a server and the judge can be asked."""
    return [*connect.preflight(config), judges.preflight(config)]


def has_other_server(config: StageConfig) -> bool:
    """Whether somebody else's server stands in for the GGUF."""
    return connect.has_other_server(config)


def examines_itself(_: StageConfig) -> bool:
    """Whether the judge is examined here, where no examination is at hand: always."""
    return True


def forecast(
    config: StageConfig,
    *,
    prompts_path: Path,
    items_path: Path,
    bio_path: Path,
    gguf_path: Path | None = None,
    account_path: Path,
    work_path: Path,
) -> list[str]:
    """What a run would ask again of model and judge, from the journal of the runs before; nobody is asked for it."""
    with reading_journal(work_path / "journal.sqlite") as journal:
        if journal is None:
            return []
        account = read_record(account_path, PairsAccount)
        owner = Owner(list(read_jsonl(items_path, Prompt)), read_bio(bio_path))
        model = _own_weights(config, gguf_path) or account.served.identity
        again = asyncio.run(_again(config, list(read_jsonl(prompts_path, Prompt)), owner, model, journal))
    now = digests(owner.bio)
    changed = [title for title in now | account.sections if now.get(title) != account.sections.get(title)]
    total, judged = again.total(), again["answers"] + again["verdicts"]
    told = [f"{judged} of {total} prompts are judged again{_named(changed)}"]
    return [*told, *([f"{again['answers']} of them are answered again"] if again["answers"] else [])]


def _named(titles: Sequence[str]) -> str:
    """Sections of the bio, in brackets."""
    named = ", ".join(title or "without a heading" for title in titles)
    return f" (section{'s' if len(titles) > 1 else ''} {named})" if titles else ""


async def _again(
    config: StageConfig, prompts: Sequence[Prompt], owner: Owner, model: str, journal: Journal
) -> Counter[str]:
    """How many prompts lack answers, or else verdicts, in the journal; under the empty name those that lack nothing."""
    async with open_judge(config) as judge:
        journaled = JournaledJudge(judge, journal)

        def lacking(prompt: Prompt) -> str:
            answers = [a for a in known_answers(journal, prompt, config, config.answers, model) if a is not None]
            if len(answers) < config.answers:
                return "answers"
            question, texts = owner.question(prompt), [answer.text for answer in answers]
            pairs = comparisons(distinct(answers))
            return "" if all(journaled.knows(question, texts, i, j) for i, j in pairs) else "verdicts"

        return Counter(map(lacking, prompts))


def run(
    config: StageConfig,
    *,
    prompts_path: Path,
    items_path: Path,
    bio_path: Path,
    examination_path: Path | None,
    gguf_path: Path | None,
    full_path: Path,
    direct_path: Path,
    verdicts_path: Path,
    account_path: Path,
    work_path: Path,
    votes_path: Path | None = None,
    choices_path: Path | None = None,
) -> None:
    """Raises ServiceError when the model or the judge is down, DataError when no pair came out; the journal stays.

    The account is written before no pair is an error. The owner's votes and choices stand above the judge's verdicts;
    DataError, before anything is asked, when they are another owner's.
    """
    items = list(read_jsonl(items_path, Prompt))
    words = read_words(votes_path, choices_path, {item.id for item in items})
    owner = Owner(items, read_bio(bio_path))
    with (
        open_journal(work_path / "journal.sqlite") as journal,
        _server(config, gguf_path, prompts_path, journal, work_path / "server.log") as endpoint,
    ):
        served = served_by(endpoint, gguf_path)
        made = _synthesise(
            config, owner, prompts_path, examination_path, endpoint, served.identity, journal, verdicts_path
        )
        judge, examination = asyncio.run(made)
    found = _heard(verdicts_path, words, config)
    say(found.sentence)
    write_json(account_path, found.account(served, digests(owner.bio), examination))
    _refuse_if_worthless(found, config)
    write_pairs(direct_path, (pair_of(p, e) for p, e in _chosen(prompts_path, verdicts_path)))
    chosen = _chosen(prompts_path, verdicts_path)
    write_full(full_path, (full_row_of(p, e, judge.instruction(owner.question(p))) for p, e in chosen))


@contextmanager
def _server(
    config: StageConfig, gguf_path: Path | None, prompts_path: Path, journal: Journal, log_path: Path
) -> Iterator[Endpoint | None]:
    """Who answers; nobody has to where the journal holds every answer of the GGUF that we would serve."""
    weights = _own_weights(config, gguf_path)
    prompts = read_jsonl(prompts_path, Prompt)
    if weights and knows_all(journal, prompts, config, count=config.answers, model=weights):
        yield None
        return
    with connect.connect(gguf_path, config, log_path) as endpoint:
        yield endpoint


def _own_weights(config: StageConfig, gguf_path: Path | None) -> str:
    """SHA-256 of the GGUF where a server of our own would serve it, else empty."""
    return file_sha256(gguf_path) if gguf_path is not None and not has_other_server(config) else ""


async def _synthesise(
    config: StageConfig,
    owner: Owner,
    prompts_path: Path,
    examination_path: Path | None,
    endpoint: Endpoint | None,
    model: str,
    journal: Journal,
    verdicts_path: Path,
) -> tuple[Judge, Examination | None]:
    """Write the evidence of every prompt, a line each, as it comes; sampling and judging overlap.

    Returns who judged, and what that judge is worth: None where it is believed unexamined.
    """
    async with (
        asking(endpoint, journal, config, count=config.answers, model=model) as asked,
        open_judge(config) as judge,
    ):
        journaled = JournaledJudge(judge, journal)
        examination = None
        if examination_path is not None or not config.accept_judge:
            examination = await examination_of(journaled, owner, config, examination_path)
            refuse_unbelieved(examination, judges.cure(config))
        synthesis = Synthesis(owner, asked.answers, journaled, examination, config)
        prompts, total = read_jsonl(prompts_path, Prompt), sum(1 for _ in read_jsonl(prompts_path, Prompt))
        width = asked.width + config.judge_in_flight
        try:
            with verdicts_path.open("w", encoding="utf-8") as file:
                async for made in map_in_order(synthesis.evidence, prompts, total=total, width=width, label="prompts"):
                    file.write(made.model_dump_json() + "\n")
        finally:
            await journal.flush()
    return judge, examination


def _heard(verdicts_path: Path, words: Words, config: StageConfig) -> Tally:
    """Write the owner's word beside the judge's, wherever one applies, and count what came of every prompt."""

    def judged() -> Iterator[Evidence]:
        return read_jsonl(verdicts_path, Evidence)

    agreed = agreement_of(judged(), words, config) if words.votes else None
    believed = agreed is None or agreed.believed is not False or config.accept_judge_pairs
    found, said = Tally(), Counter[str]()
    draft = draft_of(verdicts_path)
    with draft.open("w", encoding="utf-8") as file:
        for evidence in (heard(e, words) if believed else not_believed(heard(e, words)) for e in judged()):
            file.write(evidence.model_dump_json() + "\n")
            found.add(evidence)
            said.update([_said(evidence)] if evidence.word else [])
    answers = {e.prompt_id: e.answers for e in judged() if e.prompt_id in words.standing}
    idle = Counter(waiting(words, answers).values())
    draft.replace(verdicts_path)
    found.owner = OwnersShare(**said, no_longer_apply=dict(idle), damaged=words.damaged, agreement=agreed)
    if words.standing:
        say(f"your word: {said.total()} prompts{tally(said)}; {idle.total()} no longer apply{tally(idle)}")
    if agreed and agreed.votes:
        say(f"  {told(agreed, config)}" if believed else f"warning: {refusal(agreed, config)}")
    return found


def _said(evidence: Evidence) -> str:
    """The field of OwnersShare that the prompt counts in."""
    fields = {"flip": "flipped", "reject": "rejected", "edit": "edited", "accept": "accepted"}
    assert evidence.word is not None
    return fields.get(evidence.word.kind, "gold" if evidence.dropped is None else "tied")


def _chosen(prompts_path: Path, verdicts_path: Path) -> Iterator[tuple[Prompt, Evidence]]:
    """The prompts that gave a pair, with their evidence; both files have one line a prompt, in one order."""
    prompts, evidence = read_jsonl(prompts_path, Prompt), read_jsonl(verdicts_path, Evidence)
    return ((p, e) for p, e in zip(prompts, evidence, strict=True) if e.chosen is not None)


def _refuse_if_worthless(found: Tally, config: StageConfig) -> None:
    failed, all_verdicts = found.verdicts["failed"], found.verdicts.total()
    if failed > config.judge_failed_share * all_verdicts:
        raise ServiceError(
            f"{failed} of {all_verdicts} verdicts failed (allowed: {config.judge_failed_share:.0%}); the last: "
            f"{found.last_failure}. No pairs are written. {judges.cure(config)}"
        )
    manner = manner_of(found.signs)
    fault = vice(manner, judges.cure(config))
    agreed = found.owner.agreement
    if not found.pairs and agreed and agreed.believed is False and not config.accept_judge_pairs:
        raise DataError(f"no pair is left ({found.sentence}): {refusal(agreed, config)}")
    if not found.pairs:
        raise DataError(f"no prompt gave a pair ({found.sentence}): {_why_no_pair(found, fault, config)}")
    if fault and manner.comparisons >= ENOUGH_COMPARISONS:
        say(f"warning: {fault}")


def _why_no_pair(found: Tally, fault: str | None, config: StageConfig) -> str:
    """What kept most prompts from a judge's verdict, or else what is wrong with the judge, with the next move."""
    faults = {
        "identical_answers": f"the model says the same each time. Raise --temperature (now {config.temperature:g})",
        "cut_or_empty_answers": f"the answers are cut or empty. Raise --max-tokens (now {config.max_tokens})",
        TIED: "your votes say that neither answer is better. Vote on more (lpm blind), or take back: lpm pairs undo",
        REJECTED: "you rejected their pairs. See them: lpm pairs list --mine; take it back: lpm pairs undo",
        "too_uncertain": "the judge is not sure enough of its verdicts (see examination.json). Take a "
        f"better judge, or lower --min-confidence (now {config.min_confidence:g})",
        "refused_by_server": "the server refuses the prompts. Serve the model with a larger context",
    }
    most = next(iter(found.dropped.most_common(1)), ("", 0))[0]
    return faults.get(most) or fault or "Raise --temperature or --answers for more different answers"


if __name__ == "__main__":
    from lpm_kernel.commands.app import main

    main(["run", "dpo-data", *sys.argv[1:]])
