"""Answers of both models to the same questions, judged blind, by the owner's bio and by a stranger's: a trial each."""

from collections.abc import Sequence

from lpm_kernel.judges.base import Question
from lpm_kernel.judges.journaled import JournaledJudge
from lpm_kernel.judges.questions import Owner
from lpm_kernel.proof.evaluation import Trial
from lpm_kernel.records import Answer, Prompt, Verdict
from lpm_kernel.serving.concurrency import map_in_order


async def judge_trials(
    judge: JournaledJudge,
    owner: Owner,
    questions: Sequence[Prompt],
    before: Sequence[list[Answer]],
    after: Sequence[list[Answer]],
    in_flight: int,
) -> list[Trial]:
    """In the order of the questions. Raises ServiceError when the judge is down."""

    async def one(asked: tuple[Prompt, list[Answer], list[Answer]]) -> Trial:
        prompt, old, new = asked
        measured = owner.facts.measure(prompt)
        return Trial(
            prompt=prompt,
            before=old,
            after=new,
            verdicts=await _verdicts(judge, prompt, owner.question(prompt), old, new),
            stranger_verdicts=await _verdicts(judge, prompt, owner.strangers_question(prompt), old, new),
            facts=measured.asked,
            facts_before=[measured.told(answer.text) for answer in old],
            facts_after=[measured.told(answer.text) for answer in new],
        )

    asked = zip(questions, before, after, strict=True)
    return [t async for t in map_in_order(one, asked, total=len(questions), width=in_flight, label="verdicts")]


async def _verdicts(
    judge: JournaledJudge, prompt: Prompt, question: Question, before: Sequence[Answer], after: Sequence[Answer]
) -> list[Verdict]:
    """Cut answers are judged too, as they are what the owner would read; equal ones are a tie without asking."""
    return [
        Verdict(prompt_id=prompt.id, first=0, second=1, outcome="tie", reason="the same answer", judge="")
        if old.text == new.text
        else await judge.verdict(prompt.id, question, [old.text, new.text], 0, 1)
        for old, new in zip(before, after, strict=True)
    ]
