"""The gate: what the trials say in numbers, and whether the new model is promoted."""

from collections.abc import Iterator, Sequence

from pydantic import Field

from lpm_kernel.config import Config
from lpm_kernel.export.fidelity import Fidelity
from lpm_kernel.models.merge_report import UpdateRetained
from lpm_kernel.proof.evaluation import Change, Evaluation, FactRecall, Interval, Measures, Origin, Trial, WinRate
from lpm_kernel.proof.statistics import interval, mean
from lpm_kernel.records import Verdict


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


def measure(
    trials: Sequence[Trial],
    config: GateConfig,
    *,
    origin: Origin,
    retained: UpdateRetained | None = None,
    fidelity: Fidelity | None = None,
) -> Measures:
    """The trials in numbers. Intervals are bootstrapped over questions, not over samples."""
    verdicts = [_Shares.of(trial.verdicts) for trial in trials]
    rates = [shares.rate for shares in verdicts if shares]
    recalls = [trial.recall for trial in trials if trial.recall is not None]
    counts = _counts([verdict for trial in trials for verdict in trial.verdicts])
    return Measures(
        prompts=len(trials),
        samples=len(trials[0].before) if trials else 0,
        win_rate=WinRate(**counts, rate=_mean_or_none(rates), ci95=interval(rates, config.bootstrap_seed)),
        fact_recall=FactRecall(
            questions=len(recalls),
            before=_mean_or_none([before for before, _ in recalls]),
            after=_mean_or_none([after for _, after in recalls]),
            ci95_delta=interval([after - before for before, after in recalls], config.bootstrap_seed),
        ),
        stray_facts=Change(
            before=_mean_or_none([trial.strays[0] for trial in trials]),
            after=_mean_or_none([trial.strays[1] for trial in trials]),
        ),
        personalisation_lift=_lift(trials),
        fidelity=fidelity,
        update_retained=retained,
        **dict(origin),
    )


def decide(measures: Measures, config: GateConfig) -> Evaluation:
    """Promote when nothing stands against the new model."""
    objections = tuple(_objections(measures, config))
    return Evaluation(
        **dict(measures),
        decision="keep" if objections else "promote",
        reasons=objections or _merits(measures),
    )


def _objections(measures: Measures, config: GateConfig) -> Iterator[str]:
    """Everything that stands against the new model."""
    wins, recall, retained = measures.win_rate, measures.fact_recall, measures.update_retained
    comparisons = wins.after_wins + wins.before_wins + wins.ties + wins.invalid
    if measures.prompts < config.min_questions:
        yield f"{measures.prompts} held-out questions, at least {config.min_questions} are needed"
    if wins.invalid > config.max_invalid * comparisons:
        yield f"{wins.invalid} of {comparisons} comparisons have no verdict"
    if wins.ci95 is None or wins.ci95[0] <= config.min_win_rate:
        told = f"win rate {_shown(wins.rate)}, 95 % bounds {_bounds(wins.ci95)}"
        yield f"{told}: not above {config.min_win_rate:g} for sure"
    if recall.ci95_delta is not None and recall.ci95_delta[0] < -config.max_recall_loss:
        yield f"fact recall may fall: 95 % bounds of the change {_bounds(recall.ci95_delta)}"
    if retained and retained.projection is None:
        yield "the adapter changes nothing"
    elif retained and retained.projection is not None and retained.projection < config.min_retained:
        yield f"only {retained.projection:.0%} of the update survived rounding"


def _merits(measures: Measures) -> tuple[str, str]:
    wins, recall = measures.win_rate, measures.fact_recall
    return (
        f"win rate {_shown(wins.rate)}, 95 % bounds {_bounds(wins.ci95)}",
        f"fact recall {_shown(recall.before)} -> {_shown(recall.after)}",
    )


class _Shares:
    """Shares of before wins, after wins and ties among the valid verdicts on one question."""

    def __init__(self, before: float, after: float, ties: float) -> None:
        self.before, self.after, self.rate = before, after, after + ties / 2

    @classmethod
    def of(cls, verdicts: Sequence[Verdict]) -> "_Shares | None":
        """None without a valid verdict."""
        counts = _counts(verdicts)
        valid = len(verdicts) - counts["invalid"]
        if not valid:
            return None
        return cls(counts["before_wins"] / valid, counts["after_wins"] / valid, counts["ties"] / valid)


def _lift(trials: Sequence[Trial]) -> Change:
    """Over the questions that were judged by both bios."""
    lifts = []
    for trial in trials:
        own, strangers = _Shares.of(trial.verdicts), _Shares.of(trial.stranger_verdicts)
        if own and strangers:
            lifts.append((own.before - strangers.before, own.after - strangers.after))
    return Change(
        before=_mean_or_none([before for before, _ in lifts]), after=_mean_or_none([after for _, after in lifts])
    )


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


def _bounds(bounds: Interval | None) -> str:
    return "unknown" if bounds is None else f"{bounds[0]:.2f} to {bounds[1]:.2f}"
