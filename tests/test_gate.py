"""The new model is promoted on evidence only."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from lpm_kernel.models.merge_report import UpdateRetained
from lpm_kernel.owner.facts import Told
from lpm_kernel.proof.evaluation import Evaluation, JudgeIdentity, Origin, Trial
from lpm_kernel.proof.gate import GateConfig, decide, measure
from lpm_kernel.proof.statistics import interval
from lpm_kernel.records import Answer, Message, Outcome, Prompt, Verdict

ORIGIN = Origin(judge=JudgeIdentity(label="j"))
FACTS = "0123456789"


def trial(number: int, outcome: Outcome, recall: tuple[float, float] | None = (0.5, 0.8)) -> Trial:
    prompt = Prompt(
        id=f"p{number}", row=number, variant="memory", messages=(Message(role="user", content="q"),), target="r"
    )
    answer = [Answer(text="a", finish_reason="stop")]
    verdict = Verdict(prompt_id=prompt.id, first=0, second=1, outcome=outcome, reason="", judge="j")
    neutral = verdict.model_copy(update={"outcome": "tie"})
    before, after = ([_telling(share)] for share in recall or (0.0, 0.0))
    return Trial(prompt, answer, answer, [verdict], [neutral], frozenset(FACTS if recall else ""), before, after)


def _telling(share: float) -> Told:
    return Told(frozenset(FACTS[: round(share * len(FACTS))]), frozenset())


def decided(
    outcomes: Mapping[Outcome, int],
    recall: tuple[float, float] | None = (0.5, 0.8),
    min_win_rate: float = 0.5,
    **more: Any,
) -> Evaluation:
    config = GateConfig(min_win_rate=min_win_rate)
    trials = [trial(n, o, recall) for n, o in enumerate(Counter(outcomes).elements())]
    return decide(measure(trials, config, origin=ORIGIN, **more), config)


def test_clear_wins_promote() -> None:
    evaluation = decided({"second": 18, "first": 2})
    assert evaluation.decision == "promote"
    assert evaluation.win_rate.rate == 0.9
    assert evaluation.win_rate.ci95
    assert evaluation.win_rate.ci95[0] > 0.5
    assert (evaluation.personalisation_lift.before, evaluation.personalisation_lift.after) == (0.1, 0.9)


@pytest.mark.parametrize(
    ("evaluation", "reason"),
    [
        (decided({"second": 10, "first": 10}), "win rate"),
        (decided({"tie": 20}), "win rate"),
        (decided({"second": 7}), "held-out questions"),
        (decided({"second": 12, "failed": 8}), "no verdict"),
        (decided({"second": 20}, recall=(0.9, 0.5)), "fact recall may fall"),
        (decided({"second": 20}, retained=UpdateRetained(projection=0.1, cosine=0.9)), "survived rounding"),
        (decided({"failed": 20}), "no verdict"),
    ],
)
def test_the_old_model_stays_without_evidence(evaluation: Evaluation, reason: str) -> None:
    assert evaluation.decision == "keep"
    assert reason in "; ".join(evaluation.reasons)


def test_the_reason_names_the_bound_that_was_set() -> None:
    assert "not above 0.7 for sure" in decided({"second": 12, "first": 8}, min_win_rate=0.7).reasons[0]


def test_an_adapter_that_changes_nothing_is_not_promoted() -> None:
    nothing = UpdateRetained(projection=None, cosine=None)
    assert decided({"second": 20}, retained=nothing).reasons == ("the adapter changes nothing",)


def test_a_failed_verdict_counts_as_nothing() -> None:
    counts = decided({"second": 10, "failed": 2}).win_rate
    assert (counts.after_wins, counts.invalid, counts.rate) == (10, 2, 1.0)


def test_the_keys_of_evaluation_json_are_stable() -> None:
    evaluation = decided({"second": 10}).model_dump()
    documented = "prompts win_rate fact_recall personalisation_lift fidelity update_retained decision reasons"
    assert set(evaluation) >= set(documented.split())
    assert set(evaluation["win_rate"]) == {"after_wins", "before_wins", "ties", "invalid", "rate", "ci95"}
    assert set(evaluation["fact_recall"]) >= {"before", "after", "ci95_delta"}


def test_an_evaluation_that_names_its_judge_by_a_word_is_still_read() -> None:
    told = decided({"second": 10}).model_dump(mode="json")
    older = {key: value for key, value in told.items() if key not in Origin.model_fields} | {"judge": "gpt-4o"}
    assert Evaluation.model_validate(older).judge == JudgeIdentity(label="gpt-4o")


def test_the_interval_holds_the_mean_and_narrows_with_more_questions() -> None:
    few, many = interval([0.0, 1.0] * 10, 1), interval([0.0, 1.0] * 1000, 1)
    assert few is not None
    assert many is not None
    assert few[0] < many[0] < 0.5 < many[1] < few[1]
    assert interval([1.0], 1) is None
