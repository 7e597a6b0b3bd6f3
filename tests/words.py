"""An owner's workspace with answers that were judged, written as the chain writes it but without a model."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripted_server import ScriptedServer
from typer.testing import CliRunner

from lpm_kernel.commands.app import app
from lpm_kernel.files import write_jsonl
from lpm_kernel.judges.pairing import Choice as Pair
from lpm_kernel.judges.pairing import choose
from lpm_kernel.pipeline import step_named
from lpm_kernel.records import Answer, Evidence, Message, Outcome, PairsAccount, Prompt, Verdict
from lpm_kernel.runner import run as chain
from lpm_kernel.runner.settings import resolve_all
from lpm_kernel.workspace.places import Workspace

BETTER, WORSE = "Trieste, near the harbour", "Rome, I believe"


def prompt(number: int, question: str = "", **more: object) -> Prompt:
    """The question of that number; its id begins with the number."""
    messages = (
        Message(role="system", content="You are me."),
        Message(role="user", content=question or f"Who? {number}"),
    )
    fields = {"id": f"{number:04}abcdef123456", "row": number, "variant": "memory", "target": "t", "messages": messages}
    return Prompt.model_validate({"notes": (f"note-{number}",)} | fields | more)


def evidence(asked: Prompt, orders: tuple[Outcome, Outcome] = ("first", "first"), **more: object) -> Evidence:
    """Two answers to it, the better one first, with one verdict in both orders."""
    answers = more.pop("answers", (f"{BETTER} {asked.row}", f"{WORSE} {asked.row}"))
    assert isinstance(answers, Sequence)
    outcome = orders[0] if orders[0] == orders[1] else "tie"
    said = {"outcome": outcome, "orders": orders, "reason": "SECRET REASON", "judge": "SECRET-JUDGE"}
    verdict = Verdict.model_validate({"prompt_id": asked.id, "first": 0, "second": 1, **said} | {
        name: more.pop(name) for name in ("strength", "scores") if name in more
    })  # fmt: skip
    choice = choose([verdict])
    pair = vars(choice) if isinstance(choice, Pair) else {"chosen": None, "rejected": None}
    return Evidence.model_validate(
        {
            "prompt_id": asked.id,
            "row": asked.row,
            "variant": asked.variant,
            "answers": tuple(Answer(text=text, finish_reason="stop") for text in answers),
            "verdicts": (verdict,),
            "dropped": None if isinstance(choice, Pair) else choice,
            **pair,
            **more,
        }
    )


def judged_workspace(root: Path, found: Sequence[tuple[Prompt, Evidence]]) -> Workspace:
    """With prompts, items and verdicts in their places, whoever made them."""
    workspace = Workspace(root)
    rows: dict[str, Sequence[Prompt | Evidence]] = {
        "prompts": [asked for asked, _ in found],
        "items": [asked for asked, _ in found],
        "verdicts": [said for _, said in found],
    }
    for artifact, records in rows.items():
        workspace.place(artifact).parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(workspace.place(artifact), records)
    return workspace


def twelve(root: Path) -> Workspace:
    """Twelve prompts, each with a pair."""
    return judged_workspace(root, [(asked, evidence(asked)) for asked in map(prompt, range(12))])


def settings(server: ScriptedServer, *more: str) -> list[str]:
    """Assignments for `dpo-data` with a scripted model and a scripted judge."""
    urls = (f"endpoint={server.url('model')}", f"judge_base_url={server.url('judge-honest')}")
    return [f"dpo-data.{setting}" for setting in ("judge=openai", "accept_judge=true", *urls, *more)]


def make_pairs(workspace: Workspace, server: ScriptedServer, *more: str) -> PairsAccount:
    """Run `dpo-data`, and what it lacks, with a scripted model that answers every prompt in three ways."""
    configs = resolve_all(workspace, assignments=settings(server, *more))
    chain.run_one(step_named("dpo-data"), workspace, configs, {})
    return PairsAccount.model_validate_json(workspace.place("pairs_account").read_bytes())


def told_json(workspace: Workspace, *arguments: str) -> Any:
    """What `lpm ... --json` prints; raises what the command raises."""
    told = CliRunner().invoke(
        app, [*arguments, "--json", "--workspace", str(workspace.root)], catch_exceptions=False, standalone_mode=False
    )
    return json.loads(told.stdout)
