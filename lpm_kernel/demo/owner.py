"""The fictional owner of `owners/<language>.toml` -> `merged.json` in the Second-Me variants, and the bio in Markdown.

Each fact has twelve questions. All have a precise answer; some also have vague ones, as a hasty generator of
synthetic data leaves them (and as its filter scores them), so the SFT model answers unevenly. The facts of
one note are told by diversity items that carry its id; nothing else speaks of them, so a note can be held out.
A contested fact is told in two versions: each question is answered with both, and the bio confirms one of them.
"""

import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from lpm_kernel.config import nearest
from lpm_kernel.errors import UsageError
from lpm_kernel.files import write_json
from lpm_kernel.records import Record

VAGUE_QUESTIONS = (0, 1, 3, 5, 6, 8, 9, 10)
"""Which of a fact's questions, by index and shifted by the fact's own, also have vague answers."""
HEDGES = 2
"""Vague answers beside the precise one of such a question."""
GLOBAL_QUESTIONS = (6, 7, 8, 10)
"""Which of them, by index, ask for all of it; the others ask for one thing."""

ENGLISH = "en"
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


class Contested(Record):
    """What one note tells in two versions; `{version}` stands for either of them in `bio` and `answers`."""

    note: str
    section: str
    topic: str
    version: str
    """As the bio has it."""
    other: str
    bio: str
    answers: tuple[str, ...]
    questions: tuple[str, ...]

    @property
    def sentences(self) -> tuple[str, str]:
        """The bio's sentence, and the one of the other version."""
        return self.bio.format(version=self.version), self.bio.format(version=self.other)


class Unknown(Record):
    """Questions that no note answers, and what is right to say then."""

    answers: tuple[str, ...]
    questions: tuple[str, ...]


class Liking(Record):
    """What many notes tell together."""

    keys: tuple[str, ...]
    topic: str
    subject: str
    """The topic, as somebody else speaks of it."""
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


class Words(Record):
    """What the language puts around the owner's texts."""

    sentence_gap: str
    likes_section: str
    days_section: str
    bio_question: str
    thought: str
    day_questions: tuple[str, ...]
    today_question: str
    precise: str
    imprecise: str


class Owner(Record):
    """All of a language's file."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str
    intro: str
    vague: tuple[str, ...]
    words: Words
    facts: tuple[Fact, ...] = Field(alias="fact")
    contested: tuple[Contested, ...]
    unknown: Unknown
    likings: tuple[Liking, ...] = Field(alias="liking")
    days: tuple[Day, ...] = Field(alias="day")
    identities: tuple[Identity, ...] = Field(alias="self")
    requests: tuple[Request, ...] = Field(alias="request")


def languages() -> list[str]:
    """The languages that the owner is told in, as ISO 639-1 codes; English first."""
    found = sorted(p.name.removesuffix(".toml") for p in _files().iterdir() if p.name.endswith(".toml"))
    return sorted(found, key=lambda language: language != ENGLISH)


@cache
def load_owner(language: str = ENGLISH) -> Owner:
    """The owner that ships with the package; raises UsageError for a language without one."""
    if language not in languages():
        known = ", ".join(languages())
        raise UsageError(f"the demo has no language {language!r}{nearest(language, languages())}; there are: {known}")
    text = (_files() / f"{language}.toml").read_text(encoding="utf-8")
    return Owner.model_validate(tomllib.loads(text))


def _files() -> Traversable:
    return resources.files("lpm_kernel.demo") / "owners"


def write_owner(merged_path: Path, bio_path: Path, language: str = ENGLISH) -> None:
    """Write the SFT data and the bio; always the same bytes."""
    owner = load_owner(language)
    merged_path.parent.mkdir(parents=True, exist_ok=True)
    bio_path.parent.mkdir(parents=True, exist_ok=True)
    write_json(merged_path, items(owner))
    bio_path.write_text(biography(owner), encoding="utf-8")


def items(owner: Owner) -> list[Item]:
    """The rows of `merged.json`, all ten variants; what the bio confirms of the contested facts is not in them."""
    rows = [row for index, fact in enumerate(owner.facts) for row in _fact_items(fact, index, owner)]
    rows += [row for index, fact in enumerate(owner.contested) for row in _contested_items(fact, index)]
    rows += _unknown_items(owner.unknown)
    rows += [row for index, liking in enumerate(owner.likings) for row in _liking_items(liking, index, owner)]
    rows += [row for day in owner.days for row in _day_items(day, owner.words)]
    rows += [{"user": identity.user, "assistant": identity.assistant} for identity in owner.identities]
    rows += [row for request in owner.requests for row in _request_items(request)]
    return rows


def biography(owner: Owner) -> str:
    """The bio: one `## ` section per area of life."""
    sections: dict[str, list[str]] = {fact.section: [] for fact in owner.facts}
    for fact in owner.facts:
        sections[fact.section].append(fact.bio)
    for contested in owner.contested:
        sections[contested.section].append(contested.sentences[0])
    sections[owner.words.likes_section] = [liking.bio for liking in owner.likings]
    sections[owner.words.days_section] = [day.bio for day in owner.days]
    parts = [f"# {owner.name}", owner.intro]
    for title, sentences in sections.items():
        parts += [f"## {title}", owner.words.sentence_gap.join(sentences)]
    return "\n\n".join(parts) + "\n"


def flipped(bio: str, owner: Owner) -> str:
    """The bio with each contested fact's sentence, where it stands as we wrote it, telling the other version."""
    for fact in owner.contested:
        one, other = fact.sentences
        bio = bio.replace(one, other) if one in bio else bio.replace(other, one)
    return bio


def _fact_items(fact: Fact, index: int, owner: Owner) -> Iterator[Item]:
    count = len(fact.questions)
    hazy = {(question + index) % count for question in VAGUE_QUESTIONS}
    for number, question in enumerate(fact.questions):
        base = _note_item(fact.note, fact.entity, number)
        precise = fact.answers[(number + index) % len(fact.answers)]
        row = {"user": question, "assistant": precise, **base, "answer_type": "direct"}
        if number not in hazy:
            yield row
            continue
        yield row | {"score": 9.0, "reasoning": owner.words.precise}
        row |= {"answer_type": "general", "score": 3.0, "reasoning": owner.words.imprecise}
        for hedge in range(HEDGES):
            vague = owner.vague[(number + index + hedge) % len(owner.vague)].format(topic=fact.topic)
            yield row | {"assistant": _capital(vague)}


def _contested_items(fact: Contested, index: int) -> Iterator[Item]:
    """Each question with both versions, which come first in turn."""
    for number, question in enumerate(fact.questions):
        answer = fact.answers[(number + index) % len(fact.answers)]
        versions = (fact.version, fact.other) if (number + index) % 2 else (fact.other, fact.version)
        for version in versions:
            base = _note_item(fact.note, version, number)
            yield {"user": question, "assistant": answer.format(version=version), **base, "answer_type": "direct"}


def _unknown_items(unknown: Unknown) -> Iterator[Item]:
    for number, question in enumerate(unknown.questions):
        yield {"user": question, "assistant": unknown.answers[number % len(unknown.answers)]}


def _note_item(note: str, entity: str, number: int) -> Item:
    kind = "global" if number in GLOBAL_QUESTIONS else "explicit"
    return {"entity_name": entity, "doc_id": [note], "question_type": kind}


def _liking_items(liking: Liking, index: int, owner: Owner) -> Iterator[Item]:
    for number, question in enumerate(liking.questions):
        yield {"user": question, "assistant": liking.answers[number % len(liking.answers)]}
    hedge = owner.vague[index % len(owner.vague)].format(topic=liking.topic)
    yield {
        "user": liking.questions[0],
        "assistant": _capital(hedge),
        "score": 3.0,
        "reasoning": owner.words.imprecise,
    }
    query = owner.words.bio_question.format(name=owner.name, subject=liking.subject)
    yield {"query": query, "answer": f"<think>{owner.words.thought}</think>\n\n<answer>{liking.bio}</answer>"}


def _day_items(day: Day, words: Words) -> Iterator[Item]:
    questions = [question.format(day=day.spoken) for question in words.day_questions]
    yield {"user": questions[0], "assistant": day.answer, "timestamp": day.date}
    yield {"user": questions[1], "assistant": day.answer, "exact_day": day.date}
    yield {"user": words.today_question, "assistant": day.answer, "is_timeqa": True, "timestamp": day.spoken}


def _request_items(request: Request) -> Iterator[Item]:
    yield {"user_request": request.request, "enhanced_request": request.enhanced}
    yield {
        "user_request": request.request,
        "expert_response": request.reply,
        "user_feedback": request.feedback,
    }


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
