"""Let the SFT model answer every prompt several times, judge the answers by the bio, and write the pairs."""

import sys
from pathlib import Path

if __package__ is None:
    sys.path[0] = str(Path(__file__).resolve().parents[3])
    from lpm_kernel.checkout import enter

    enter()

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from pydantic import Field

from lpm_kernel import judges
from lpm_kernel.errors import DataError, Finding, ServiceError
from lpm_kernel.files import draft_of, file_sha256, key_of, read_jsonl, read_record, write_json
from lpm_kernel.journal import Journal, open_journal, reading_journal
from lpm_kernel.judges import JudgeConfig, open_judge
from lpm_kernel.judges.base import Question
from lpm_kernel.judges.choices import REJECTED, TIED, Words, heard, not_believed, read_words, waiting
from lpm_kernel.judges.confidence import ConfidenceConfig, deciding, weigh
from lpm_kernel.judges.examination import ExamConfig, known_or_examined, refuse_unbelieved
from lpm_kernel.judges.journaled import JournaledJudge
from lpm_kernel.judges.manner import manner_of, signs, vice
from lpm_kernel.judges.pairing import Choice, choose, comparisons, distinct, too_few
from lpm_kernel.judges.questions import question_of
from lpm_kernel.judges.stranger import stranger_bio
from lpm_kernel.L2.dpo.utils import full_row_of, pair_of, write_full, write_pairs
from lpm_kernel.owner.bio import digests, read_bio
from lpm_kernel.owner.facts import Facts
from lpm_kernel.progress import say, tally
from lpm_kernel.proof.agreement import AgreementConfig, agreement_of, refusal, told
from lpm_kernel.records import Answer, Evidence, Examination, OwnersShare, PairsAccount, Prompt, Served, Verdict
from lpm_kernel.serving import connect
from lpm_kernel.serving.client import ChatClient, RefusedError
from lpm_kernel.serving.concurrency import map_in_order
from lpm_kernel.serving.endpoint import Endpoint, ServingConfig
from lpm_kernel.serving.probe import props
from lpm_kernel.serving.sampling import SamplingConfig, known_answers, sample
from lpm_kernel.urls import on_loopback

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
        account, bio = read_record(account_path, PairsAccount), read_bio(bio_path)
        facts = Facts(read_jsonl(items_path, Prompt), bio)
        ours = gguf_path is not None and not has_other_server(config)
        model = file_sha256(gguf_path) if ours and gguf_path else account.served.identity
        again = asyncio.run(_again(config, list(read_jsonl(prompts_path, Prompt)), facts, bio, model, journal))
    now = digests(bio)
    changed = [title for title in now | account.sections if now.get(title) != account.sections.get(title)]
    total, judged = again.total(), again["answers"] + again["verdicts"]
    told = [f"{judged} of {total} prompts are judged again{_named(changed)}"]
    return [*told, *([f"{again['answers']} of them are answered again"] if again["answers"] else [])]


def _named(titles: Sequence[str]) -> str:
    """Sections of the bio, in brackets."""
    named = ", ".join(title or "without a heading" for title in titles)
    return f" (section{'s' if len(titles) > 1 else ''} {named})" if titles else ""


async def _again(
    config: StageConfig, prompts: Sequence[Prompt], facts: Facts, bio: str, model: str, journal: Journal
) -> Counter[str]:
    """How many prompts lack answers, or else verdicts, in the journal; under the empty name those that lack nothing."""
    async with open_judge(config) as judge:
        journaled = JournaledJudge(judge, journal)

        def lacking(prompt: Prompt) -> str:
            answers = [a for a in known_answers(journal, prompt, config, config.answers, model) if a is not None]
            if len(answers) < config.answers:
                return "answers"
            question, texts = question_of(prompt, facts, bio), [answer.text for answer in answers]
            pairs = comparisons(distinct(answers))
            return "" if all(journaled.knows(question, texts, i, j) for i, j in pairs) else "verdicts"

        return Counter(map(lacking, prompts))


@dataclass
class Tally:
    """What came of the prompts so far."""

    prompts: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    signs: Counter[str] = field(default_factory=Counter)
    """Of the judge's manner."""
    answers: Counter[str] = field(default_factory=Counter)
    last_failure: str = ""
    owner: OwnersShare = field(default_factory=OwnersShare)

    def add(self, evidence: Evidence) -> None:
        """Count one prompt."""
        self.prompts += 1
        self.dropped.update([evidence.dropped] if evidence.dropped else [])
        self.verdicts.update(verdict.outcome for verdict in evidence.verdicts)
        self.signs.update(sign for verdict in evidence.verdicts for sign in signs(verdict))
        self.answers.update(answer.finish_reason for answer in evidence.answers)
        failures = [verdict.reason for verdict in evidence.verdicts if verdict.outcome == "failed"]
        self.last_failure = failures[-1] if failures else self.last_failure

    @property
    def pairs(self) -> int:
        """Prompts that gave one."""
        return self.prompts - self.dropped.total()

    @property
    def sentence(self) -> str:
        """prompts = pairs + dropped, exactly."""
        dropped = self.dropped.total()
        return f"pairs: {self.prompts} prompts = {self.pairs} pairs + {dropped} dropped{tally(self.dropped)}"


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
    words = read_words(votes_path, choices_path, {item.id for item in read_jsonl(items_path, Prompt)})
    bio = read_bio(bio_path)
    items = list(read_jsonl(items_path, Prompt))
    facts = Facts(items, bio)
    with (
        connect.connect(gguf_path, config, work_path / "server.log") as endpoint,
        open_journal(work_path / "journal.sqlite") as journal,
    ):
        served = _served(endpoint, gguf_path)
        synthesis = _Synthesis(
            config, prompts_path, items, facts, bio, examination_path, endpoint, served.identity, journal
        )
        asyncio.run(synthesis.write(verdicts_path))
    found = _heard(verdicts_path, words, config)
    say(found.sentence)
    write_json(account_path, _account(found, served, bio, synthesis.examination))
    _refuse_if_worthless(found, config)
    write_pairs(direct_path, (pair_of(p, e) for p, e in _chosen(prompts_path, verdicts_path)))
    chosen = _chosen(prompts_path, verdicts_path)
    write_full(full_path, (full_row_of(p, e, synthesis.instruction_of(p)) for p, e in chosen))


@dataclass
class _Synthesis:
    """Sampling and judging overlap: a prompt is judged as soon as its answers are there."""

    config: StageConfig
    prompts_path: Path
    items: Sequence[Prompt]
    facts: Facts
    bio: str
    examination_path: Path | None
    endpoint: Endpoint
    model: str
    journal: Journal
    instruct: Callable[[Question], str] = field(init=False)
    """Question -> what the judge judges it by, once it is open."""

    examination: Examination | None = None
    """What the judge is worth, once it is known; None where it is believed unexamined."""

    def instruction_of(self, prompt: Prompt) -> str:
        """What the judge judged the prompt by."""
        return self.instruct(question_of(prompt, self.facts, self.bio))

    async def write(self, verdicts_path: Path) -> None:
        """The evidence of every prompt, a line each, as it comes."""
        with verdicts_path.open("w", encoding="utf-8") as file:
            async for evidence in self._evidence():
                file.write(evidence.model_dump_json() + "\n")

    async def _evidence(self) -> AsyncIterator[Evidence]:
        in_flight = max(1, self.endpoint.slots // self.config.answers) + 1
        async with (
            ChatClient(self.endpoint, timeout_s=self.config.answer_timeout_s, max_in_flight=in_flight) as client,
            open_judge(self.config) as judge,
        ):
            self.instruct = judge.instruction
            prompts = read_jsonl(self.prompts_path, Prompt)
            total = sum(1 for _ in read_jsonl(self.prompts_path, Prompt))
            journaled = JournaledJudge(judge, self.journal)
            self.examination = await known_or_examined(
                journaled, self.examination_path, self.items, self.facts, self.bio, self.config
            )
            if self.examination is not None:
                refuse_unbelieved(self.examination, judges.cure(self.config))

            async def one(prompt: Prompt) -> Evidence:
                return await self._one(prompt, client, journaled)

            width = in_flight + self.config.judge_in_flight
            try:
                async for evidence in map_in_order(one, prompts, total=total, width=width, label="prompts"):
                    yield evidence
            finally:
                await self.journal.flush()

    async def _one(self, prompt: Prompt, client: ChatClient, judge: JournaledJudge) -> Evidence:
        config = self.config
        try:
            answers = await sample(client, self.journal, prompt, config, count=config.answers, model=self.model)
        except RefusedError as error:
            say(f"  item {prompt.row} is dropped: {error}")
            return _dropped(prompt, "refused_by_server")
        question = question_of(prompt, self.facts, self.bio)
        return await self._weighed(prompt, question, await _judged(prompt, question, answers, judge), judge)

    async def _weighed(self, prompt: Prompt, question: Question, evidence: Evidence, judge: JournaledJudge) -> Evidence:
        """With the pair's confidence and what it is made of; without the pair where that is too small."""
        if evidence.chosen is None:
            return evidence
        stranger = await self._strangers(prompt, question, evidence, judge) if self.config.ask_stranger else None
        weight = weigh(evidence, self.examination, stranger, self.config)
        weighed = evidence.model_copy(update={"weighed": weight.ingredients})
        if weight.confidence < self.config.min_confidence:
            return weighed.model_copy(update={"chosen": None, "rejected": None, "dropped": "too_uncertain"})
        return weighed.model_copy(update={"confidence": weight.confidence})

    async def _strangers(
        self, prompt: Prompt, question: Question, evidence: Evidence, judge: JournaledJudge
    ) -> Verdict | None:
        """The deciding comparison by a stranger's bio; None where the judge would see the same."""
        own = deciding(evidence)
        contested = question.measure is not None and bool(question.measure.refuted)
        facts, bio = (self._strangers_facts if contested else self.facts), stranger_bio(self.facts.language)
        texts = [answer.text for answer in evidence.answers]
        stranger, pair = question_of(prompt, facts, bio), (texts[own.first], texts[own.second])
        if judge.judge.asked(question, *pair) == judge.judge.asked(stranger, *pair):
            return None
        return await judge.verdict(prompt.id, stranger, texts, own.first, own.second)

    @cached_property
    def _strangers_facts(self) -> Facts:
        """Those that a stranger's bio would confirm."""
        return Facts(self.items, stranger_bio(self.facts.language))


async def _judged(prompt: Prompt, question: Question, answers: Sequence[Answer], judge: JournaledJudge) -> Evidence:
    indices = distinct(answers)
    texts = [answer.text for answer in answers]
    verdicts = [await judge.verdict(prompt.id, question, texts, i, j) for i, j in comparisons(indices)]
    choice = choose(verdicts) if verdicts else too_few(answers)
    evidence = _dropped(prompt, str(choice)).model_copy(update={"answers": tuple(answers), "verdicts": tuple(verdicts)})
    if isinstance(choice, Choice):
        return evidence.model_copy(update={**vars(choice), "dropped": None})
    return evidence


def _dropped(prompt: Prompt, reason: str) -> Evidence:
    return Evidence(
        prompt_id=prompt.id,
        row=prompt.row,
        variant=prompt.variant,
        answers=(),
        verdicts=(),
        chosen=None,
        rejected=None,
        dropped=reason,
    )


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


def _served(endpoint: Endpoint, gguf_path: Path | None) -> Served:
    weights: Literal["same", "other", "unknown"] = "unknown"
    if endpoint.weights_sha256 and gguf_path is not None:
        weights = "same" if endpoint.weights_sha256 == file_sha256(gguf_path) else "other"
    return Served(
        model=endpoint.model,
        engine=endpoint.engine,
        ours=endpoint.ours,
        identity=_identity(endpoint),
        weights=weights,
    )


def _identity(endpoint: Endpoint) -> str:
    """What the answers in the journal belong to: the weights that are served, else what the server tells of itself."""
    if endpoint.weights_sha256:
        return endpoint.weights_sha256
    described = props(endpoint.base_url, endpoint.api_key)
    named = Path(str(described.get("model_path", "")))
    # What lies under that name now need not be what the server holds: it never counts as those weights.
    now_there = file_sha256(named) if on_loopback(endpoint.base_url) and named.is_file() else ""
    return key_of("unknown", endpoint.base_url, endpoint.model, str(named), now_there, described.get("build_info"))


def _account(found: Tally, served: Served, bio: str, examination: Examination | None) -> PairsAccount:
    return PairsAccount(
        prompts=found.prompts,
        pairs=found.pairs,
        dropped=dict(sorted(found.dropped.items())),
        verdicts=dict(sorted(found.verdicts.items())),
        manner=manner_of(found.signs),
        answers=dict(sorted(found.answers.items())),
        served=served,
        sections=digests(bio),
        examination=examination,
        owner=found.owner,
    )


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
