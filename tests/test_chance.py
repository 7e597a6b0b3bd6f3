"""The sign-flip test is exact, and the interval is the means that it does not refuse."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from random import Random

import pytest

from lpm_kernel.chance import ALPHA, STEPS, chance_above, exact_bounds, interval, mean

SHARES = [n / 4 for n in range(-4, 5)]


def by_hand(scores: Sequence[Fraction]) -> float:
    """The share of all choices of signs whose sum is at least that of the scores."""
    sums = [sum(sign * score for sign, score in zip(signs, scores, strict=True)) for signs in signs_of(len(scores))]
    return sum(total >= sum(scores) for total in sums) / len(sums)


def signs_of(count: int) -> list[tuple[int, ...]]:
    return list(product((-1, 1), repeat=count))


@pytest.mark.parametrize("seed", range(10))
def test_the_chance_is_that_of_all_choices_of_signs(seed: int) -> None:
    draw = Random(seed)
    parts = draw.choices((1, 2, 3, 4, 5, 6, 8, 10, 12), k=draw.randint(1, 11))
    scores = [Fraction(draw.randint(-part, part), part) for part in parts]
    assert chance_above([float(score) for score in scores], 0.0) == by_hand(scores)


@pytest.mark.parametrize("seed", range(5))
def test_the_bounds_part_what_the_test_refuses_from_what_it_does_not(seed: int) -> None:
    scores = Random(seed).choices(SHARES, k=15)
    bounds = interval(scores)
    assert bounds is not None
    low, high = bounds
    assert low < mean(scores) < high
    assert chance_above(scores, low) > ALPHA >= chance_above(scores, low - 1 / STEPS)
    turned = [-score for score in scores]
    assert chance_above(turned, -high) > ALPHA >= chance_above(turned, -high - 1 / STEPS)


def test_turning_the_scores_turns_the_interval() -> None:
    scores = Random(1).choices(SHARES, k=30)
    bounds = interval(scores)
    assert bounds is not None
    assert interval([-score for score in scores]) == (-bounds[1], -bounds[0])


def test_five_values_are_too_few_to_be_sure_of_anything() -> None:
    assert chance_above([1.0] * 5, 0.0) == 1 / 32 > ALPHA
    assert interval([1.0] * 5) is None
    assert interval([1.0] * 6) == (1.0, 1.0)


def test_nothing_and_no_change_could_be_chance() -> None:
    assert chance_above([], 0.0) == chance_above([0.0] * 20, 0.0) == 1.0
    assert interval([0.0] * 20) == (0.0, 0.0)


def test_questions_on_one_note_flip_together_where_there_are_notes_enough() -> None:
    scores, notes = [1.0] * 48, [f"note {n % 12}" for n in range(48)]
    assert chance_above(scores, 0.0, notes) == pytest.approx(0.5**12)
    assert chance_above(scores, 0.0, ["one note"] * 48) == pytest.approx(0.5**48)


def test_the_interval_narrows_with_more_questions() -> None:
    few, many = interval([0.0, 1.0] * 10), interval([0.0, 1.0] * 100)
    assert few is not None
    assert many is not None
    assert few[0] < many[0] < 0.5 < many[1] < few[1]


@pytest.mark.parametrize("questions", [8, 15, 20, 42, 200])
def test_chance_promotes_in_no_more_than_its_level_of_runs(questions: int) -> None:
    draw, runs = Random(questions), 1000 if questions < 200 else 200
    promoted = sum(chance_above(draw.choices(SHARES, k=questions), 0.0) <= ALPHA for _ in range(runs))
    assert promoted <= runs * ALPHA + 3 * (runs * ALPHA * (1 - ALPHA)) ** 0.5


def test_the_bounds_of_a_count_are_those_of_clopper_and_pearson() -> None:
    """As their chart and every table of the binomial have them."""
    assert exact_bounds(10, 10) == pytest.approx((0.69150, 1.0), abs=1e-4)
    assert exact_bounds(0, 10) == pytest.approx((0.0, 0.30850), abs=1e-4)
    assert exact_bounds(7, 20) == pytest.approx((0.15391, 0.59219), abs=1e-4)
