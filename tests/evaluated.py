"""An evaluation with every part measured, as one of a small owner would be; a test changes what it is about."""

from typing import Any

from lpm_kernel.models.merge_report import UpdateRetained
from lpm_kernel.proof.evaluation import (
    AnswerShares,
    Change,
    Evaluation,
    FactRecall,
    General,
    JudgeIdentity,
    LikeLength,
    Probes,
    Rule,
    Steering,
    WinRate,
)
from lpm_kernel.records import CasesJudged, Examination, Interval


def change(before: float, after: float, bounds: Interval | None = None) -> Change:
    return Change(before=before, after=after, ci95_delta=bounds)


def shares(right: Change, wrong: Change) -> AnswerShares:
    """Vague is the rest."""
    assert None not in (right.before, right.after, wrong.before, wrong.after)
    rest = [1 - (getattr(right, side) or 0) - (getattr(wrong, side) or 0) for side in ("before", "after")]
    return AnswerShares(questions=42, right=right, wrong=wrong, vague=change(rest[0], rest[1]))


GAIN = shares(change(0.49, 0.86, (0.27, 0.47)), change(0.05, 0.05, (-0.03, 0.02)))
RULES = (
    Rule(name="measurable", holds=True, figure=42, bound=8, reason="42 questions have facts; 8 are needed"),
    Rule(
        name="win_rate", holds=True, figure=0.72, bound=0.5, reason="Win rate 0.72, at least 0.65; above 0.5 is needed"
    ),
    Rule(name="unanswerable", holds=None, figure=None, bound=0.05, reason="No such question was asked"),
    Rule(name="facts", holds=True, figure=0.27, bound=-0.02, reason="Right facts rise by at least 0.27"),
)
PROBES = Probes(
    contested=Steering(questions=36, bios_version=change(0.53, 0.93, (0.3, 0.5)), told=change(0.25, 0.56)),
    unanswerable=shares(change(0.0, 0.0), change(0.10, 0.08, (-0.12, 0.09))),
    paraphrase=shares(change(0.5, 0.8, (0.2, 0.4)), change(0.04, 0.04)),
    general=General(
        questions=20,
        length=change(61.2, 58.4),
        language=change(1.0, 1.0),
        repetition=change(0.02, 0.03),
        refusals=change(0.1, 0.05),
    ),
)
EXAMINATION = Examination(
    judge="n",
    label="judge",
    questions=40,
    all=CasesJudged(cases=160, right=150, wrong=2, tied=8, failed=0),
    kinds={"exchanged": CasesJudged(cases=40, right=36, wrong=1, tied=2, failed=1)},
    tasks={},
    accuracy=0.96,
    accuracy_ci95=(0.92, 0.99),
    flips=0.02,
    ties=0.05,
    longer=0.55,
    longer_ci95=(0.4, 0.69),
    finding="passed",
    passed=True,
    faults=(),
)


def evaluated(**changes: Any) -> Evaluation:
    """Better, with every part; each change replaces one field."""
    fields: dict[str, Any] = {
        "judge": JudgeIdentity(label="judge"),
        "prompts": 42,
        "samples": 4,
        "win_rate": WinRate(after_wins=91, before_wins=18, ties=59, invalid=0, rate=0.72, ci95=(0.65, 0.78)),
        "fact_recall": FactRecall(questions=42, before=0.48, after=0.87, ci95_delta=(0.29, 0.49)),
        "stray_facts": change(0.05, 0.05),
        "personalisation_lift": change(-0.01, 0.02),
        "fidelity": None,
        "update_retained": UpdateRetained(projection=0.97, cosine=1.0),
        "answers": GAIN,
        "like_length": LikeLength(after_longer=0.55, longer_wins=0.48, by_facts=80, rate=0.7, ci95=(0.62, 0.77)),
        "probes": PROBES,
        "examination": EXAMINATION,
        "decision": "promote",
        "finding": "better",
        "reasons": ("win rate 0.72",),
        "rules": RULES,
    }
    return Evaluation.model_validate(fields | changes)


def older(evaluation: Evaluation) -> Evaluation:
    """As a file holds it that knows nothing of answers, rules, probes and examination."""
    new = {"answers", "like_length", "corrected", "probes", "examination", "finding", "rules", "to_measure"}
    return Evaluation.model_validate(evaluation.model_dump(exclude=new))
