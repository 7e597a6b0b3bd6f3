"""report.html: the verdict, the answers side by side, the margins curve and the pairs; one file, no network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from lpm_kernel.files import read_jsonl
from lpm_kernel.proof.gate import Trial
from lpm_kernel.records import Evidence, Prompt

WIDTH, HEIGHT, EDGE = 640, 220, 36
"""Of the curve, in SVG units; EDGE is the room for the axes."""


@dataclass(frozen=True)
class Curve:
    """One line of the chart as an SVG path, with its scale."""

    path: str
    low: float
    high: float
    last_step: int
    zero_y: float
    end: float


def write_report(
    path: Path,
    *,
    evaluation: Mapping[str, Any],
    trials: Sequence[Trial],
    evidence_path: Path | None,
    prompts_path: Path | None,
    training_log: Any,
) -> None:
    """Render the page; parts whose file is not there are left out."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = lambda share: "–" if share is None else f"{share:.0%}"  # noqa: RUF001
    environment.filters["signed"] = lambda value: "–" if value is None else f"{value:+.2f}"  # noqa: RUF001
    text = (resources.files("lpm_kernel.proof") / "report.html.jinja").read_text(encoding="utf-8")
    page = environment.from_string(text).render(
        evaluation=evaluation,
        trials=[_row(trial) for trial in trials],
        pairs=_pairs(evidence_path, prompts_path),
        curves={
            "Reward margin on the training pairs": curve(training_log, "rewards/margins"),
            "Reward margin on held-out pairs": curve(training_log, "eval_rewards/margins"),
        },
        width=WIDTH,
        height=HEIGHT,
        edge=EDGE,
    )
    path.write_text(page, encoding="utf-8")


def curve(log: Any, key: str) -> Curve | None:
    """The values of `key` over the steps; None when there are fewer than two."""
    entries = log if isinstance(log, list) else []
    points = [(int(e["step"]), float(e[key])) for e in entries if isinstance(e, dict) and key in e and "step" in e]
    if len(points) < 2:
        return None
    low, high = min(0.0, *(v for _, v in points)), max(0.0, *(v for _, v in points))
    span, steps = (high - low) or 1.0, points[-1][0]

    def y(value: float) -> float:
        return HEIGHT - EDGE - (value - low) / span * (HEIGHT - 2 * EDGE)

    dots = [f"{EDGE + step / steps * (WIDTH - 2 * EDGE):.1f},{y(value):.1f}" for step, value in points]
    return Curve("M" + " L".join(dots), low, high, steps, y(0.0), points[-1][1])


def _row(trial: Trial) -> dict[str, Any]:
    """The first sample of each model, and how all samples of this question came out."""
    outcomes = [v.outcome for v in trial.verdicts]
    return {
        "question": trial.prompt.user,
        "reference": trial.prompt.target,
        "variant": trial.prompt.variant,
        "samples": [
            {"before": b.text, "after": a.text, "outcome": v.outcome, "reason": v.reason}
            for b, a, v in zip(trial.before, trial.after, trial.verdicts, strict=True)
        ],
        "after_wins": outcomes.count("second"),
        "before_wins": outcomes.count("first"),
        "recall": trial.recall,
    }


def _pairs(evidence_path: Path | None, prompts_path: Path | None) -> list[dict[str, Any]]:
    if evidence_path is None or prompts_path is None:
        return []
    prompts = {p.id: p for p in read_jsonl(prompts_path, Prompt)}
    return [
        {
            "question": prompts[e.prompt_id].user,
            "chosen": e.answers[e.chosen].text,
            "rejected": e.answers[e.rejected].text,
            "reasons": sorted({v.reason for v in e.verdicts if {v.first, v.second} == {e.chosen, e.rejected}}),
        }
        for e in read_jsonl(evidence_path, Evidence)
        if e.chosen is not None and e.rejected is not None and e.prompt_id in prompts
    ]
