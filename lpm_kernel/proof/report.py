"""report.html: the decision and what it rests on, for the owner to read; one file, no network.

The page allows its own style and script by their hashes and nothing else, so that whatever an answer holds, a browser
neither runs nor fetches it.
"""

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from lpm_kernel.errors import DataError
from lpm_kernel.files import read_jsonl
from lpm_kernel.owner.language import language_of
from lpm_kernel.proof import figures, sentences
from lpm_kernel.proof.cards import ProbedQuestions, question_cards
from lpm_kernel.proof.charts import Line, line_chart
from lpm_kernel.proof.evaluation import Evaluation, Trial
from lpm_kernel.proof.figures import SIGNS
from lpm_kernel.proof.numbers import number, percent, signed
from lpm_kernel.records import Evidence, Prompt

if TYPE_CHECKING:
    from jinja2 import Template

METRICS = {"training pairs": "rewards/margins", "held-out pairs": "eval_rewards/margins"}
"""The lines of the margins chart, and their keys in the training log."""

TOO_MUCH = 1e9
"""A figure of this size is an accident, and beside it nothing else could be seen."""

OPEN = 3
"""So many questions are open at first."""

UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff]")
"""Controls that show nothing, among them those that turn the order of what follows, and what UTF-8 cannot hold."""


def write_report(
    path: Path,
    *,
    evaluation: Evaluation,
    trials: Sequence[Trial],
    probed: Sequence[ProbedQuestions],
    evidence_path: Path | None,
    prompts_path: Path | None,
    training_log_path: Path | None,
) -> None:
    """Render the page; parts whose file is not there are left out. Raises DataError for a damaged one."""
    questions = question_cards(trials)
    results = Counter(question.result for question in questions)
    page = _template().render(
        evaluation=evaluation,
        sentences=sentences.sentences(evaluation),
        finding=sentences.finding(evaluation),
        headline=sentences.headline(evaluation),
        rules=[
            (rule.holds, sentences.RULES[rule.name][0], sentences.as_sentence(rule.reason))
            for rule in sentences.ordered(evaluation.rules)
        ],
        **_sections(evaluation),
        questions=questions,
        asked_beside=probed,
        counts={result: results[result] for result in SIGNS},
        trained=_pairs(evidence_path, prompts_path),
        margins=_margins(_read_log(training_log_path)),
        lang=language_of(text for trial in trials for text in (trial.prompt.user, trial.prompt.target)),
        style=_part("css"),
        script=_part("js"),
        SIGNS=SIGNS,
        OPEN=OPEN,
    )
    path.write_text(page, encoding="utf-8")


def _sections(evaluation: Evaluation) -> dict[str, Any]:
    """What was measured, in the order of the page; of what was not measured there is nothing."""
    held_out, probed = figures.held_out(evaluation), figures.probed(evaluation.probes)
    others = figures.others(evaluation)
    return {
        "worse": figures.got_worse([part for part in (held_out, *probed, others) if part]),
        "held_out": held_out,
        "probed": probed,
        "length": figures.length(evaluation),
        "examined": evaluation.examination and figures.examined(evaluation.examination),
        "others": others,
    }


@cache
def _template() -> "Template":
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_seen
    )
    environment.filters |= {"signed": signed, "number": number, "csp_hash": _csp_hash}
    return environment.from_string(_part("html.jinja"))


def _part(suffix: str) -> str:
    return (resources.files("lpm_kernel.proof") / f"report.{suffix}").read_text(encoding="utf-8")


# Text -------------------------------------------------------------------------------------------------------------


def _seen(value: Any) -> Any:
    """Jinja asks it of each value that it writes: controls by their number, markup of ours as it is."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return UNSEEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", value.replace("\r\n", "\n"))


def _csp_hash(text: str) -> str:
    """As a Content-Security-Policy names what it allows inline."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


# Margins ----------------------------------------------------------------------------------------------------------


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


# Pairs ------------------------------------------------------------------------------------------------------------


def _pairs(evidence_path: Path | None, prompts_path: Path | None) -> list[dict[str, Any]]:
    if evidence_path is None or prompts_path is None:
        return []
    prompts = {p.id: p for p in read_jsonl(prompts_path, Prompt)}
    return [
        {
            "question": prompts[e.prompt_id].user,
            "chosen": e.answers[e.chosen].text,
            "rejected": e.answers[e.rejected].text,
            "sure": None if e.confidence is None else percent(e.confidence),
            "weighed": e.weighed,
            "reasons": sorted({v.reason for v in e.verdicts if {v.first, v.second} == {e.chosen, e.rejected}}),
        }
        for e in read_jsonl(evidence_path, Evidence)
        if e.chosen is not None and e.rejected is not None and e.prompt_id in prompts
    ]
