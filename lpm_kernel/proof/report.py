"""report.html: the verdict, the answers side by side, the margins chart and the pairs; one file, no network."""

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeGuard

from lpm_kernel.errors import DataError
from lpm_kernel.files import read_jsonl
from lpm_kernel.proof.charts import Line, line_chart
from lpm_kernel.proof.evaluation import Evaluation, Trial
from lpm_kernel.records import Evidence, Prompt

METRICS = {"training pairs": "rewards/margins", "held-out pairs": "eval_rewards/margins"}
"""The lines of the margins chart, and their keys in the training log."""

TOO_MUCH = 1e9
"""A figure of this size is an accident, and beside it nothing else could be seen."""


def write_report(
    path: Path,
    *,
    evaluation: Evaluation,
    trials: Sequence[Trial],
    evidence_path: Path | None,
    prompts_path: Path | None,
    training_log_path: Path | None,
) -> None:
    """Render the page; parts whose file is not there are left out. Raises DataError for a damaged one."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = lambda share: "–" if share is None else f"{share:.0%}"  # noqa: RUF001
    environment.filters["signed"] = lambda value: "–" if value is None else f"{value:+.2f}"  # noqa: RUF001
    environment.filters["number"] = lambda value: "–" if value is None else f"{value:.2f}"  # noqa: RUF001
    text = (resources.files("lpm_kernel.proof") / "report.html.jinja").read_text(encoding="utf-8")
    page = environment.from_string(text).render(
        evaluation=evaluation,
        trials=[_row(trial) for trial in trials],
        pairs=_pairs(evidence_path, prompts_path),
        margins=_margins(_read_log(training_log_path)),
    )
    path.write_text(page, encoding="utf-8")


def _read_log(path: Path | None) -> Any:
    """The trainer's own list of figures, as it wrote it."""
    if path is None or not path.is_file():
        return []
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); run the step that makes it again") from None


def points(log: Any, key: str) -> list[tuple[int, float]]:
    """(update, value) of each entry of the training log that tells both; NaN and infinity tell nothing."""
    entries = [e for e in log if isinstance(e, dict)] if isinstance(log, list) else []
    found = [(e.get("step"), e.get(key)) for e in entries]
    return [(int(step), float(value)) for step, value in found if _tells(step) and _tells(value)]


def _tells(value: Any) -> TypeGuard[float]:
    """False for NaN too, as every comparison with it is."""
    return isinstance(value, int | float) and abs(value) < TOO_MUCH


def _margins(log: Any) -> dict[str, Any] | None:
    """The chart and where its lines end; None when no line has two points."""
    lines = [Line(label, found) for label, key in METRICS.items() if (found := points(log, key))]
    if all(len(line.points) < 2 for line in lines):
        return None
    chart = line_chart(
        lines,
        name="margins",
        title="Reward margin on the training pairs and on held-out pairs over the updates",
        x_label="updates",
        y_label="reward margin (β · nats)",
    )
    return {"chart": chart, "ends": [(line.label, *line.points[-1]) for line in lines]}


def _row(trial: Trial) -> dict[str, Any]:
    """The first sample of each model, and how all samples of this question came out."""
    outcomes = [v.outcome for v in trial.verdicts]
    return {
        "question": trial.prompt.user,
        "target": trial.prompt.target,
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
