"""Chat with an OpenAI-compatible server: many questions in flight, faults retried, refusals told apart from outages."""

import asyncio
import json
import random
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Self

from lpm_kernel.errors import PermissionDeniedError, ServiceError
from lpm_kernel.progress import inline, say
from lpm_kernel.records import Message, without_surrogates
from lpm_kernel.serving.concurrency import together
from lpm_kernel.serving.endpoint import DEATH_NOTICE_S, POLL_S, Endpoint
from lpm_kernel.serving.http import authorization, redacted
from lpm_kernel.urls import on_loopback, shown_url

if TYPE_CHECKING:
    from openai import APIStatusError

FIRST_WAIT_S = 0.5
"""Wait before the second attempt; doubles from there, each time shortened or lengthened by up to half."""
LONGEST_WAIT_S = 60.0
"""A server that asks for more patience than this ends the run; what is journaled stays."""
DRAIN_S = 1.0
"""At its end, a client waits so long for what is under way."""
EXCERPT_CHARS = 300
TOO_MANY = 429
AGAIN = frozenset({408, 409, 425, TOO_MANY})
"""Statuses that ask to try again, besides 5xx."""
CONCESSIONS = {
    "response_format": r"response_format|json_schema|structured|grammar",
    "n": r"\bn\b|n_cmpl|choices|completions? per",
    "max_tokens": r"max_completion_tokens",
    "seed": r"\bseed\b",
    "temperature": r"\btemperature\b",
    "top_p": r"\btop_p\b",
}
"""What an endpoint may not know -> how its refusal names it."""
UNNAMED_SUSPECTS = ("response_format", "n")


class RefusedError(ServiceError):
    """The server works, but does not take this request, such as a prompt longer than its context."""

    def __init__(self, message: str, status: int, body: str) -> None:
        super().__init__(message)
        self.status, self.body = status, body


class _TryAgainError(Exception):
    """A fault that may pass; the server may have said after how long."""

    cure = "see whether the server is up, and start again"

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


class _OverrunError(_TryAgainError):
    """The server takes fewer requests than it is sent."""

    cure = "it is up and takes fewer requests: wait and start again, with a lower --judge-in-flight or --slots"


@dataclass(frozen=True)
class Completion:
    """One choice of a reply."""

    text: str
    finish_reason: str
    """`stop`, `length`, ... as the server says; `unknown` when it says nothing."""


class ChatClient:
    """An async context manager over one connection pool; at most max_in_flight requests are out at a time.

    timeout_s bounds one attempt as a whole, in seconds; attempts bounds the tries of one request.
    """

    def __init__(self, endpoint: Endpoint, *, timeout_s: float, max_in_flight: int, attempts: int = 5) -> None:
        self._endpoint, self._timeout_s, self._attempts = endpoint, timeout_s, attempts
        self._in_flight = asyncio.Semaphore(max_in_flight)
        self._without: frozenset[str] = frozenset()
        self._shown_url = shown_url(endpoint.base_url)
        self._under_way: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        import openai

        from lpm_kernel.serving.bounded import bound

        http = openai.DefaultAsyncHttpxClient(
            trust_env=not on_loopback(self._endpoint.base_url),
            timeout=self._timeout_s,
            follow_redirects=False,
            headers={"Accept-Encoding": "identity"},
            event_hooks={"response": [bound]},
        )
        self._openai = openai.AsyncOpenAI(
            base_url=self._endpoint.base_url,
            api_key="none",
            default_headers={"Authorization": authorization(self._endpoint.api_key) or "Bearer none"},
            max_retries=0,
            http_client=http,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=DRAIN_S)
        for asking in self._under_way:
            asking.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._openai.close()

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        n: int = 1,
        temperature: float,
        top_p: float = 1.0,
        max_tokens: int,
        seed: int | None = None,
        json_schema: dict[str, Any] | None = None,
    ) -> list[Completion]:
        """n completions of one conversation; choice j is seeded with seed + j.

        Endpoints without `n` are asked once and then for the rest at the same time, so that the prompt is in their
        cache. Raises ServiceError (RefusedError where only this request is at fault) and PermissionDeniedError.
        """
        request: dict[str, Any] = {
            "model": self._endpoint.model,
            "messages": [m.model_dump() for m in messages],
            "temperature": temperature,
            "max_tokens": max_tokens,
        }
        request |= {"top_p": top_p} if top_p < 1 else {}
        request |= {"seed": seed} if seed is not None else {}
        request |= {"response_format": _schema_format(json_schema)} if json_schema else {}
        found = (await self._ask(request | ({"n": n} if n > 1 else {})))[:n]
        if len(found) < n:
            self._without |= {"n"}
            rest = [request | ({"seed": seed + j} if seed is not None else {}) for j in range(len(found), n)]
            for more in await together(*(self._ask(single) for single in rest)):
                found += more[:1]
        return found

    async def _ask(self, request: dict[str, Any]) -> list[Completion]:
        """Ask, and when the endpoint refuses a parameter that it may not know, ask without it; remember what helped."""
        without = self._without
        while True:
            try:
                found = await self._insist(_trimmed(request, without))
            except RefusedError as refusal:
                suspect = next((s for s in _suspects(refusal.body) if s in request and s not in without), None)
                if suspect is None:
                    raise
                without |= {suspect}
                continue
            self._remember(without)
            return found

    def _remember(self, without: frozenset[str]) -> None:
        for name in sorted(without - self._without - {"n"}):
            say(f"{self._shown_url} does not know {name}; asking without it")
        self._without |= without

    async def _insist(self, request: dict[str, Any]) -> list[Completion]:
        """One request until it is answered; raises ServiceError after `attempts` faults or when our server is lost.

        A fault by which our own server was started again is none of the request's.
        """
        async with self._in_flight:
            attempt = 0
            while attempt < self._attempts:
                starts = self._endpoint.health().starts
                try:
                    return await self._once(request)
                except _TryAgainError as fault:
                    last = fault
                if await self._came_back(starts):
                    continue
                attempt += 1
                if attempt < self._attempts:
                    await asyncio.sleep(self._wait_s(attempt, last))
        raise ServiceError(
            f"{self._shown_url} gave no answer in {self._attempts} attempts, the last: {last}; "
            f"{last.cure}: what was answered is kept"
        )

    async def _came_back(self, starts: int) -> bool:
        """Wait while our own server is being started again."""
        if self._endpoint.ours:
            await asyncio.sleep(DEATH_NOTICE_S)
        while (back := self._endpoint.came_back(starts)) is None:
            await asyncio.sleep(POLL_S)
        return back

    def _wait_s(self, attempt: int, fault: _TryAgainError) -> float:
        if fault.after_s is not None and fault.after_s > LONGEST_WAIT_S:
            raise ServiceError(
                f"{self._shown_url} asks to wait {fault.after_s:.0f} s ({fault}), and the longest wait is "
                f"{LONGEST_WAIT_S:.0f} s; start again then: what was answered is kept"
            )
        backoff_s: float = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (attempt - 1)) * random.uniform(0.5, 1.5)
        return max(backoff_s, fault.after_s or 0.0)

    async def _once(self, request: dict[str, Any]) -> list[Completion]:
        import openai

        asking = self._begin(request)
        try:
            async with asyncio.timeout(self._timeout_s):
                reply = await asyncio.shield(asking)
            return _completions(redacted(reply.http_response.content, self._endpoint.api_key))
        except openai.APIStatusError as error:
            raise self._translated(error) from None
        except (TimeoutError, openai.APITimeoutError):
            asking.cancel()
            raise _TryAgainError(f"no whole reply within {self._timeout_s:g} s") from None
        except openai.APIError as error:
            cause = error.__cause__ or error
            raise _TryAgainError(self._redacted(f"{type(cause).__name__}: {cause}")) from None

    def _begin(self, request: dict[str, Any]) -> asyncio.Task[Any]:
        """The request as a task that outlives a cancelled asker: cut while it connects, it would leak a socket."""

        def forget(asking: asyncio.Task[Any]) -> None:
            self._under_way.discard(asking)
            _ = asking.cancelled() or asking.exception()  # nobody may be left to look at it

        asking = asyncio.ensure_future(self._openai.chat.completions.with_raw_response.create(**request))
        self._under_way.add(asking)
        asking.add_done_callback(forget)
        return asking

    def _translated(self, error: "APIStatusError") -> Exception:
        """The error to raise for an HTTP status that is no success."""
        status = error.status_code
        if status in (401, 403):
            return PermissionDeniedError(
                f"{self._shown_url} refused the key (HTTP {status}); put the right {self._endpoint.key_name} "
                "into the environment or .env"
            )
        body = error.response.text
        told = self._redacted(f"HTTP {status}: {body}")
        if status in AGAIN or status >= 500:
            kind = _OverrunError if status == TOO_MANY else _TryAgainError
            return kind(told, retry_after_s(error.response.headers.get("retry-after")))
        return RefusedError(f"{self._shown_url} refused the request: {told}", status, body)

    def _redacted(self, text: str) -> str:
        return inline(" ".join(redacted(text.encode(errors="replace"), self._endpoint.api_key).decode().split()))[
            :EXCERPT_CHARS
        ]


def _completions(raw: bytes) -> list[Completion]:
    """The choices of a reply; raises _TryAgainError for anything that is not one."""
    try:
        choices = sorted(json.loads(raw)["choices"], key=lambda choice: choice.get("index", 0))
        found = [Completion(_text(c["message"].get("content")), _reason(c.get("finish_reason"))) for c in choices]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _TryAgainError(f"the reply ({len(raw)} bytes) is no chat completion") from None
    if not found:
        raise _TryAgainError("the reply has no choices")
    return found


def _text(content: object) -> str:
    """A message's text: a string, or a list of parts of which those that are text are joined; else TypeError."""
    if isinstance(content, list):
        content = "".join([part["text"] for part in content if part.get("type", "text") == "text"])
    if not isinstance(content, str | None):
        raise TypeError(f"content is {type(content).__name__}, expected a string or a list of parts")
    return without_surrogates(content or "")


def _reason(told: object) -> str:
    return without_surrogates(told) if isinstance(told, str) and told else "unknown"


def _trimmed(request: dict[str, Any], without: frozenset[str]) -> dict[str, Any]:
    """The request without what the endpoint does not know; max_tokens goes by its newer name."""
    kept = {name: value for name, value in request.items() if name not in without}
    if "max_tokens" in without:
        kept["max_completion_tokens"] = request["max_tokens"]
    return kept


def _suspects(refusal: str) -> Iterator[str]:
    """The parameters that a refusal names; when it names none, those that are most often unknown."""
    named = [name for name, pattern in CONCESSIONS.items() if re.search(pattern, refusal, re.IGNORECASE)]
    yield from named or UNNAMED_SUSPECTS


def _schema_format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": schema}}


def retry_after_s(value: str | None) -> float | None:
    """Seconds until the time that a Retry-After header names, as a number or as a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
