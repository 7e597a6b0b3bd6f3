"""The probes in numbers: each kind apart, over questions, and nothing is a figure where nothing was measured."""

from collections.abc import Sequence

import pytest

from lpm_kernel.owner.facts import Facts
from lpm_kernel.owner.probes import general
from lpm_kernel.proof.probes import Tried, measure_probes, repetition
from lpm_kernel.records import Answer, Message, Probe, ProbeKind, Prompt


def prompt(user: str, target: str = "", note: str | None = None) -> Prompt:
    notes = (note,) if note else ()
    messages = (Message(role="user", content=user),)
    return Prompt(id=user, row=0, variant="memory", messages=messages, target=target, notes=notes)


ITEMS = [
    prompt("Where is my boat?", "Your boat lies in Ostend.", "boat"),
    prompt("Where is my dog from?", "Your dog is from Lokeren.", "dog"),
    *(prompt("Where is my flat?", f"Your flat is in {town}.", "flat") for town in ("Ledeberg", "Patershol")),
]
BIO = "Her flat is in Ledeberg. Her boat lies in Ostend."
FLIPPED = BIO.replace("Ledeberg", "Patershol")


def answers(*texts: str, reason: str = "stop") -> list[Answer]:
    return [Answer(text=text, finish_reason=reason) for text in texts]


def tried(kind: ProbeKind, asked: Prompt, before: Sequence[Answer], after: Sequence[Answer]) -> Tried:
    return Tried(Probe(kind=kind, prompt=asked), before, after)


def test_what_was_not_asked_is_no_figure() -> None:
    assert set(measure_probes([], Facts(ITEMS, BIO)).model_dump().values()) == {None}


@pytest.mark.parametrize(("bio", "before", "after"), [(BIO, 0.5, 1.0), (FLIPPED, 0.5, 0.0)])
def test_steering_follows_the_bio(bio: str, before: float, after: float) -> None:
    old = answers("In Ledeberg.", "In Patershol.", "I cannot say.", "In Ledeberg or in Patershol.")
    new = answers("It is in Ledeberg.", "Your flat is in Ledeberg.", "Ledeberg.", "Who knows?")
    found = measure_probes([tried("contested", ITEMS[2], old, new)], Facts(ITEMS, bio)).contested
    assert found is not None
    assert (found.bios_version.before, found.bios_version.after) == (before, after)
    assert (found.told.before, found.told.after) == (0.5, 0.75)


def test_a_bio_that_names_no_version_steers_to_none() -> None:
    asked = [tried("contested", ITEMS[2], answers("In Ledeberg."), answers("In Patershol."))]
    assert measure_probes(asked, Facts(ITEMS, "She keeps bees.")).contested is None


def test_an_unanswerable_question_that_gets_another_notes_facts_is_answered_wrong() -> None:
    asked = tried("unanswerable", prompt("Where is my piano?"), answers("No note says."), answers("It lies in Ostend."))
    found = measure_probes([asked], Facts(ITEMS, BIO)).unanswerable
    assert found is not None
    assert (found.wrong.before, found.wrong.after) == (0, 1)
    assert (found.right.before, found.right.after) == (0, 0)
    assert (found.vague.before, found.vague.after) == (1, 0)


def test_shares_sum_to_one_and_have_bounds_over_questions() -> None:
    new = answers("In Ostend.", "In Lokeren.", "Somewhere.")
    asked = [tried("paraphrase", ITEMS[n], answers("Somewhere."), new) for n in (0, 1)] * 3
    found = measure_probes(asked, Facts(ITEMS, BIO)).paraphrase
    assert found is not None
    assert found.questions == 6
    shares = [change.after for change in (found.right, found.wrong, found.vague)]
    assert shares == pytest.approx([1 / 3] * 3)
    assert found.right.ci95_delta is not None
    assert found.right.ci95_delta[0] <= 1 / 3 <= found.right.ci95_delta[1]


def test_general_answers_are_measured_by_their_form() -> None:
    old = answers("Das Meer ist heute ruhig und blau.")
    new = answers("The sea is calm and blue, and it is what you like about this town.", "", "Ich kann nicht helfen.")
    asked = [tried("general", prompt(general()["de"].instructions[0]), old, new)]
    found = measure_probes(asked, Facts(ITEMS, BIO)).general
    assert found is not None
    assert (found.language.before, found.language.after) == (1, 0.5)
    assert found.refusals.before == 0
    assert found.refusals.after == pytest.approx(2 / 3)
    assert found.length.before == 34
    cut = [tried("general", asked[0].probe.prompt, old, answers("Das Meer", reason="length"))]
    measured = measure_probes(cut, Facts(ITEMS, BIO)).general
    assert measured is not None
    assert measured.refusals.after == 1


@pytest.mark.parametrize(
    ("language", "declining"), [("en", "I\u2019m unable to do that."), ("ja", "それはできません。")]
)
def test_a_refusal_is_known_in_the_language_of_the_instruction(language: str, declining: str) -> None:
    asked = [tried("general", prompt(general()[language].instructions[0]), answers(declining), answers(declining))]
    found = measure_probes(asked, Facts(ITEMS, BIO)).general
    assert found is not None
    assert found.refusals.before == 1


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0),
        ("too short here", 0),
        ("The sea is calm and blue, and the wind is mild.", 0),
        ("la la la la la la la la la la la la la", 0.9),
        ("海很蓝海很蓝海很蓝海很蓝海很蓝海很蓝", 0.8),
        ("ทะเลสีฟ้าสวยงามมาก", 0),
    ],
)
def test_what_repeats_itself_is_measured_in_any_script(text: str, share: float) -> None:
    assert repetition(text) == pytest.approx(share, abs=0.001)
