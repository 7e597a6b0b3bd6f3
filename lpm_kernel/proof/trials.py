"""Answers of both models to the same questions, judged blind, by the owner's bio and by a stranger's: a trial each."""

from collections.abc import Sequence

from lpm_kernel.judges.journaled import JournaledJudge
from lpm_kernel.judges.questions import question_of
from lpm_kernel.judges.stranger import stranger_bio
from lpm_kernel.owner.facts import Facts
from lpm_kernel.proof.evaluation import Trial
from lpm_kernel.records import Answer, Prompt, Verdict
from lpm_kernel.serving.concurrency import map_in_order


class Owner:
    """By what answers are judged: the owner's items and bio, and as control the same items with a stranger's bio."""

    def __init__(self, items: Sequence[Prompt], bio: str) -> None:
        self.items, self.bio, self.facts = items, bio, Facts(items, bio)
        self.strangers_bio = stranger_bio(self.facts.language)
        self.strangers_facts = Facts(items, self.strangers_bio)


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
            verdicts=await _verdicts(judge, prompt, owner.facts, owner.bio, old, new),
            stranger_verdicts=await _verdicts(judge, prompt, owner.strangers_facts, owner.strangers_bio, old, new),
            facts=measured.asked,
            facts_before=[measured.told(answer.text) for answer in old],
            facts_after=[measured.told(answer.text) for answer in new],
        )

    asked = zip(questions, before, after, strict=True)
    return [t async for t in map_in_order(one, asked, total=len(questions), width=in_flight, label="verdicts")]


async def _verdicts(
    judge: JournaledJudge, prompt: Prompt, facts: Facts, bio: str, before: Sequence[Answer], after: Sequence[Answer]
) -> list[Verdict]:
    """Cut answers are judged too, as they are what the owner would read; equal ones are a tie without asking."""
    question = question_of(prompt, facts, bio)
    return [
        Verdict(prompt_id=prompt.id, first=0, second=1, outcome="tie", reason="the same answer", judge="")
        if old.text == new.text
        else await judge.verdict(prompt.id, question, [old.text, new.text], 0, 1)
        for old, new in zip(before, after, strict=True)
    ]
