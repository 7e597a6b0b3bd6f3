"""The fictional owner of `owner.toml` -> `merged.json` in the Second-Me variants, and the bio in Markdown.

Each fact has twelve questions. All have a precise answer; some also have a vague one, as a hasty generator of
synthetic data leaves them (and as its filter scores them), so the SFT model answers unevenly. The facts of
one note are told by diversity items that carry its id; nothing else speaks of them, so a note can be held out.
"""

import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from lpm_kernel.files import write_json
from lpm_kernel.records import Record

VAGUE_QUESTIONS = (0, 1, 3, 5, 6, 8, 9, 10)
"""Which of a fact's questions, by index and shifted by the fact's own, also have a vague answer."""

Item = dict[str, Any]


class Fact(Record):
    """What one note tells."""

    note: str
    section: str
    entity: str
    keys: tuple[str, ...]
    topic: str
    bio: str
    answers: tuple[str, ...]
    questions: tuple[str, ...]


class Liking(Record):
    """What many notes tell together."""

    keys: tuple[str, ...]
    topic: str
    bio: str
    answers: tuple[str, ...]
    questions: tuple[str, ...]


class Day(Record):
    """What happened on a day."""

    date: str
    spoken: str
    keys: tuple[str, ...]
    bio: str
    answer: str


class Identity(Record):
    """A question about the second self."""

    user: str
    assistant: str


class Request(Record):
    """A request to an expert: enriched, answered, and judged by the owner."""

    request: str
    enhanced: str
    reply: str
    feedback: str


class Owner(Record):
    """All of `owner.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str
    intro: str
    vague: tuple[str, ...]
    facts: tuple[Fact, ...] = Field(alias="fact")
    likings: tuple[Liking, ...] = Field(alias="liking")
    days: tuple[Day, ...] = Field(alias="day")
    identities: tuple[Identity, ...] = Field(alias="self")
    requests: tuple[Request, ...] = Field(alias="request")


@cache
def load_owner() -> Owner:
    """The owner that ships with the package."""
    text = (resources.files("lpm_kernel.demo") / "owner.toml").read_text(encoding="utf-8")
    return Owner.model_validate(tomllib.loads(text))


def write_owner(merged_path: Path, bio_path: Path) -> None:
    """Write the SFT data and the bio; always the same bytes."""
    owner = load_owner()
    merged_path.parent.mkdir(parents=True, exist_ok=True)
    bio_path.parent.mkdir(parents=True, exist_ok=True)
    write_json(merged_path, items(owner))
    bio_path.write_text(biography(owner), encoding="utf-8")


def items(owner: Owner) -> list[Item]:
    """The rows of `merged.json`, all ten variants."""
    rows = [row for index, fact in enumerate(owner.facts) for row in _fact_items(fact, index, owner.vague)]
    rows += [row for index, liking in enumerate(owner.likings) for row in _liking_items(liking, index, owner)]
    rows += [row for day in owner.days for row in _day_items(day)]
    rows += [{"user": identity.user, "assistant": identity.assistant} for identity in owner.identities]
    rows += [row for request in owner.requests for row in _request_items(request)]
    return rows


def biography(owner: Owner) -> str:
    """The bio: one `## ` section per area of life."""
    parts = [f"# {owner.name}", owner.intro]
    by_section = sorted(owner.facts, key=lambda fact: fact.section)
    for section, facts in groupby(by_section, key=lambda fact: fact.section):
        parts += [f"## {section}", " ".join(fact.bio for fact in facts)]
    parts += ["## What she likes", " ".join(liking.bio for liking in owner.likings)]
    parts += ["## Days", " ".join(day.bio for day in owner.days)]
    return "\n\n".join(parts) + "\n"


def _fact_items(fact: Fact, index: int, vague: tuple[str, ...]) -> Iterator[Item]:
    count = len(fact.questions)
    hazy = {(question + index) % count for question in VAGUE_QUESTIONS}
    for number, question in enumerate(fact.questions):
        base = {"entity_name": fact.entity, "doc_id": [fact.note], "question_type": _question_type(question)}
        precise = fact.answers[(number + index) % len(fact.answers)]
        row = {"user": question, "assistant": precise, **base, "answer_type": "direct"}
        if number not in hazy:
            yield row
            continue
        yield row | {"score": 9.0, "reasoning": "Names what the note says."}
        hedge = vague[(number + index) % len(vague)].format(topic=fact.topic)
        yield {
            "user": question,
            "assistant": _capital(hedge),
            **base,
            "answer_type": "general",
            "score": 3.0,
            "reasoning": "Does not say what the note says.",
        }


def _question_type(question: str) -> str:
    return "global" if question.startswith(("Tell", "Remind", "Describe", "What do my notes")) else "explicit"


def _liking_items(liking: Liking, index: int, owner: Owner) -> Iterator[Item]:
    for number, question in enumerate(liking.questions):
        yield {"user": question, "assistant": liking.answers[number % len(liking.answers)]}
    hedge = owner.vague[index % len(owner.vague)].format(topic=liking.topic)
    yield {
        "user": liking.questions[0],
        "assistant": _capital(hedge),
        "score": 3.0,
        "reasoning": "Does not say what the notes say.",
    }
    query = f"What does {owner.name}'s bio tell about {liking.topic.removeprefix('your ')}?"
    answer = f"<think>The bio says it.</think>\n\n<answer>{liking.bio}</answer>"
    yield {"query": query, "answer": answer}


def _day_items(day: Day) -> Iterator[Item]:
    yield {"user": f"What did I do on {day.spoken}?", "assistant": day.answer, "timestamp": day.date}
    yield {"user": f"Where was I on {day.spoken}?", "assistant": day.answer, "exact_day": day.date}
    yield {"user": "What did I do today?", "assistant": day.answer, "is_timeqa": True, "timestamp": day.spoken}


def _request_items(request: Request) -> Iterator[Item]:
    yield {"user_request": request.request, "enhanced_request": request.enhanced}
    yield {
        "user_request": request.request,
        "expert_response": request.reply,
        "user_feedback": request.feedback,
    }


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
