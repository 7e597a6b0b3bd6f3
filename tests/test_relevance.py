"""A judge is shown what of the bio matters to the question, and what kind of question it is."""

import time
from dataclasses import replace

import pytest
from small_owners import OWNERS, SmallOwner

from lpm_kernel.judges.questions import question_of
from lpm_kernel.judges.stranger import stranger_bio
from lpm_kernel.owner.bio import MAX_BIO_BYTES, digests, sections
from lpm_kernel.owner.facts import Facts
from lpm_kernel.owner.items import ItemConfig, to_prompt
from lpm_kernel.owner.relevance import MOST_CHARS, SHORT_BIO_CHARS
from lpm_kernel.records import Prompt

owners = pytest.mark.parametrize("owner", OWNERS.values(), ids=OWNERS)


def long_bio(owner: SmallOwner) -> str:
    """With a section that says nothing of the notes, so that it is not shown whole."""
    idle = "\n".join(f"{owner.idle} {'abcdefghij'[n % 10] * 3}" for n in range(60))
    return f"{owner.bio}\n\n## X\n{idle}"


def shown(owner: SmallOwner, bio: str, note: str) -> list[str]:
    """The titles of the sections that a judge is shown for the note's first question."""
    prompt = next(prompt for prompt in owner.prompts if prompt.notes == (note,))
    return [section.title for section in sections(question_of(prompt, Facts(owner.prompts, bio), bio).bio)]


@owners
def test_a_short_bio_is_shown_whole(owner: SmallOwner) -> None:
    assert len(owner.bio) < SHORT_BIO_CHARS
    assert owner.question.bio == owner.bio


@owners
def test_of_a_long_bio_the_section_is_shown_that_tells_the_notes_facts(owner: SmallOwner) -> None:
    home, work = (section.title for section in sections(owner.bio))
    assert shown(owner, long_bio(owner), "boat") == [home]
    assert shown(owner, long_bio(owner), "dog") == [home]
    assert shown(owner, long_bio(owner), "job") == [work]


@owners
def test_a_huge_bio_without_sections_is_never_sent_whole_and_costs_by_its_length(owner: SmallOwner) -> None:
    bare = owner.bio.replace("## ", "")
    huge = bare + owner.idle * ((MAX_BIO_BYTES - 2000) // len(owner.idle.encode()))
    began = time.process_time()
    question = question_of(owner.prompts[0], Facts(owner.prompts, huge), huge)
    for _ in range(200):
        question = question_of(owner.prompts[0], question.measure.facts, huge)  # type: ignore[union-attr]
    assert len(question.bio) <= MOST_CHARS
    assert owner.bio.split("\n")[1] in question.bio
    assert time.process_time() - began < 20


@pytest.mark.parametrize("bio", ["##", "## \n", "##X\n", "#\n\n##   \n\n", "x" * 5000, "\n\n## A\n\n## A\n"])
def test_a_strange_bio_has_sections_that_hold_all_of_it(bio: str) -> None:
    assert "".join("".join(section.text for section in sections(bio)).split()) == "".join(bio.split())
    assert len(digests(bio)) <= len(sections(bio))
    assert len(question_of(OWNERS["en"].prompts[0], Facts(OWNERS["en"].prompts, bio), bio).bio) <= MOST_CHARS


@owners
def test_the_strangers_question_differs_from_the_owners_by_its_bio_alone(owner: SmallOwner) -> None:
    facts = Facts(owner.prompts, owner.bio)
    for prompt in owner.prompts:
        own = question_of(prompt, facts, owner.bio)
        assert question_of(prompt, facts, stranger_bio(facts.language)) == replace(own, bio=stranger_bio(own.language))


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Who are you?", "I am the Second Me of Mira Okafor."),
        ("Wer bist du?", "Ich bin das zweite Ich von Mira Okafor."),
        ("你是谁？", "我是Mira Okafor的第二自我。"),
        ("あなたは誰ですか？", "私はMira Okaforのもう一人の自分です。"),
        ("Do you know Mira Okafor?", "Yes, I am made from her notes."),
    ],
)
def test_questions_about_the_second_self_are_of_identity(question: str, answer: str) -> None:
    assert task({"user": question, "assistant": answer}) == "identity"


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"user": "Where do I live?", "assistant": "You live in Trieste."}, "memory"),
        ({"user": "Where does Mira Okafor live?", "assistant": "Mira Okafor lives in Trieste."}, "memory"),
        ({"user": "Who is she?", "assistant": "Mira Okafor.", "doc_id": ["n"]}, "memory"),
        ({"user_request": "Plan it.", "enhanced_request": "Plan it, near Trieste."}, "context"),
        ({"user_request": "Plan it.", "expert_response": "No.", "user_feedback": "Too short."}, "feedback"),
        ({"user": "What did I do?", "assistant": "You swam.", "timestamp": "2024-05-03"}, "time"),
    ],
)
def test_other_questions_are_of_the_task_that_their_item_says(item: dict[str, object], expected: str) -> None:
    assert task(item) == expected


def test_a_question_about_today_says_which_day_it_is_and_no_prefix() -> None:
    item = {"user": "What did I do today?", "assistant": "You swam.", "is_timeqa": True, "timestamp": "3 May 2024"}
    prompt = rendered(item)
    question = question_of(prompt, Facts([prompt], "Mira."), "Mira.")
    assert question.question.endswith("3 May 2024\nWhat did I do today?")
    assert "<|ME|>" not in question.question


def rendered(item: dict[str, object]) -> Prompt:
    return to_prompt(item, 0, ItemConfig(user_name="Mira Okafor"))


def task(item: dict[str, object]) -> str:
    """Of an item beside others of an owner."""
    prompts = [rendered(item), *OWNERS["en"].prompts]
    bio = "Mira Okafor lives in Trieste."
    return question_of(prompts[0], Facts(prompts, bio), bio).task
