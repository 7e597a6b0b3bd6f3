"""What commands print on standard output: tables for people, JSON for machines."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lpm_kernel.config import Config
from lpm_kernel.errors import DataError, Finding, MissingInputError
from lpm_kernel.files import read_record
from lpm_kernel.pipeline import STEPS, step_named
from lpm_kernel.progress import clock, human_bytes, inline, printable, printable_json, say
from lpm_kernel.proof.evaluation import Evaluation
from lpm_kernel.proof.sentences import outcome, sentences
from lpm_kernel.records import Examination, Interval
from lpm_kernel.runner.forecast import forecasts
from lpm_kernel.runner.preflight import stage_findings
from lpm_kernel.runner.run import outputs_of
from lpm_kernel.runner.run_record import latest_status
from lpm_kernel.runner.state import (
    StepState,
    awaited_inputs,
    chain_states,
    forced_from,
    missing_inputs,
    refuse_when_edited,
    refuse_when_lacking,
    refuse_when_undecided,
)
from lpm_kernel.workspace import versions
from lpm_kernel.workspace.places import Workspace

PIPED_CHARS = 400
RULE_SIGNS = {True: "✓", False: "✗", None: "?"}
ASCII_SIGNS = {True: "yes", False: "NO", None: "?"}
RULE_NAME_WIDTH = 12
RULE_COLOURS = {True: "green", False: "red", None: "dim"}
COLOURS = {"done": "green", "running": "cyan", "failed": "red", "stale": "yellow", "pending": "dim"}


def show_steps(as_json: bool) -> None:
    """The table of the chain."""
    if as_json:
        columns = ("needs", "heeds", "makes")
        rows = [{"name": s.name} | {c: list(getattr(s, c).values()) for c in columns} for s in STEPS]
        _print_json({"steps": rows})
        return
    table = _table("step", "needs", "makes")
    for step in STEPS:
        heeded = f"; if there: {', '.join(step.heeds.values())}" if step.heeds else ""
        table.add_row(step.name, ", ".join(step.needs.values()) + heeded, ", ".join(step.makes.values()))
    _console().print(table)


def show_status(workspace: Workspace, configs: Mapping[str, Config], as_json: bool) -> None:
    """Each step's state: from the files, and for what runs or failed from the latest run's record."""
    latest = latest_status(workspace)
    rows = []
    states = chain_states(workspace, configs, STEPS[-1].name)
    awaited = awaited_inputs(states)
    for name, found in states.items():
        note = latest.of(name)
        state: str = "done" if found.name == "given" else "stale" if name in awaited else found.name
        reason = _reason(found, awaited.get(name))
        if note and note.state in ("running", "failed") and state != "done":
            state = note.state
        started_at, seconds = (note.started_at, note.seconds) if note else (None, None)
        if found.manifest:
            started_at, seconds = found.manifest.begun_at, found.manifest.seconds
        outputs = list(outputs_of(step_named(name), workspace))
        times = {"started_at": started_at, "seconds": seconds}
        rows.append({"name": name, "state": state, **times, "outputs": outputs, "reason": reason})
    if as_json:
        _print_json({"run": latest.run, "workspace": str(workspace.root), "steps": rows})
        return
    table = _table("step", "state", "time", "why")
    for row in rows:
        spent = clock(row["seconds"]) if isinstance(row["seconds"], float) else ""
        table.add_row(str(row["name"]), _coloured(str(row["state"])), spent, _cell(str(row["reason"])))
    _print_root(workspace)
    _console().print(table)


def show_plan(
    workspace: Workspace,
    configs: Mapping[str, Config],
    *,
    until: str,
    start: str | None,
    filled: bool,
    as_json: bool,
) -> None:
    """What would run and why, and what stands against it; then raises like the run itself would.

    `filled` says that the demo's files would be written first, so nothing is lacking.
    """
    states = forced_from(chain_states(workspace, configs, until), start)
    lacking = [] if filled else missing_inputs(workspace, states)
    rows: list[dict[str, Any]] = []
    awaited = awaited_inputs(states)
    foreseen = forecasts(workspace, configs, {n: s for n, s in states.items() if s.must_run or n in awaited})
    for name, found in states.items():
        reason = _reason(found, awaited.get(name))
        action = "run" if found.must_run else "run if changed" if name in awaited else "skip"
        rows.append({"name": name, "action": action, "reason": reason, "forecast": foreseen.get(name, [])})
    to_run = [name for name, found in states.items() if found.must_run]
    blocking = [f for f in stage_findings(to_run, configs) if _blocks(f)]
    if as_json:
        told = [f"{finding.what}: {finding.found}" for finding in blocking]
        _print_json({"workspace": str(workspace.root), "steps": rows, "missing": lacking, "blocking": told})
    else:
        table = _table("step", "action", "why")
        for row in rows:
            table.add_row(row["name"], row["action"], _cell("; ".join([row["reason"], *row["forecast"]])))
        _print_root(workspace)
        _console().print(table)
    if lacking:
        for finding in blocking:
            say(f"also: {finding.sentence}")
        refuse_when_lacking(workspace, states)
    refuse_when_undecided(workspace, states)
    refuse_when_edited(states)
    for finding in blocking:
        finding.refuse()


def show_verdict(workspace: Workspace, as_json: bool) -> None:
    """The small table at the end of the chain."""
    path, report = workspace.find("evaluation.json"), workspace.find("report.html")
    assert path is not None
    evaluation = read_record(path, Evaluation)
    if as_json:
        _print_json(evaluation.model_dump(mode="json"))
        return
    _show_measures(evaluation, "before", "after")
    _show_rules(evaluation)
    _show_finding(evaluation, evaluation.decision, "\n".join(sentences(evaluation)).replace("\N{NO-BREAK SPACE}", " "))
    _show_paths(evaluation=path, report=report)
    _console().print("next: open the report in a browser; `lpm serve` serves the model that the evidence stands for")


def show_comparison(found_path: Path, before: str, after: str, as_json: bool) -> None:
    """What a comparison of two models found."""
    evaluation = read_record(found_path / "evaluation.json", Evaluation)
    if as_json:
        _print_json(evaluation.model_dump(mode="json"))
        return
    _show_measures(evaluation, before, after)
    _show_rules(evaluation)
    _show_finding(evaluation, outcome(evaluation), inline("; ".join(evaluation.reasons)))
    if evaluation.to_measure:
        cure = escape(inline(evaluation.to_measure))
        _console().print(f"what would make it measurable: {cure}", soft_wrap=True)
    _show_paths(evaluation=found_path / "evaluation.json", report=found_path / "report.html")


EXAMINED = {
    "other_note": "against another note's answer",
    "vague": "against a vague answer",
    "exchanged": "one fact exchanged",
    "long_wrong": "short and right against long and wrong",
    "long_right": "long and right against short and wrong",
    "paraphrase": "two right answers: a tie is right",
    "right_is_longer": "all with the longer one right",
    "right_is_shorter": "all with the shorter one right",
}
"""How people call the kinds of cases."""


def show_examination(found: Examination, as_json: bool) -> None:
    """What the judge is worth, and whether it is believed."""
    if as_json:
        _print_json(found.model_dump(mode="json"))
        return
    table = _table("cases", "asked", "right", "wrong", "tied", "no verdict")
    for name, cases in {**found.kinds, **found.lengths, **found.tasks, "better answer known": found.all}.items():
        counts = (cases.cases, cases.right, cases.wrong, cases.tied, cases.failed)
        table.add_row(EXAMINED.get(name, name), *map(str, counts))
    _console().print(table)
    figures = _table("", "share", "95 %")
    figures.add_row("accuracy, ties as half", _number(found.accuracy), _bounds(found.accuracy_ci95))
    figures.add_row("verdicts for the first place", _number(found.first_place), _bounds(found.first_place_ci95))
    figures.add_row("longer of two right answers", _number(found.longer), _bounds(found.longer_ci95))
    figures.add_row("orders that disagree", _number(found.flips), "")
    _console().print(figures)
    colour = {"passed": "green", "failed": "red"}.get(found.finding, "yellow")
    told = inline(found.sentence)
    _console().print(f"[bold {colour}]{found.finding}[/]: {escape(told)}", soft_wrap=True)


def show_versions(workspace: Workspace, as_json: bool) -> None:
    """The promoted models, oldest first, and the SFT model that they started from."""
    served = versions.current(workspace)
    rows: list[dict[str, Any]] = []
    for version in versions.all_versions(workspace):
        place = versions.version_path(workspace, version.name)
        size, own = versions.bytes_of(workspace, version)
        evaluation = _evaluation_of(place)
        rows.append(
            {
                "name": version.name,
                "current": version.name == served,
                "promoted_at": version.promoted_at,
                "win_rate": evaluation and evaluation.win_rate.rate,
                "fact_recall": evaluation and evaluation.fact_recall.after,
                "bytes": size,
                "freed_bytes": own,
                "path": str(place),
            }
        )
    if as_json:
        _print_json({"workspace": str(workspace.root), "current": served, "versions": rows})
        return
    table = _table("", "version", "promoted", "win rate", "fact recall", "disk", "removing frees")
    table.add_row(_mark(served == versions.SFT), versions.SFT, "the model that DPO starts from")
    for row in rows:
        measured = (_number(row["win_rate"]), _number(row["fact_recall"]))
        sizes = (human_bytes(row["bytes"]), human_bytes(row["freed_bytes"]))
        table.add_row(_mark(row["current"]), row["name"], _cell(row["promoted_at"]), *measured, *sizes)
    _print_root(workspace)
    _console().print(table)
    _console().print(f"lpm serve serves {served}; lpm rollback VERSION serves another, lpm compare A B judges two")


def _evaluation_of(version_path: Path) -> Evaluation | None:
    """What promoted a version; None, and told, when the record is damaged or gone."""
    path = version_path / versions.EVALUATION
    try:
        return read_record(path, Evaluation)
    except (DataError, MissingInputError):
        say(f"{path} is damaged or gone, so what {version_path.name} won is not known; the model itself is as it is")
        return None


def _show_measures(evaluation: Evaluation, before: str, after: str) -> None:
    wins, answers = evaluation.win_rate, evaluation.answers
    table = _table("", before, after, "95 %")
    for name, change in (
        ("right facts told", answers and answers.right),
        ("wrong facts told", answers and answers.wrong),
        ("answers that tell none", answers and answers.vague),
        ("fact recall", evaluation.fact_recall),
        ("wrong facts an answer", evaluation.stray_facts),
    ):
        if change:
            table.add_row(name, _number(change.before), _number(change.after), _bounds(change.ci95_delta, "+"))
    table.add_row("wins", str(wins.before_wins), str(wins.after_wins), f"{wins.ties} ties")
    table.add_row("win rate", "", _number(wins.rate), _bounds(wins.ci95))
    lift = evaluation.personalisation_lift
    table.add_row(
        "personalisation lift", _number(lift.before, "+"), _number(lift.after, "+"), _bounds(lift.ci95_delta, "+")
    )
    _console().print(table)


def _show_rules(evaluation: Evaluation) -> None:
    """Each rule in a line: the old model's keeping or the new one's promotion rests on it."""
    console = _console()
    signs = RULE_SIGNS if (console.encoding or "").lower().startswith("utf") else ASCII_SIGNS
    for rule in evaluation.rules:
        sign = (f"{signs[rule.holds]:<{max(map(len, signs.values()))}}", RULE_COLOURS[rule.holds])
        name = f" {rule.name.replace('_', ' '):<{RULE_NAME_WIDTH}} "
        console.print(Text.assemble(sign, (name, "bold"), inline(rule.reason)), soft_wrap=True)


def _show_finding(evaluation: Evaluation, told: str, why: str) -> None:
    colour = "green" if evaluation.decision == "promote" else "yellow"
    _console().print(f"[bold {colour}]{escape(told)}[/]: {escape(why)}", soft_wrap=True)


def _show_paths(evaluation: Path, report: Path | None) -> None:
    _print_plain(f"evaluation {evaluation}\nreport     {report}")


def _reason(found: StepState, awaited: Sequence[str] | None) -> str:
    return f"{', '.join(awaited)} will be made again" if awaited else found.reason


def _mark(current: bool) -> str:
    return "current" if current else ""


def show_findings(findings: Sequence[Finding], as_json: bool) -> None:
    """What the doctor found."""
    if as_json:
        _print_json({"findings": [asdict(finding) | {"blocks": _blocks(finding)} for finding in findings]})
        return
    table = _table("", "what", "found", "cure")
    for finding in findings:
        mark = "[green]ok[/]" if finding.fine else "[red]missing[/]" if finding.blocks else "[yellow]note[/]"
        cure = "" if finding.fine else finding.cure
        table.add_row(mark, _cell(finding.what), _cell(finding.found), _cell(cure))
    _console().print(table)


def _console() -> Console:
    """As wide as the terminal; in a pipe, wide enough that no path is broken."""
    return Console(width=None if sys.stdout.isatty() else PIPED_CHARS)


def _blocks(finding: Finding) -> bool:
    return bool(finding.blocks) and not finding.fine


def _print_root(workspace: Workspace) -> None:
    _print_plain(f"workspace {workspace.root}")


def _print_plain(text: str) -> None:
    """Paths, unbroken and as they are but for what steers a terminal."""
    _console().print(printable(text), highlight=False, markup=False, soft_wrap=True)


def _cell(text: str) -> Text:
    """Words of others, files' names among them: no markup, no control characters."""
    return Text(inline(text))


def _number(value: float | None, sign: str = "") -> str:
    return "unknown" if value is None else f"{value:{sign}.2f}"


def _bounds(bounds: Interval | None, sign: str = "") -> str:
    return "" if bounds is None else f"{bounds[0]:{sign}.2f} to {bounds[1]:{sign}.2f}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _coloured(state: str) -> str:
    return f"[{COLOURS[state]}]{state}[/]"


def _print_json(value: Any) -> None:
    print(printable_json(value))
