"""The pairwise judge: its question, its reply's grammar, and the defence against answers that speak to it.

It is asked in the owner's language, by the rubric of the question's task (`rubrics/`). The two answers stand between
markers made of a random word that no answer can know; nothing between markers is an instruction. The reply is one JSON
object; endpoints without structured output are read tolerantly, and what cannot be read without doubt is `failed`.
"""

import json
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr

from lpm_kernel.config import ENVIRONMENT, BaseUrl, secret
from lpm_kernel.errors import Finding, PermissionDeniedError
from lpm_kernel.judges.base import CLEAR, SLIGHT, JudgeKind, JudgingSettings, Opinion, Question
from lpm_kernel.judges.rubric import instruction
from lpm_kernel.judges.spellings import SENTENCE_ENDS, grammar, plain
from lpm_kernel.owner.bio import sections
from lpm_kernel.progress import say
from lpm_kernel.records import Message, Outcome, without_surrogates
from lpm_kernel.serving.client import ChatClient
from lpm_kernel.serving.endpoint import Endpoint
from lpm_kernel.urls import host_of, on_loopback, shown_url

OPENAI = "https://api.openai.com/v1"
TEMPLATE_VERSION = 2
ASKED = 3
"""An unreadable reply is asked again, this many times in all."""

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "detailed_analysis": {"type": "string"},
        "rests_on": {"type": "string"},
        "comparison": {"type": "string", "enum": ["first win", "tie", "second win"]},
        "strength": {"type": "string", "enum": ["clear", "slight"]},
    },
    "required": ["detailed_analysis", "rests_on", "comparison", "strength"],
    "additionalProperties": False,
}

STRENGTHS = {"clear": CLEAR, "slight": SLIGHT}
REFERENCE = "reference"

Ask = Callable[[Sequence[Message], dict[str, Any]], Awaitable[tuple[str, str]]]
"""Messages and schema -> the reply's text and its finish reason."""


class PairwiseSettings(JudgingSettings):
    """The language model that judges."""

    operational = frozenset({"judge_timeout_s"})

    judge_model: str = Field("gpt-4o", description="Judge openai: the model that the endpoint is asked for.")
    judge_base_url: Annotated[str, BaseUrl(key="judge_api_key")] = Field(
        "",
        description="Judge openai: its endpoint; empty: OPENAI_BASE_URL, else api.openai.com.",
        json_schema_extra={ENVIRONMENT: "OPENAI_BASE_URL"},
    )
    judge_timeout_s: float = Field(120, gt=0, description="Judge openai: longest wait for one reply, in seconds.")
    judge_max_tokens: int = Field(1024, ge=32, description="Judge openai: longest reply, in tokens.")
    judge_api_key: SecretStr = secret("OPENAI_API_KEY", "Judge openai: the key of its endpoint.")


@asynccontextmanager
async def open_pairwise(config: PairwiseSettings) -> AsyncIterator["PairwiseJudge"]:
    """The endpoint as a judge; raises PermissionDeniedError when it needs a key and there is none."""
    preflight(config).refuse()
    base_url = config.judge_base_url or OPENAI
    leaving = "nothing leaves this machine" if on_loopback(base_url) else "questions, answers and the bio go there"
    say(f"judge: {config.judge_model} at {host_of(base_url)}; {leaving}")
    endpoint = Endpoint(
        base_url=base_url, api_key=config.judge_api_key, model=config.judge_model, slots=1, engine="judge", ours=False
    )
    async with ChatClient(endpoint, timeout_s=config.judge_timeout_s, max_in_flight=config.judge_in_flight) as client:

        async def ask(messages: Sequence[Message], schema: dict[str, Any]) -> tuple[str, str]:
            replies = await client.chat(
                messages, temperature=0.0, max_tokens=config.judge_max_tokens, json_schema=schema
            )
            return replies[0].text, replies[0].finish_reason

        place, is_remote = place_of(base_url), not on_loopback(base_url)
        yield PairwiseJudge(ask, config.judge_model, place, is_remote, f", {config.judge_max_tokens} tokens")


def preflight(config: PairwiseSettings) -> Finding:
    """Whether there is a key, or an endpoint on this machine, which may need none."""
    key = config.judge_api_key.get_secret_value()
    place = place_of(config.judge_base_url or OPENAI)
    return Finding(
        "judge",
        f"{config.judge_model} at {place}, key {'set' if key else 'not set'}",
        fine=bool(key) or on_loopback(config.judge_base_url),
        cure="put OPENAI_API_KEY=... into .env (and OPENAI_BASE_URL=... for another endpoint), or judge without "
        'network: --judge reference (judge = "reference" under [common] in configs/lpm.toml)',
        blocks=PermissionDeniedError,
    )


def place_of(base_url: str) -> str:
    """Host, port and path of an endpoint: which judge it is, without a password."""
    place = shown_url(base_url).split("://", 1)[-1]
    return re.split(r"[?#]", place)[0].rstrip("/")


HOLDERS = frozenset({"data", "json", "output", "result", "response", "answer", "reply", "evaluation", "arguments"})
"""Keys under which an object may hold the verdict's object, beside the labels of a verdict."""
GRADES = frozenset({"strength", "rests_on"})
"""Keys that say how clear a verdict is and what it rests on, never which it is."""
LOSERS = frozenset({"loser", "worse", "worst", "rejected", "worseanswer", "worseresponse"})
DEEPEST_OBJECT = 8
STRING = re.compile(r"""'([^'\\]*+(?:\\.[^'\\]*+)*+)(?:'|\Z)|"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z)""", re.DOTALL)
"""A string in either quotes; one that nothing closes runs to the end, so that each character is read once."""
ESCAPED = re.compile(r"""\\.|\"""", re.DOTALL)
FENCE = re.compile(r"(?:`{3,}|~{3,})\w*\Z|[-=]{3,}\Z")
THOUGHT, THOUGHT_END = "<think>", "</think>"
LONGEST_REPLY_CHARS = 100_000
LONGEST_VERDICT_CHARS = 20_000
"""Without the thoughts before it."""


class PairwiseJudge:
    """Any OpenAI-compatible endpoint as a judge."""

    def __init__(self, ask: Ask, model: str, place: str, is_remote: bool, bounds: str = "") -> None:
        self._ask, self.label, self.place, self.is_remote = ask, model, place, is_remote
        self.name = f"pairwise:v{TEMPLATE_VERSION}:{model}@{place}{bounds}"

    def instruction(self, question: Question) -> str:
        """The system prompt."""
        return instruction(question.language, question.task)

    def asked(self, question: Question, first: str, second: str) -> Mapping[str, object]:  # noqa: ARG002
        """What it is told besides the answers."""
        return {"instruction": self.instruction(question), **_material(question)}

    async def compare(self, question: Question, first: str, second: str) -> Opinion:
        """Ask until a reply can be read, at most ASKED times."""
        opinion = Opinion("failed", "not asked")
        for _ in range(ASKED):
            text, finish_reason = await self._ask(messages(question, first, second), SCHEMA)
            opinion = parse(text, finish_reason)
            if opinion.outcome != "failed":
                return replace(opinion, rests_on=_ground(opinion.rests_on, question))
        return opinion


def messages(question: Question, first: str, second: str) -> tuple[Message, Message]:
    """What the judge is asked: static text first, so that a prefix cache can hold it."""
    marker = f"MATERIAL-{secrets.token_hex(8)}"
    parts = {**_material(question), "first answer": first, "second answer": second}
    material = "\n\n".join(f"<{marker} {name}>\n{text}\n</{marker} {name}>" for name, text in parts.items())
    system = instruction(question.language, question.task)
    return Message(role="system", content=system), Message(role="user", content=material)


def _material(question: Question) -> dict[str, str]:
    return {"bio": question.bio, "question": question.question, REFERENCE: question.target}


def _ground(named: str, question: Question) -> str:
    """What a verdict rests on, in our words: a section that was shown, or the reference's note; empty for all else."""
    titles = {plain(section.title): section.title for section in sections(question.bio) if plain(section.title)}
    if plain(named) == REFERENCE:
        return ", ".join(f"note {note}" for note in question.notes) or REFERENCE
    return titles.get(plain(named), "")


def parse(text: str, finish_reason: str = "stop") -> Opinion:
    """A verdict, or `failed` with the reason. Swapped, contradictory or doubtful replies are `failed`.

    The reply must be accounted for as a whole: one object or one line tells the verdict, nothing but courtesies comes
    after it, and nothing before it quotes, refuses or tells another one.
    """
    if finish_reason in ("length", "content_filter"):
        return Opinion("failed", "the judge's reply was cut (--judge-max-tokens)")
    if len(text) > LONGEST_REPLY_CHARS:
        return Opinion("failed", f"the judge's reply has {len(text)} characters")
    text = without_surrogates(text).strip()
    if text.startswith(THOUGHT) or (THOUGHT not in text and text.count(THOUGHT_END) == 1):
        text = text.partition(THOUGHT_END)[2]
        if not text:
            return Opinion("failed", "the judge's reply ends within a thought")
    if THOUGHT in text or THOUGHT_END in text:
        return Opinion("failed", "the judge's reply has thoughts within thoughts")
    if len(text) > LONGEST_VERDICT_CHARS:
        return Opinion("failed", f"the judge's verdict has {len(text)} characters")
    return _from_object(text) if "{" in text or "}" in text else _from_prose(text)


def _from_object(text: str) -> Opinion:
    """Between the first brace and the last stands one object, and it tells the verdict."""
    begin, end = text.find("{"), text.rfind("}") + 1
    found = _object(text[begin:end])
    leaves = list(_leaves(found))
    told = [number for number, leaf in enumerate(leaves) if leaf.role == "verdict"]
    outcomes = {_outcome(leaves[number].value) for number in told}
    outcome = outcomes.pop() if len(outcomes) == 1 else None
    if outcome is None or any(leaf.role == "quoted" for leaf in leaves):
        spelt = [leaves[number].value for number in told][-1:]
        said = _excerpt(*spelt) or _excerpt(text)
        return Opinion("failed", f"the judge's comparison is unknown: {said!r} (expected first win, second win or tie)")
    remarks = [leaf.value if leaf.role == "remark" and isinstance(leaf.value, str) else "" for leaf in leaves]
    if any(_outcome(remark) not in (None, outcome) for remark in remarks) or any(
        map(grammar().takes_back, remarks[told[0] :])
    ):
        return Opinion("failed", f"the judge takes its verdict back: {_excerpt(text)!r}")
    if not (_leads(text[:begin], outcome) and _closes(text[end:])):
        return Opinion("failed", f"the judge says more than its verdict: {_excerpt(text)!r}")
    strength = None if outcome == "tie" else STRENGTHS.get(_graded(found, "strength"))
    reason = without_surrogates(str(found.get("detailed_analysis", "")))[:2000]
    return Opinion(outcome, reason, strength=strength, rests_on=_graded(found, "rests_on"))


def _graded(found: dict[str, Any], key: str) -> str:
    """What an object says beside its verdict, plain; empty for what is no short text."""
    value = found.get(key)
    return plain(without_surrogates(value)) if isinstance(value, str) else ""


def _from_prose(text: str) -> Opinion:
    """The verdict is the whole reply, or its last line when a label says that it is the verdict.

    A sentence that holds a verdict's words is none: it may negate, doubt or quote them.
    """
    lines = [line for line in text.splitlines() if not _is_idle(line)]
    while lines and plain(lines[-1]) in grammar().closings:
        lines.pop()
    while len(lines) > 1 and grammar().is_opening(plain(lines[0])) and ":" not in lines[0]:
        lines.pop(0)
    labelled = len(lines) > 1 and plain(lines[-2]).rstrip(":") in grammar().labels
    before, last = lines[: -2 if labelled else -1], plain(lines[-1]) if lines else ""
    outcome = grammar().outcome_of(last)
    alone = not before or labelled or ":" in last
    if outcome is None or not alone or not _leads("\n".join([*before, ""]), outcome):
        return Opinion("failed", f"the judge's reply holds no verdict: {_excerpt(text)!r}")
    return Opinion(outcome, text.strip()[:2000])


def _leads(before: str, outcome: Outcome) -> bool:
    """Whether what stands before a verdict leads to it: whole sentences that neither quote, nor refuse, nor differ."""
    *above, beside = before.split("\n")
    above = [line for line in above if not _is_idle(line)]
    if not _is_idle(beside) and not grammar().is_opening(plain(beside.partition("```")[0])):
        return False
    last = above[-1].rstrip(" *_`\"')]") if above else ""
    whole = not above or last.endswith(SENTENCE_ENDS) or grammar().is_opening(plain(last))
    told = {grammar().outcome_of(plain(line)) for line in above} - {None}
    calm = not grammar().refuses(before) and not (told and grammar().takes_back(before))
    return whole and calm and told <= {outcome}


def _closes(after: str) -> bool:
    """Whether nothing but courtesies comes after a verdict."""
    return all(
        plain(part) in grammar().closings
        for line in after.split("\n")
        for part in re.split(r"[.!]", line)
        if not _is_idle(part)
    )


def _is_idle(line: str) -> bool:
    """Whether a line holds marks alone, opens or closes a fence, or is a rule."""
    return not line.strip(" \t\r\f\v\"'`*_~#()[]") or FENCE.match(line.strip()) is not None


def _excerpt(*values: object) -> str:
    return " ".join(" ".join(str(value)[:400].split())[:80] for value in values)


def _outcome(value: object) -> Outcome | None:
    """What a field's value means; None for anything but a spelling."""
    return grammar().outcome_of(plain(str(value))) if isinstance(value, str | int) else None


@dataclass(frozen=True)
class _Leaf:
    """A value of an object, and what its key says that it is."""

    role: Literal["verdict", "quoted", "remark"]
    value: object


def _leaves(found: dict[str, Any], trusted: bool = True, depth: int = 0) -> Iterator[_Leaf]:
    """All fields in their order, those of objects within too; a verdict below a key we do not know is a quoted one."""
    labels = grammar().labels
    for key, value in found.items():
        name = plain(key)
        held = [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict)]
        if held and (depth == DEEPEST_OBJECT or (name in labels and isinstance(value, list))):
            yield _Leaf("quoted", value)
        elif held:
            for item in held:
                yield from _leaves(item, trusted and name in labels | HOLDERS and item is value, depth + 1)
        elif key in GRADES:
            continue
        elif name in labels | LOSERS:
            yield _Leaf("verdict" if trusted and name in labels else "quoted", value)
        else:
            yield _Leaf("remark", value)


def _object(text: str) -> dict[str, Any]:
    """The one JSON object that the text is, in either quotes; empty for anything else."""
    for spelt in (text, STRING.sub(_double_quoted, text)):
        with suppress(ValueError, RecursionError):
            value = json.loads(spelt, object_pairs_hook=_unambiguous, strict=False)
            return value if isinstance(value, dict) else {}
    return {}


def _double_quoted(string: re.Match[str]) -> str:
    if string[1] is None:
        return string[0]
    marks = {r"\'": "'", '"': r"\""}
    return '"' + ESCAPED.sub(lambda mark: marks.get(mark[0], mark[0]), string[1]) + '"'


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object that says one thing twice says nothing."""
    found = dict(pairs)
    return found if len(found) == len(pairs) else {}


KIND = JudgeKind(
    "any OpenAI-compatible endpoint",
    PairwiseSettings,
    open_pairwise,
    preflight,
    cure="Take another judge: a stronger --judge-model, or the embedded --judge reference",
)
