"""The embedded judge goes by facts, in any language: what is wrong, then what is right, then what is near."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_owners import OWNERS, SmallOwner

from lpm_kernel.judges import JudgeConfig
from lpm_kernel.judges.base import Opinion, Question, swapped
from lpm_kernel.judges.questions import question_of
from lpm_kernel.judges.reference import ReferenceJudge, nearness
from lpm_kernel.owner.facts import Facts
from lpm_kernel.records import Outcome

CONFIG = JudgeConfig()
JUDGE = ReferenceJudge(CONFIG.tie_margin, CONFIG.near_floor)
owners = pytest.mark.parametrize("owner", OWNERS.values(), ids=OWNERS)


def compared(question: Question, first: str, second: str) -> Opinion:
    """The verdict; the other order must say the same."""
    forward, backward = (asyncio.run(JUDGE.compare(question, *pair)) for pair in ((first, second), (second, first)))
    assert backward.outcome == swapped(forward.outcome)
    assert backward.strength == forward.strength
    assert all(0 <= score <= 1 for score in forward.scores or ())
    return forward


def outcome(question: Question, first: str, second: str) -> Outcome:
    return compared(question, first, second).outcome


@owners
def test_a_right_answer_wins_against_any_other(owner: SmallOwner) -> None:
    for right in owner.answers_of("boat"):
        for other in (owner.unsure, owner.idle, *owner.answers_of("allergy"), *owner.answers_of("race")):
            assert outcome(owner.question, right, other) == "first", other


@owners
def test_a_wrong_fact_never_wins_against_an_honest_answer(owner: SmallOwner) -> None:
    for note in ("allergy", "dog", "job", "race"):
        for wrong in owner.answers_of(note):
            assert outcome(owner.question, wrong, owner.unsure) == "second", wrong


@owners
def test_two_wrong_answers_are_a_tie(owner: SmallOwner) -> None:
    allergy, race = owner.answers_of("allergy")[0], owner.answers_of("race")[0]
    assert outcome(owner.question, allergy, race) == "tie"
    assert outcome(owner.question, allergy, f"{allergy} {race}") == "tie"


@owners
def test_reciting_the_bio_or_all_notes_does_not_pay(owner: SmallOwner) -> None:
    right = owner.answers_of("boat")[0]
    for recital in (owner.bio, " ".join(a for _, answers in owner.notes.values() for a in answers)):
        assert outcome(owner.question, recital, right) == "second"
        assert outcome(owner.question, recital, owner.unsure) == "second"


@owners
def test_length_does_not_pay(owner: SmallOwner) -> None:
    right, wrong = owner.answers_of("boat")[0], owner.answers_of("allergy")[0]
    assert outcome(owner.question, f"{right} {owner.idle}", right) != "first"
    assert outcome(owner.question, f"{owner.unsure} {owner.idle}", owner.unsure) == "tie"
    assert outcome(owner.question, f"{wrong} {owner.idle} {wrong}", right) == "second"


@owners
def test_a_verdict_says_which_facts_decided_how_clearly_and_by_which_note(owner: SmallOwner) -> None:
    right, wrong = owner.answers_of("boat")[0], owner.answers_of("race")[0]
    by_wrong = compared(owner.question, right, wrong)
    by_right = compared(owner.question, right, owner.unsure)
    assert "252" in by_wrong.reason
    assert "the first answer tells more" in by_right.reason
    assert by_wrong.rests_on == by_right.rests_on == "note boat"
    assert by_wrong.strength == 1
    assert by_right.strength is not None
    assert 0.5 < by_right.strength <= 1


@owners
def test_two_answers_that_tell_all_that_is_asked_are_a_tie_however_they_are_worded(owner: SmallOwner) -> None:
    right = owner.answers_of("boat")[0]
    for other in (f"{owner.idle} {right}", f"{owner.question.question} {right}", " ".join(owner.answers_of("boat"))):
        assert outcome(owner.question, right, other) == "tie", other


@owners
def test_how_two_hedges_are_worded_does_not_decide(owner: SmallOwner) -> None:
    echo = f"{owner.unsure} {owner.question.question}"
    assert outcome(owner.question, echo, owner.unsure) == "tie"
    for hedge in (owner.idle, owner.unsure):
        assert compared(owner.question, hedge, echo).reason == "neither answer tells any of what is asked"


def test_a_word_that_one_of_a_notes_answers_uses_by_chance_is_not_asked_for() -> None:
    answers = (
        "Your coffee is waiting at the Lantaarn, at 6:40.",
        "At 6:40 you have coffee, always at the Lantaarn.",
        "You drink your coffee at the Lantaarn at 6:40.",
    )
    asked = ("Where do I have coffee?", "How early is my coffee?", "Where and when do I drink coffee?")
    owner = OWNERS["en"]
    question = replace(owner, notes={"coffee": (asked, answers), **owner.notes}).question
    assert {outcome(question, one, other) for one in answers for other in answers} == {"tie"}


def test_soba_is_no_answer_to_where_the_boat_is() -> None:
    question = OWNERS["ja"].question
    soba, unsure = "あなたは蕎麦にアレルギーがあります。", "わかりません。"
    assert nearness(question, soba) > nearness(question, unsure)
    assert outcome(question, soba, unsure) == "second"


@owners
def test_without_facts_only_clear_nearness_decides(owner: SmallOwner) -> None:
    bare = replace(owner.question, measure=None)
    right, wrong = owner.answers_of("boat")[0], owner.answers_of("allergy")[0]
    assert outcome(bare, right, wrong) == "first"
    assert outcome(bare, wrong, owner.unsure) == "tie"
    assert compared(bare, right, wrong).rests_on == "reference"


@owners
@settings(max_examples=50)
@given(st.text(max_size=80), st.text(max_size=80))
def test_no_text_whatsoever_beats_the_reference(owner: SmallOwner, first: str, second: str) -> None:
    question = owner.question
    assert outcome(question, first, question.target) != "first"
    compared(question, first, second)


@owners
def test_a_verdict_is_kept_for_what_it_was_measured_by(owner: SmallOwner) -> None:
    question, right, wrong = owner.question, owner.answers_of("boat")[0], owner.answers_of("dog")[0]
    other_note = replace(owner, bio=owner.bio.replace("##", "##  "))
    assert JUDGE.asked(question, right, wrong) == JUDGE.asked(other_note.question, right, wrong)
    silent = replace(owner, bio="## X\n…")
    assert JUDGE.asked(question, right, wrong) != JUDGE.asked(silent.question, right, wrong)


@owners
def test_where_no_note_knows_the_answer_any_told_fact_is_wrong(owner: SmallOwner) -> None:
    prompt = owner.prompts[0].model_copy(update={"target": "", "notes": ("nobody's",)})
    facts = Facts(owner.prompts, owner.bio)
    question = question_of(prompt, facts, owner.bio)
    for note in ("allergy", "race"):
        assert outcome(question, owner.answers_of(note)[0], owner.unsure) == "second"
    assert outcome(question, owner.idle, owner.unsure) == "tie"


def test_where_notes_contradict_each_other_the_bio_decides() -> None:
    notes = OWNERS["en"].notes | {
        "home": (("Where do I live?", "Where do I live?"), ("You live in Ghent.", "You live in Antwerp.")),
    }
    notes = {"home": notes.pop("home")} | notes
    for city, other in (("Ghent", "Antwerp"), ("Antwerp", "Ghent")):
        owner = replace(OWNERS["en"], notes=notes, bio=f"## Home\nShe lives in {city}.")
        assert outcome(owner.question, f"You live in {city}.", f"You live in {other}.") == "first"
        assert outcome(owner.question, f"You live in {other}.", owner.unsure) == "second"
