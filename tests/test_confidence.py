"""What a pair weighs: more with a better judge, more votes and orders that agree; less with what is not personal."""

import itertools
from typing import Any

import pytest

from lpm_kernel.judges.confidence import (
    ACCEPTED,
    ConfidenceConfig,
    accuracy_of,
    agreement_of,
    personal_of,
    strength_of,
    votes_of,
    weigh,
)
from lpm_kernel.judges.pairing import Choice, choose, comparisons
from lpm_kernel.records import Answer, CasesJudged, Evidence, Examination, Outcome, StrengthBand, Verdict

CONFIG = ConfidenceConfig()


def examination(right: int, wrong: int, passed: bool = True, **more: Any) -> Examination:
    cases = CasesJudged(cases=right + wrong, right=right, wrong=wrong, tied=0, failed=0)
    figures: dict[str, Any] = {"accuracy": None, "accuracy_ci95": None, "flips": 0.0, "ties": 0.0}
    figures |= {"longer": None, "longer_ci95": None, "passed": passed, "faults": (), "kinds": {}, "tasks": {}}
    figures["effective_cases"] = float(right + wrong)
    return Examination(judge="j", label="j", questions=40, all=cases, **(figures | more))


def verdict(first: int, second: int, outcome: Outcome, *, flipped: bool = False, **more: Any) -> Verdict:
    orders: tuple[Outcome, Outcome] = ("first", "second") if flipped else (outcome, outcome)
    return Verdict(
        prompt_id="p", first=first, second=second, outcome=outcome, reason="", judge="j", orders=orders, **more
    )


def evidence(*verdicts: Verdict) -> Evidence:
    """Of the pair that these verdicts choose."""
    choice = choose(verdicts)
    assert isinstance(choice, Choice)
    answers = tuple(Answer(text=str(n), finish_reason="stop") for n in range(9))
    given: dict[str, Any] = {"answers": answers, "verdicts": verdicts, "dropped": None}
    return Evidence(prompt_id="p", row=0, variant="memory", **given, **vars(choice))


def confidence(found: Evidence, judge: Examination | None = None, stranger: Verdict | None = None) -> float:
    return weigh(found, judge or examination(90, 10), stranger, CONFIG).confidence


ONE = evidence(verdict(0, 1, "first"))


def test_one_verdict_is_as_sure_as_the_judge_was_right_when_examined() -> None:
    assert confidence(ONE, examination(90, 10)) == pytest.approx(91 / 102, abs=1e-6)
    assert confidence(ONE, examination(200, 0)) == pytest.approx(201 / 202, abs=1e-6)


def test_a_better_judge_and_one_that_was_asked_more_is_surer() -> None:
    judges = [examination(60, 40), examination(9, 1), examination(90, 10), examination(900, 100), examination(1000, 0)]
    found = [confidence(ONE, judge) for judge in judges]
    assert found == sorted(set(found))


def test_cases_that_hang_together_count_less() -> None:
    alone, together = examination(190, 10), examination(190, 10, effective_cases=20.0)
    assert accuracy_of(together, None) == pytest.approx((19 + 1) / (20 + 2))
    assert accuracy_of(together, None) < accuracy_of(alone, None)


@pytest.mark.parametrize("passed", [True, False])
@pytest.mark.parametrize(("right", "wrong"), [(0, 0), (50, 50), (10, 90)])
def test_a_judge_that_is_believed_all_the_same_is_believed_as_people_are(right: int, wrong: int, passed: bool) -> None:
    found = accuracy_of(examination(right, wrong, passed=passed), None)
    assert found == (pytest.approx((right + 1) / (right + wrong + 2)) if passed else ACCEPTED)
    assert accuracy_of(None, None) == ACCEPTED


def test_strong_and_weak_verdicts_are_worth_what_they_were_worth_when_examined() -> None:
    bands = (StrengthBand(least=0.2, right=35, wrong=15), StrengthBand(least=0.8, right=50, wrong=0))
    judge = examination(85, 15, strengths=bands)
    assert accuracy_of(judge, 0.5) == pytest.approx(36 / 52)
    assert accuracy_of(judge, 0.8) == pytest.approx(51 / 52)
    misleading = examination(85, 15, strengths=bands[::-1])
    assert accuracy_of(misleading, 0.5) == accuracy_of(misleading, 0.9) == pytest.approx(86 / 102)


def test_a_verdict_weaker_than_any_that_was_examined_counts_in_proportion() -> None:
    judge = examination(85, 15, strengths=(StrengthBand(least=0.8, right=85, wrong=15),))
    assert [strength_of(s, judge) for s in (0.4, 0.8, 1.0)] == [0.5, 1.0, 1.0]
    weak = weigh(evidence(verdict(0, 1, "first", strength=0.4)), judge, None, CONFIG)
    strong = weigh(evidence(verdict(0, 1, "first", strength=0.8)), judge, None, CONFIG)
    assert 0.5 < weak.confidence < strong.confidence
    assert weak.ingredients["strength"] == 0.5


def test_answers_between_the_two_are_votes_and_many_are_worth_two_at_most() -> None:
    found = []
    for count in range(2, 9):
        order = range(count)
        found.append(votes_of(evidence(*(verdict(i, j, "first") for i, j in comparisons(order)))))
    assert found[0] == 1
    assert found == sorted(set(found))
    assert found[-1] < 2


def test_a_third_answer_that_beats_the_chosen_one_is_a_vote_against_the_pair() -> None:
    chosen: dict[str, Any] = {"answers": ONE.answers, "row": 0, "variant": "memory", "prompt_id": "p", "dropped": None}
    against = (verdict(0, 1, "first"), verdict(0, 2, "second"), verdict(1, 2, "tie"))
    found = Evidence(verdicts=against, chosen=0, rejected=1, **chosen)
    assert votes_of(found) == 0
    assert confidence(found) == 0.5


def test_ties_with_a_third_answer_say_nothing_but_orders_that_disagree_do() -> None:
    calm = evidence(verdict(0, 1, "first"), verdict(0, 2, "tie"), verdict(1, 2, "tie"))
    torn = evidence(verdict(0, 1, "first"), verdict(0, 2, "tie", flipped=True), verdict(1, 2, "tie", flipped=True))
    assert votes_of(calm) == votes_of(torn) == 1
    assert confidence(calm) == confidence(ONE)
    assert agreement_of(torn.verdicts) == pytest.approx(1 / 3)
    assert 0.5 < confidence(torn) < confidence(calm)


def test_what_a_stranger_would_decide_as_well_weighs_less() -> None:
    own = verdict(0, 1, "first", strength=0.8)
    strangers = [verdict(0, 1, "first", strength=s) for s in (1.0, 0.8, 0.4)]
    strangers += [verdict(0, 1, "first", strength=0.0), verdict(0, 1, "tie"), verdict(0, 1, "second", strength=1.0)]
    assert [personal_of(own, s, 0.5) for s in strangers] == [0.5, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert confidence(evidence(own), stranger=strangers[0]) < confidence(evidence(own), stranger=strangers[-1])


def test_the_record_says_what_a_confidence_is_made_of() -> None:
    weight = weigh(ONE, examination(90, 10), verdict(0, 1, "first"), CONFIG)
    assert weight.ingredients == {"accuracy": 0.892157, "votes": 1.0, "agreement": 1.0, "personal": 0.5}


def test_whatever_is_decided_a_confidence_is_a_probability_and_a_mirrored_world_gives_the_same() -> None:
    outcomes: tuple[Outcome, ...] = ("first", "second", "tie")
    mirrored: dict[Outcome, Outcome] = {"first": "second", "second": "first", "tie": "tie"}
    for told in itertools.product(outcomes, repeat=3):
        pairs = list(zip(comparisons(range(3)), told, strict=True))
        verdicts = [verdict(i, j, outcome) for (i, j), outcome in pairs]
        if not isinstance(choose(verdicts), Choice):
            continue
        found = confidence(evidence(*verdicts))
        assert 0.5 <= found <= 1
        assert found == confidence(evidence(*(verdict(j, i, mirrored[outcome]) for (i, j), outcome in pairs)))
