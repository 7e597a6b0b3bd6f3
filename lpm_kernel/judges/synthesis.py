"""A prompt -> its evidence: several answers, a verdict on each two of them, the pair, and what the pair weighs."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from lpm_kernel.judges.base import Question
from lpm_kernel.judges.confidence import ConfidenceConfig, deciding, weigh
from lpm_kernel.judges.journaled import JournaledJudge
from lpm_kernel.judges.pairing import Choice, choose, comparisons, distinct, too_few
from lpm_kernel.judges.questions import Owner, question_of
from lpm_kernel.progress import say
from lpm_kernel.records import Answer, Evidence, Examination, Prompt, Verdict
from lpm_kernel.serving.client import RefusedError


@dataclass(frozen=True)
class Synthesis:
    """All that the evidence of a prompt is made with."""

    owner: Owner
    answers: Callable[[Prompt], Awaitable[list[Answer]]]
    """Raises RefusedError for a prompt that the server refuses."""
    judge: JournaledJudge
    examination: Examination | None
    """Of the judge; None where it is believed unexamined."""
    config: ConfidenceConfig

    async def evidence(self, prompt: Prompt) -> Evidence:
        """Before the owner's word is heard. Raises ServiceError when the model or the judge is down."""
        try:
            answers = await self.answers(prompt)
        except RefusedError as error:
            say(f"  item {prompt.row} is dropped: {error}")
            return _dropped(prompt, "refused_by_server")
        question = self.owner.question(prompt)
        evidence = await self._judged(prompt, question, answers)
        return evidence if evidence.chosen is None else await self._weighed(prompt, question, evidence)

    async def _judged(self, prompt: Prompt, question: Question, answers: Sequence[Answer]) -> Evidence:
        texts = [answer.text for answer in answers]
        pairs = comparisons(distinct(answers))
        verdicts = [await self.judge.verdict(prompt.id, question, texts, i, j) for i, j in pairs]
        choice = choose(verdicts) if verdicts else too_few(answers)
        heard = {"answers": tuple(answers), "verdicts": tuple(verdicts)}
        evidence = _dropped(prompt, str(choice)).model_copy(update=heard)
        if isinstance(choice, Choice):
            return evidence.model_copy(update={**vars(choice), "dropped": None})
        return evidence

    async def _weighed(self, prompt: Prompt, question: Question, evidence: Evidence) -> Evidence:
        """With the pair's confidence and what it is made of; without the pair where that is too small."""
        stranger = await self._strangers(prompt, question, evidence) if self.config.ask_stranger else None
        weight = weigh(evidence, self.examination, stranger, self.config)
        weighed = evidence.model_copy(update={"weighed": weight.ingredients})
        if weight.confidence < self.config.min_confidence:
            return weighed.model_copy(update={"chosen": None, "rejected": None, "dropped": "too_uncertain"})
        return weighed.model_copy(update={"confidence": weight.confidence})

    async def _strangers(self, prompt: Prompt, question: Question, evidence: Evidence) -> Verdict | None:
        """The deciding comparison by a stranger's bio; None where the judge would see the same."""
        own, owner = deciding(evidence), self.owner
        contested = question.measure is not None and bool(question.measure.refuted)
        stranger = question_of(prompt, owner.strangers_facts if contested else owner.facts, owner.strangers_bio)
        texts = [answer.text for answer in evidence.answers]
        judge, pair = self.judge.judge, (texts[own.first], texts[own.second])
        if judge.asked(question, *pair) == judge.asked(stranger, *pair):
            return None
        return await self.judge.verdict(prompt.id, stranger, texts, own.first, own.second)


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
