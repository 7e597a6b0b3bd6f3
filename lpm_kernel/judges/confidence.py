"""How sure a pair is: the judge's verdict as log-odds, calibrated on its examination.

    log-odds = logit(accuracy) * strength * votes * agreement * personal,    confidence = 1 / (1 + exp(-log-odds))

- `accuracy`: how often the judge was right where both its orders agreed, of verdicts as strong as this one: the mean
  of the Beta posterior under a uniform prior, (right + 1) / (right + wrong + 2), of cases discounted by the design
  effect of their questions. Strong and weak verdicts are told apart at the examination's median (histogram binning,
  Zadrozny and Elkan 2001), where the strong ones are the better ones.
- `strength`: less than 1 for a verdict weaker than any that the examination saw, in proportion.
- `votes`: so many independent verdicts the others are worth. A third answer that the chosen one beats, or that beats
  the rejected one, by more than the other way round is a vote for the pair, the opposite one against it; n votes of
  one judge on one question count n / (1 + (n - 1) * CORRELATION) (Kish's design effect).
- `agreement`: share of the prompt's comparisons whose two orders agree.
- `personal`: less than 1 where a stranger's bio decides the same way; by `impersonal_weight` when as strongly.

A factor on log-odds is a power of the likelihood: evidence that is only in part independent, or in part beside the
point, counts as a part of a verdict (Genest and Zidek 1986, logarithmic pools).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from lpm_kernel.config import Config
from lpm_kernel.records import Evidence, Examination, Verdict

CORRELATION = 0.5
"""Of a judge's errors within one question: many votes are never worth more than two."""
ACCEPTED = 0.8
"""Accuracy of a judge that the owner believes whatever its examination says: about that of GPT-4 against people
(Zheng et al. 2023, MT-Bench: 0.81 to 0.85)."""
FACTORS = ("strength", "votes", "agreement", "personal")


class ConfidenceConfig(Config):
    """What a pair must be worth."""

    min_confidence: float = Field(
        0.6, gt=0.5, lt=1, description="Pairs whose chosen answer is less surely the better one are dropped."
    )
    ask_stranger: bool = Field(
        True, description="Have the chosen pair judged by a stranger's bio too, where the judge goes by the bio."
    )
    impersonal_weight: float = Field(
        0.5, gt=0, le=1, description="Weight of a pair that a stranger's bio decides the same way, as strongly."
    )


@dataclass(frozen=True)
class Weight:
    """What a pair is worth."""

    confidence: float
    """Probability that the chosen answer is the better one."""
    ingredients: dict[str, float]
    """By name, as the formula above calls them."""


def weigh(
    evidence: Evidence, examination: Examination | None, stranger: Verdict | None, config: ConfidenceConfig
) -> Weight:
    """Of the evidence's pair; `stranger` is the deciding comparison by a stranger's bio, where it was asked for."""
    verdict = deciding(evidence)
    ingredients = {
        "accuracy": accuracy_of(examination, verdict.strength),
        "votes": votes_of(evidence),
        "agreement": agreement_of(evidence.verdicts),
    }
    if verdict.strength is not None:
        ingredients["strength"] = strength_of(verdict.strength, examination)
    if stranger is not None:
        ingredients["personal"] = personal_of(verdict, stranger, config.impersonal_weight)
    log_odds = logit(ingredients["accuracy"]) * math.prod(ingredients.get(name, 1.0) for name in FACTORS)
    confidence = 1 / (1 + math.exp(-log_odds))
    return Weight(round(confidence, 6), {name: round(value, 6) for name, value in ingredients.items()})


def deciding(evidence: Evidence) -> Verdict:
    """The comparison of the chosen answer with the rejected one."""
    pair = {evidence.chosen, evidence.rejected}
    return next(verdict for verdict in evidence.verdicts if {verdict.first, verdict.second} == pair)


def accuracy_of(examination: Examination | None, strength: float | None) -> float:
    """Of decided verdicts this strong; at least ACCEPTED for a judge that is believed without having passed."""
    if examination is None:
        return ACCEPTED
    decided = (examination.all.right, examination.all.wrong)
    weak, strong = (examination.strengths[0], examination.strengths[-1]) if examination.strengths else (None, None)
    discount = min(1.0, (examination.effective_cases or 0) / max(1, examination.all.cases))
    found = _posterior(*decided, discount)
    if strength is not None and weak and strong and weak != strong:
        bands = [_posterior(band.right, band.wrong, discount) for band in (weak, strong)]
        if bands[0] < bands[1]:
            found = bands[strength >= strong.least]
    return found if examination.passed else max(found, ACCEPTED)


def strength_of(strength: float, examination: Examination | None) -> float:
    """1 for a verdict as strong as the weakest that the examination saw, else its share of that."""
    least = examination.strengths[0].least if examination and examination.strengths else 0.0
    return min(1.0, strength / least) if least else 1.0


def _posterior(right: int, wrong: int, discount: float) -> float:
    return (right * discount + 1) / ((right + wrong) * discount + 2)


def votes_of(evidence: Evidence) -> float:
    """How many independent verdicts the comparisons with the other answers make of the pair's own one."""
    won = _scores(evidence.verdicts)
    chosen, rejected = evidence.chosen, evidence.rejected
    others = {index for verdict in evidence.verdicts for index in (verdict.first, verdict.second)} - {chosen, rejected}
    leads = [won[chosen, other] - won[rejected, other] for other in others if (chosen, other) in won]
    net = 1 + sum((lead > 0) - (lead < 0) for lead in leads)
    return net / (1 + (net - 1) * CORRELATION) if net > 0 else 0.0


def _scores(verdicts: Sequence[Verdict]) -> dict[tuple[int | None, int | None], float]:
    """(One, other) -> 1 where one won, 0 where it lost, one half else."""
    scores: dict[tuple[int | None, int | None], float] = {}
    for verdict in verdicts:
        first = {"first": 1.0, "second": 0.0}.get(verdict.outcome, 0.5)
        scores[verdict.first, verdict.second] = first
        scores[verdict.second, verdict.first] = 1 - first
    return scores


def agreement_of(verdicts: Sequence[Verdict]) -> float:
    """Share of the comparisons with a verdict whose two orders agree."""
    valid = [verdict for verdict in verdicts if verdict.outcome != "failed"]
    return sum(len(set(verdict.orders)) == 1 for verdict in valid) / len(valid)


def personal_of(own: Verdict, stranger: Verdict, impersonal: float) -> float:
    """1 where a stranger's bio decides otherwise; down to `impersonal` where it decides the same way, as strongly."""
    if stranger.outcome != own.outcome:
        return 1.0
    as_strong = 1.0
    if own.strength and stranger.strength is not None:
        as_strong = min(1.0, stranger.strength / own.strength)
    return 1 - (1 - impersonal) * as_strong


def logit(probability: float) -> float:
    """Log-odds."""
    return math.log(probability / (1 - probability))
