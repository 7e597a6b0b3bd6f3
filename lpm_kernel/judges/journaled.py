"""Verdicts in both orders, each asked for once."""

from collections.abc import Sequence
from dataclasses import asdict

from lpm_kernel.errors import ServiceError
from lpm_kernel.files import key_of
from lpm_kernel.journal import Journal
from lpm_kernel.judges.base import Judge, Opinion, Question, both_orders, strength_of
from lpm_kernel.records import Verdict
from lpm_kernel.serving.client import RefusedError
from lpm_kernel.serving.concurrency import together

OUTAGES_TOLERATED = 3
"""So many verdicts in a row may fail for want of an answer before the run stops."""
REFUSALS_TOLERATED = 6
"""So many questions may be refused, or answered without a verdict, while none was ever judged, before the run stops."""
CURE = (
    "Answers so far are kept; choose another --judge-model or --judge-base-url, or --judge reference, and start again"
)


class JournaledJudge:
    """A judge with its journal: a verdict given once is never asked for again; one that failed is, in a later run."""

    def __init__(self, judge: Judge, journal: Journal) -> None:
        self.judge, self._journal = judge, journal
        self._outages = 0
        self._refused: set[Question] = set()
        self._unread: set[Question] = set()
        self._has_judged = False

    async def verdict(self, prompt_id: str, question: Question, answers: Sequence[str], i: int, j: int) -> Verdict:
        """Both orders of answers i and j. Raises ServiceError when the judge is down."""
        forward, backward = await together(
            self._opinion(question, answers[i], answers[j]), self._opinion(question, answers[j], answers[i])
        )
        outcome, reason, orders = both_orders(forward, backward)
        return Verdict(
            prompt_id=prompt_id,
            first=i,
            second=j,
            outcome=outcome,
            reason=reason,
            judge=self.judge.name,
            orders=orders,
            scores=forward.scores,
            strength=strength_of(forward, backward) if outcome in ("first", "second") else None,
            rests_on=forward.rests_on,
        )

    def knows(self, question: Question, answers: Sequence[str], i: int, j: int) -> bool:
        """Whether nothing would be asked of the judge for this verdict."""
        orders = ((i, j), (j, i))
        return all(self._journal.get(self._key(question, answers[a], answers[b])) is not None for a, b in orders)

    def _key(self, question: Question, first: str, second: str) -> str:
        return key_of("opinion", self.judge.name, self.judge.asked(question, first, second), first, second)

    async def _opinion(self, question: Question, first: str, second: str) -> Opinion:
        key = self._key(question, first, second)
        known = self._journal.get(key)
        opinion = Opinion(**known) if known is not None else await self._ask(question, first, second)
        if opinion.outcome != "failed":
            self._has_judged = True
            if known is None:
                await self._journal.put(key, asdict(opinion))
        return opinion

    async def _ask(self, question: Question, first: str, second: str) -> Opinion:
        """Ask the judge; raises ServiceError when it seems to be down, or to refuse whatever it is asked."""
        try:
            opinion = await self.judge.compare(question, first, second)
        except RefusedError as error:
            self._refused.add(question)
            if len(self._refused) >= REFUSALS_TOLERATED and not self._has_judged:
                raise ServiceError(f"the judge refuses every question: {error}. {CURE}") from error
            return Opinion("failed", f"the judge refused: {error}")
        except ServiceError as error:
            self._outages += 1
            if self._outages >= OUTAGES_TOLERATED:
                raise ServiceError(f"the judge is down: {error}. Verdicts so far are kept; start again") from error
            return Opinion("failed", f"no answer: {error}")
        self._outages = 0
        if opinion.outcome == "failed":
            self._unread.add(question)
            if len(self._unread) >= REFUSALS_TOLERATED and not self._has_judged:
                told = f"no reply of the judge to {REFUSALS_TOLERATED} questions is a verdict: {opinion.reason}"
                raise ServiceError(f"{told}. {CURE}")
        return opinion
