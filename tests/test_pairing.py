"""No pair comes from a tie, a failed verdict, equal answers, a cycle or a cut answer."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.judges.pairing import Choice, choose, comparisons, distinct, too_few
from lpm_kernel.records import Answer, Outcome, Verdict


def verdict(first: int, second: int, outcome: Outcome, *orders: Outcome) -> Verdict:
    return Verdict(
        prompt_id="p",
        first=first,
        second=second,
        outcome=outcome,
        reason="",
        judge="j",
        orders=orders or (outcome,) * 2,
    )


def whole(*texts: str) -> list[Answer]:
    return [Answer(text=text, finish_reason="stop") for text in texts]


def test_the_best_over_the_worst_becomes_the_pair() -> None:
    verdicts = [verdict(0, 1, "second"), verdict(0, 2, "first"), verdict(1, 2, "first")]
    assert choose(verdicts) == Choice(chosen=1, rejected=2)


@pytest.mark.parametrize(
    ("verdicts", "reason"),
    [
        ([verdict(0, 1, "tie")], "tie"),
        ([verdict(0, 1, "failed")], "verdict_failed"),
        ([verdict(0, 1, "tie"), verdict(0, 2, "failed"), verdict(1, 2, "tie")], "verdict_failed"),
        ([verdict(0, 1, "tie", "first", "second")], "orders_disagree"),
        ([verdict(0, 1, "first"), verdict(1, 2, "first"), verdict(0, 2, "second")], "cycle"),
    ],
)
def test_without_evidence_there_is_no_pair(verdicts: list[Verdict], reason: str) -> None:
    assert choose(verdicts) == reason


def test_one_won_comparison_among_ties_is_the_pair() -> None:
    assert choose([verdict(0, 1, "tie"), verdict(0, 2, "tie"), verdict(1, 2, "second")]) == Choice(2, 1)


@given(st.lists(st.sampled_from(["first", "second", "tie", "failed"]), min_size=6, max_size=6))
def test_a_pair_was_always_won_outright(outcomes: list[Outcome]) -> None:
    verdicts = [verdict(i, j, outcome) for (i, j), outcome in zip(comparisons(range(4)), outcomes, strict=True)]
    choice = choose(verdicts)
    if isinstance(choice, Choice):
        won = {
            (v.first, v.second) if v.outcome == "first" else (v.second, v.first)
            for v in verdicts
            if v.outcome in ("first", "second")
        }
        assert (choice.chosen, choice.rejected) in won


def test_the_order_of_the_verdicts_does_not_matter() -> None:
    verdicts = [verdict(0, 1, "first"), verdict(0, 2, "first"), verdict(1, 2, "tie")]
    assert len({choose(order) for order in permutations(verdicts)}) == 1


def test_equal_wordings_are_one_answer_and_cut_ones_none() -> None:
    answers = [*whole("Trieste.", " trieste.\n", "Rome"), Answer(text="Long", finish_reason="length")]
    assert distinct(answers) == [0, 2]
    assert too_few(whole("a", "A ")) == "identical_answers"
    assert too_few([Answer(text="a", finish_reason="length"), *whole("b")]) == "cut_or_empty_answers"
