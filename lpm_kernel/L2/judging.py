"""Verdicts in both orders, each asked for once: dpo_data and evaluate_model both judge here."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from lpm_kernel.config import shown_url
from lpm_kernel.errors import PermissionDeniedError, ServiceError
from lpm_kernel.hashing import key_of
from lpm_kernel.journal import Journal
from lpm_kernel.judges.base import Judge, JudgeConfig, Opinion, Question, both_orders
from lpm_kernel.judges.pairwise import PairwiseJudge
from lpm_kernel.judges.reference import ReferenceJudge
from lpm_kernel.L2.dpo import utils
from lpm_kernel.progress import say
from lpm_kernel.records import Message, Verdict
from lpm_kernel.serving.client import ChatClient, RefusedError
from lpm_kernel.serving.endpoint import Endpoint
from lpm_kernel.serving.http import host_of, on_loopback

OUTAGES_TOLERATED = 3
"""So many verdicts in a row may fail for want of an answer before the run stops."""
REFUSALS_TOLERATED = 6
"""So many questions may be refused, while none was ever judged, before the run stops."""


class Bench:
    """A judge with its journal: a verdict given once is never asked for again; one that failed is, in a later run."""

    def __init__(self, judge: Judge, journal: Journal) -> None:
        self._judge, self._journal = judge, journal
        self._outages = 0
        self._refused: set[Question] = set()
        self._has_judged = False

    async def verdict(self, prompt_id: str, question: Question, answers: Sequence[str], i: int, j: int) -> Verdict:
        """Both orders of answers i and j. Raises ServiceError when the judge is down."""
        forward, backward = await asyncio.gather(
            self._opinion(question, answers[i], answers[j]), self._opinion(question, answers[j], answers[i])
        )
        outcome, reason, orders = both_orders(forward, backward)
        return Verdict(
            prompt_id=prompt_id,
            first=i,
            second=j,
            outcome=outcome,
            reason=reason,
            judge=self._judge.name,
            orders=orders,
        )

    async def _opinion(self, question: Question, first: str, second: str) -> Opinion:
        key = key_of("opinion", self._judge.name, question.__dict__, first, second)
        known = self._journal.get(key)
        opinion = Opinion(**known) if known is not None else await self._ask(question, first, second)
        if opinion.outcome != "failed":
            self._has_judged = True
            if known is None:
                await self._journal.put(key, {"outcome": opinion.outcome, "reason": opinion.reason})
        return opinion

    async def _ask(self, question: Question, first: str, second: str) -> Opinion:
        """Ask the judge; raises ServiceError when it seems to be down, or to refuse whatever it is asked."""
        try:
            opinion = await self._judge.compare(question, first, second)
        except RefusedError as error:
            self._refused.add(question)
            if len(self._refused) >= REFUSALS_TOLERATED and not self._has_judged:
                raise ServiceError(
                    f"the judge refuses every question: {error}. Answers so far are kept; choose another "
                    "--judge-model or --judge-base-url, or --judge reference, and start again"
                ) from error
            return Opinion("failed", f"the judge refused: {error}")
        except ServiceError as error:
            self._outages += 1
            if self._outages >= OUTAGES_TOLERATED:
                raise ServiceError(f"the judge is down: {error}. Verdicts so far are kept; start again") from error
            return Opinion("failed", f"no answer: {error}")
        self._outages = 0
        return opinion


@asynccontextmanager
async def open_judge(config: JudgeConfig) -> AsyncIterator[Judge]:
    """The judge that the settings name; raises PermissionDeniedError when it needs a key and there is none."""
    if config.judge == "reference":
        say("judge: the embedded reference judge (chrF against the SFT target, and the bio's facts); nothing leaves")
        yield ReferenceJudge(config.tie_margin)
        return
    endpoint = judge_endpoint(config)
    near = on_loopback(endpoint.base_url)
    leaving = "nothing leaves this machine" if near else "questions, answers and the bio go there"
    say(f"judge: {config.judge_model} at {host_of(endpoint.base_url)}; {leaving}")
    async with ChatClient(endpoint, timeout_s=config.judge_timeout_s, max_in_flight=config.judge_in_flight) as client:

        async def ask(messages: Sequence[Message], schema: dict[str, Any]) -> tuple[str, str]:
            replies = await client.chat(
                messages, temperature=0.0, max_tokens=config.judge_max_tokens, json_schema=schema
            )
            return replies[0].text, replies[0].finish_reason

        place = place_of(endpoint.base_url)
        yield PairwiseJudge(ask, f"{config.judge_model}@{place}, {config.judge_max_tokens} tokens")


def place_of(base_url: str) -> str:
    """Host, port and path of an endpoint: which judge it is, without a password."""
    place = shown_url(base_url).split("://", 1)[-1]
    return re.split(r"[?#]", place)[0].rstrip("/")


def judge_endpoint(config: JudgeConfig) -> Endpoint:
    """Where the judge is: settings, then the environment (and .env), then dpo/utils.py."""
    base_url = config.judge_base_url or os.environ.get("OPENAI_BASE_URL", "") or utils.OPENAI_BASE_URL
    key = os.environ.get("OPENAI_API_KEY", "") or utils.OPENAI_API_KEY
    if utils.OPENAI_API_KEY:
        say("warning: OPENAI_API_KEY stands in lpm_kernel/L2/dpo/utils.py, where a commit can leak it; use .env")
    if not key and not on_loopback(base_url):
        raise PermissionDeniedError(
            "the judge needs a key: put OPENAI_API_KEY=... into .env (and OPENAI_BASE_URL=... for another endpoint), "
            "or judge without network: --judge reference"
        )
    return Endpoint(
        base_url=base_url or "https://api.openai.com/v1",
        api_key=key or "none",
        model=config.judge_model,
        slots=config.judge_in_flight,
        engine="judge",
        ours=False,
    )
