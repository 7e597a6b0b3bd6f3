"""`evaluation.json`: what was measured of the models before and after, and what was decided on it."""

from dataclasses import dataclass
from typing import Literal

from lpm_kernel.export.fidelity import Fidelity
from lpm_kernel.models.merge_report import UpdateRetained
from lpm_kernel.records import Answer, Prompt, Record, Verdict

Interval = tuple[float, float]
"""95 % bounds, the lower one first."""


class WinRate(Record):
    """Comparisons of the new model's answers with the old one's, each in both orders."""

    after_wins: int
    before_wins: int
    ties: int
    invalid: int
    """Comparisons without a verdict; they count as nothing."""
    rate: float | None
    """Mean over questions of the share that the new model won, ties as half; None without a verdict."""
    ci95: Interval | None


class FactRecall(Record):
    """Mean share of the questions' facts that the answers tell, 0 to 1."""

    questions: int
    """Those with facts to tell."""
    before: float | None
    after: float | None
    ci95_delta: Interval | None
    """Of after minus before."""


class Change(Record):
    """A figure of both models; None where nothing was measured."""

    before: float | None
    after: float | None


class Measures(Record):
    """All that was measured."""

    prompts: int
    """Held-out questions asked."""
    samples: int
    """Answers of each model to each."""
    win_rate: WinRate
    fact_recall: FactRecall
    stray_facts: Change
    """Mean names and numbers in an answer that are not called for."""
    personalisation_lift: Change
    """Share of comparisons won by the owner's bio minus the share won by a stranger's."""
    fidelity: Fidelity | None
    """Of the new model's GGUF; None where it was exported elsewhere."""
    update_retained: UpdateRetained | None
    """None where the new model was merged elsewhere."""
    judge: str


class Evaluation(Measures):
    """What was measured, and what follows."""

    decision: Literal["promote", "keep"]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """One held-out question with the answers of both models and the verdicts on each pair of samples."""

    prompt: Prompt
    before: list[Answer]
    after: list[Answer]
    verdicts: list[Verdict]
    """First is before, second is after."""
    stranger_verdicts: list[Verdict]
    recall: tuple[float, float] | None
    """Mean share of the question's facts told, before and after; None for a question without facts."""
    strays: tuple[float, float]
    """Mean names and numbers in an answer that are not called for, before and after."""
