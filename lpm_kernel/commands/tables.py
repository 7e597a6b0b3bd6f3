"""What commands print on standard output: tables for people, JSON for machines."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from lpm_kernel.config import Config
from lpm_kernel.pipeline import STEPS, step_named
from lpm_kernel.progress import clock
from lpm_kernel.runs import latest_status
from lpm_kernel.standing import forced_from, missing_inputs, refuse_when_lacking, wanted
from lpm_kernel.workspace import Workspace, begun_at

if TYPE_CHECKING:
    from lpm_kernel.doctor import Finding

COLOURS = {"done": "green", "running": "cyan", "failed": "red", "stale": "yellow", "pending": "dim"}


def show_steps(as_json: bool) -> None:
    """The table of the chain."""
    if as_json:
        rows = [{"name": s.name, "needs": list(s.needs.values()), "makes": list(s.makes.values())} for s in STEPS]
        _print_json({"steps": rows})
        return
    table = _table("step", "needs", "makes")
    for step in STEPS:
        table.add_row(step.name, ", ".join(step.needs.values()), ", ".join(step.makes.values()))
    Console().print(table)


def show_status(workspace: Workspace, configs: Mapping[str, Config], as_json: bool) -> None:
    """Each step's state: from the files, and for what runs or failed from the latest run's record."""
    run, notes = latest_status(workspace)
    rows = []
    for name, found in wanted(workspace, configs, STEPS[-1].name).items():
        note = notes.get(name, {})
        state = {"given": "done"}.get(found.state, found.state)
        if note.get("state") in ("running", "failed") and state != "done":
            state = note["state"]
        outputs = [str(p) for a in step_named(name).makes.values() if (p := workspace.find(a))]
        times = {"started_at": note.get("started_at"), "seconds": note.get("seconds")}
        if found.manifest:
            times = {"started_at": begun_at(found.manifest), "seconds": found.manifest.seconds}
        rows.append({"name": name, "state": state, **times, "outputs": outputs, "reason": found.reason})
    if as_json:
        _print_json({"run": run, "workspace": str(workspace.root), "steps": rows})
        return
    table = _table("step", "state", "time", "why")
    for row in rows:
        seconds = row["seconds"]
        spent = clock(seconds) if isinstance(seconds, float) else ""
        table.add_row(str(row["name"]), _coloured(str(row["state"])), spent, str(row["reason"]))
    Console().print(f"workspace {workspace.root}", highlight=False, soft_wrap=True)
    Console().print(table)


def show_plan(
    workspace: Workspace,
    configs: Mapping[str, Config],
    *,
    until: str,
    start: str | None,
    filled: bool,
    as_json: bool,
) -> None:
    """What would run and why; raises MissingInputError like the run itself would.

    `filled` says that the demo's files would be written first, so nothing is lacking.
    """
    standings = wanted(workspace, configs, until)
    lacking = [] if filled else missing_inputs(workspace, standings)
    rows = []
    changed: set[str] = set()
    for name, found in forced_from(standings, start).items():
        step = step_named(name)
        upstream = [a for a in step.needs.values() if a in changed]
        runs = found.state in ("pending", "stale")
        maybe = found.state == "done" and bool(upstream)
        if runs or maybe:
            changed |= set(step.makes.values())
        reason = f"{', '.join(upstream)} will be made again" if maybe else found.reason
        rows.append(
            {"name": name, "action": "run" if runs else "run if changed" if maybe else "skip", "reason": reason}
        )
    if as_json:
        _print_json({"workspace": str(workspace.root), "steps": rows, "missing": lacking})
        return
    table = _table("step", "action", "why")
    for row in rows:
        table.add_row(row["name"], row["action"], row["reason"])
    Console().print(f"workspace {workspace.root}", highlight=False, soft_wrap=True)
    Console().print(table)
    if lacking:
        refuse_when_lacking(workspace, standings)


def show_verdict(workspace: Workspace, as_json: bool) -> None:
    """The small table at the end of the chain."""
    path, report = workspace.find("evaluation.json"), workspace.find("report.html")
    assert path is not None
    evaluation = json.loads(path.read_text(encoding="utf-8"))
    if as_json:
        _print_json(evaluation)
        return
    keys = ("win_rate", "fact_recall", "stray_facts", "personalisation_lift")
    wins, recall, stray, lift = (evaluation[key] for key in keys)
    table = _table("", "before", "after", "95 %")
    table.add_row(
        "fact recall", _number(recall["before"]), _number(recall["after"]), _bounds(recall["ci95_delta"], "+")
    )
    table.add_row("stray facts an answer", _number(stray["before"]), _number(stray["after"]), "")
    table.add_row("wins", str(wins["before_wins"]), str(wins["after_wins"]), f"{wins['ties']} ties")
    table.add_row("win rate", "", _number(wins["rate"]), _bounds(wins["ci95"]))
    table.add_row("personalisation lift", _number(lift["before"], "+"), _number(lift["after"], "+"), "")
    console = Console()
    console.print(table)
    colour = "green" if evaluation["decision"] == "promote" else "yellow"
    console.print(f"[bold {colour}]{evaluation['decision']}[/]: {'; '.join(evaluation['reasons'])}", soft_wrap=True)
    console.print(f"evaluation {path}\nreport     {report}", highlight=False, soft_wrap=True)
    next_step = "open the report in a browser; `lpm serve` serves the model that the evidence stands for"
    console.print(f"next: {next_step}", soft_wrap=True)


def show_findings(findings: Sequence["Finding"], as_json: bool) -> None:
    """What the doctor found."""
    if as_json:
        _print_json({"findings": [f.__dict__ for f in findings]})
        return
    table = _table("", "what", "found", "cure")
    for finding in findings:
        mark = "[green]ok[/]" if finding.fine else "[red]missing[/]" if finding.blocks else "[yellow]note[/]"
        table.add_row(mark, finding.what, finding.found, finding.cure)
    Console().print(table)


def _number(value: float | None, sign: str = "") -> str:
    return "unknown" if value is None else f"{value:{sign}.2f}"


def _bounds(bounds: list[float] | None, sign: str = "") -> str:
    return "" if bounds is None else f"{bounds[0]:{sign}.2f} to {bounds[1]:{sign}.2f}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _coloured(state: str) -> str:
    return f"[{COLOURS[state]}]{state}[/]"


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
