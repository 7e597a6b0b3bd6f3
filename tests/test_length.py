"""A model that only got longer does not pass; one that answers right and longer does."""

from collections.abc import Callable
from random import Random

from test_gate import decided, trial

from lpm_kernel.proof.evaluation import Evaluation, LikeLength, Trial
from lpm_kernel.proof.length import like_length
from lpm_kernel.records import Outcome

QUESTIONS = 42
Judge = Callable[[int, int], Outcome]
"""Length before, length after -> verdict."""


def longer(before: int, after: int) -> Outcome:
    return "second" if after > before else "first" if before > after else "tie"


def by_length(judge: Judge, *, grown: float, seed: int = 1, right: tuple[float, float] = (0.5, 0.5)) -> list[Trial]:
    """Answers of 20 to 60 letters, the new ones longer by that part on the average, and that share of facts told."""
    draw = Random(seed)
    trials = []
    for number in range(QUESTIONS):
        before, after = draw.randint(20, 60), round(draw.randint(20, 60) * (1 + grown))
        trials.append(trial(number, judge(before, after), recall=right, texts=("a" * before, "a" * after)))
    return trials


def rule(evaluation: Evaluation, name: str) -> bool | None:
    return next(rule.holds for rule in evaluation.rules if rule.name == name)


def of(trials: list[Trial]) -> LikeLength:
    return like_length(trials)


def test_a_model_that_only_got_longer_is_kept_by_its_length_alone() -> None:
    evaluation = decided(by_length(longer, grown=0.6))
    assert rule(evaluation, "win_rate")
    assert not rule(evaluation, "length")
    assert evaluation.decision == "keep"
    assert evaluation.like_length
    assert (evaluation.like_length.longer_wins, evaluation.like_length.rate) == (1.0, 0.5)


def test_a_model_that_only_got_a_little_longer_is_kept_too() -> None:
    always = [trial(n, "second", recall=(0.5, 0.5), texts=("a" * 40, "a" * 44)) for n in range(QUESTIONS)]
    assert not rule(decided(always), "length")


def test_a_judge_that_likes_only_much_longer_answers_is_seen_through() -> None:
    draw = Random(3)

    def judge(before: int, after: int) -> Outcome:
        much = max(before, after) > 2 * min(before, after)
        return longer(before, after) if much else draw.choice(["first", "second"])

    assert not rule(decided(by_length(judge, grown=1.0)), "length")


def test_a_model_that_answers_right_and_longer_is_promoted() -> None:
    assert decided(by_length(longer, grown=0.6, right=(0.2, 0.8))).decision == "promote"


def test_an_honest_win_at_like_length_loses_little() -> None:
    draw = Random(4)
    wins: list[Outcome] = ["second", "second", "second", "second", "first"]
    found = of(by_length(lambda *_: draw.choice(wins), grown=0.0))
    assert found.ci95
    assert found.ci95[0] > 0.5


def test_longer_and_wrong_is_not_borne_out_by_facts() -> None:
    invented = [
        trial(n, "second", recall=(0.5, 0.6), wrong=(0, 2), texts=("a" * 20, "a" * 50)) for n in range(QUESTIONS)
    ]
    assert of(invented).by_facts == 0
    assert not rule(decided(invented), "length")


def test_before_and_after_change_places_and_the_rate_turns() -> None:
    trials = by_length(longer, grown=0.4)
    turned: dict[Outcome, Outcome] = {"first": "second", "second": "first", "tie": "tie", "failed": "failed"}
    swapped = [
        trial(
            n,
            turned[t.verdicts[0].outcome],
            recall=(0.5, 0.5),
            texts=(t.after[0].text, t.before[0].text),
        )
        for n, t in enumerate(trials)
    ]
    one, other = of(trials), of(swapped)
    assert one.rate is not None
    assert other.rate is not None
    assert abs(one.rate + other.rate - 1) < 1e-9


def test_without_a_verdict_nothing_is_said_of_length() -> None:
    found = of([trial(n, "failed") for n in range(8)])
    assert (found.rate, found.after_longer, found.longer_wins) == (None, None, None)
