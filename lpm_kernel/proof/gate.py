"""The gate: what the trials say in numbers, and whether the new model is promoted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from lpm_kernel.config import Config
from lpm_kernel.proof.statistics import interval, mean
from lpm_kernel.records import Answer, Prompt, Verdict


class GateConfig(Config):
    """What the new model must show."""

    min_questions: int = Field(8, ge=1, description="With fewer held-out questions the old model stays.")
    min_win_rate: float = Field(0.5, ge=0, le=1, description="The win rate's lower 95 % bound must exceed this.")
    max_recall_loss: float = Field(
        0.02, ge=0, le=1, description="The fact recall's change must not be below minus this, at its lower 95 % bound."
    )
    min_retained: float = Field(0.5, ge=0, le=1, description="Least share of the update that must survive rounding.")
    max_invalid: float = Field(0.3, ge=0, le=1, description="Largest share of comparisons without a verdict.")
    bootstrap_seed: int = Field(42, ge=0, description="Seed of the confidence intervals.")


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


def summarise(
    trials: Sequence[Trial], config: GateConfig, *, judge: str, retained: Any = None, fidelity: Any = None
) -> dict[str, Any]:
    """The contents of evaluation.json. Intervals are bootstrapped over questions, not over samples."""
    own = [_shares(t.verdicts) for t in trials]
    judged = [(o, s) for o, t in zip(own, trials, strict=True) if any(s := _shares(t.stranger_verdicts)) and any(o)]
    counts = _counts([v for t in trials for v in t.verdicts])
    rates = [rate for shares in own if (rate := _rate(shares)) is not None]
    recalls = [t.recall for t in trials if t.recall is not None]
    evaluation: dict[str, Any] = {
        "prompts": len(trials),
        "samples": len(trials[0].before) if trials else 0,
        "win_rate": counts | {"rate": _mean_or_none(rates), "ci95": interval(rates, config.bootstrap_seed)},
        "fact_recall": {
            "questions": len(recalls),
            "before": _mean_or_none([r[0] for r in recalls]),
            "after": _mean_or_none([r[1] for r in recalls]),
            "ci95_delta": interval([r[1] - r[0] for r in recalls], config.bootstrap_seed),
        },
        "stray_facts": {
            "before": _mean_or_none([t.strays[0] for t in trials]),
            "after": _mean_or_none([t.strays[1] for t in trials]),
        },
        "personalisation_lift": {
            "before": _mean_or_none([o[0] - s[0] for o, s in judged]),
            "after": _mean_or_none([o[1] - s[1] for o, s in judged]),
        },
        "fidelity": fidelity or {},
        "update_retained": retained or {},
        "judge": judge,
    }
    evaluation["reasons"] = _objections(evaluation, config)
    evaluation["decision"] = "keep" if evaluation["reasons"] else "promote"
    evaluation["reasons"] = evaluation["reasons"] or _merits(evaluation)
    return evaluation


def _objections(evaluation: dict[str, Any], config: GateConfig) -> list[str]:
    """Everything that stands against the new model."""
    wins, recall = evaluation["win_rate"], evaluation["fact_recall"]
    comparisons = wins["after_wins"] + wins["before_wins"] + wins["ties"] + wins["invalid"]
    retained = evaluation["update_retained"].get("projection")
    found = []
    if evaluation["prompts"] < config.min_questions:
        found.append(f"{evaluation['prompts']} held-out questions, at least {config.min_questions} are needed")
    if wins["invalid"] > config.max_invalid * comparisons:
        found.append(f"{wins['invalid']} of {comparisons} comparisons have no verdict")
    if wins["ci95"] is None or wins["ci95"][0] <= config.min_win_rate:
        found.append(f"win rate {_shown(wins['rate'])}, 95 % bounds {_bounds(wins['ci95'])}: not above 0.5 for sure")
    if recall["ci95_delta"] is not None and recall["ci95_delta"][0] < -config.max_recall_loss:
        found.append(f"fact recall may fall: 95 % bounds of the change {_bounds(recall['ci95_delta'])}")
    if evaluation["update_retained"] and retained is None:
        found.append("the adapter changes nothing")
    elif retained is not None and retained < config.min_retained:
        found.append(f"only {retained:.0%} of the update survived rounding")
    return found


def _merits(evaluation: dict[str, Any]) -> list[str]:
    wins, recall = evaluation["win_rate"], evaluation["fact_recall"]
    return [
        f"win rate {_shown(wins['rate'])}, 95 % bounds {_bounds(wins['ci95'])}",
        f"fact recall {_shown(recall['before'])} -> {_shown(recall['after'])}",
    ]


def _shares(verdicts: Sequence[Verdict]) -> tuple[float, float, float]:
    """Shares of before wins, after wins and ties among the valid verdicts; all 0 when there is none."""
    counts = _counts(verdicts)
    valid = counts["before_wins"] + counts["after_wins"] + counts["ties"]
    if not valid:
        return 0.0, 0.0, 0.0
    return counts["before_wins"] / valid, counts["after_wins"] / valid, counts["ties"] / valid


def _rate(shares: tuple[float, float, float]) -> float | None:
    """After wins plus half the ties; None without a valid verdict."""
    return shares[1] + shares[2] / 2 if any(shares) else None


def _counts(verdicts: Sequence[Verdict]) -> dict[str, int]:
    outcomes = [v.outcome for v in verdicts]
    return {
        "after_wins": outcomes.count("second"),
        "before_wins": outcomes.count("first"),
        "ties": outcomes.count("tie"),
        "invalid": outcomes.count("failed"),
    }


def _mean_or_none(values: Sequence[float]) -> float | None:
    """Nothing to average is unknown, not zero."""
    return mean(values) if values else None


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def _bounds(bounds: list[float] | None) -> str:
    return "unknown" if bounds is None else f"{bounds[0]:.2f} to {bounds[1]:.2f}"
