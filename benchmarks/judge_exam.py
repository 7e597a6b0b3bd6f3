"""How often the examination passes judges with a known vice, and honest judges with a known share of error.

    nice .venv/bin/python benchmarks/judge_exam.py --runs 200

Each run draws its own questions from the demo owner's notes and its own judge; the table says in how many of them the
judge passed, failed, or could not be examined. `--notes` keeps the notes of a small owner.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from vice_judges import HONEST, VICES, ViceJudge

from lpm_kernel.demo.owner import write_owner
from lpm_kernel.judges.base import Opinion, Question, both_orders
from lpm_kernel.judges.cases import Case, cases_of
from lpm_kernel.judges.examination import ExamConfig, Judged, examined
from lpm_kernel.judges.questions import Owner
from lpm_kernel.owner.bio import read_bio
from lpm_kernel.owner.items import ItemConfig, read_items
from lpm_kernel.records import Prompt, Verdict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--questions", type=int, nargs="*", default=[10, 20, 40])
    parser.add_argument("--notes", type=int, nargs="*", default=[2, 4, 8], help="sizes of small owners")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_owner(place / "merged.json", place / "bio.md")
        items, bio = read_items(place / "merged.json", ItemConfig(user_name="Elin"))[0], read_bio(place / "bio.md")
    judges = {**VICES, **HONEST}
    columns: dict[str, dict[str, Counter[str]]] = {}
    for count in arguments.questions:
        columns[f"{count} questions"] = asyncio.run(run(items, bio, count, arguments.runs))
    for count in arguments.notes:
        columns[f"{count} notes"] = asyncio.run(run(few_notes(items, count), bio, 40, arguments.runs))
    print("| judge | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for label in judges:
        cells = [found[label] for found in columns.values()]
        print(f"| {label} | " + " | ".join(" / ".join(str(c[f]) for f in FINDINGS) for c in cells) + " |")


FINDINGS = ("passed", "failed", "cannot be examined")


def few_notes(items: list[Prompt], count: int) -> list[Prompt]:
    """The items of an owner who has only so many notes."""
    notes = list(dict.fromkeys(note for item in items for note in item.notes))[:count]
    return [item for item in items if item.notes and set(item.notes) <= set(notes)]


async def run(items: list[Prompt], bio: str, questions: int, runs: int) -> dict[str, Counter[str]]:
    """Judge -> how often each finding. Each run draws its questions out of all that the owner's items give."""
    owner = Owner(items, bio)
    pool = [(owner.question(of[0].prompt), of) for of in cases_of(items, owner.facts, len(items))]
    config = ExamConfig()
    found: dict[str, Counter[str]] = {label: Counter() for label in (*VICES, *HONEST)}
    for seed in range(runs):
        cases = random.Random(seed).sample(pool, min(questions, len(pool)))
        for label, rule in {**VICES, **HONEST}.items():
            judge = ViceJudge(label, rule, seed)
            judged = [[await asked(judge, question, case) for case in of] for question, of in cases]
            found[label][examined(judge.name, label, judged, len(cases), config).finding] += 1
    return found


async def asked(judge: ViceJudge, question: Question, case: Case) -> Judged:
    """Both orders of a case, without a journal."""
    forward: Opinion = await judge.compare(question, case.right, case.other)
    outcome, reason, orders = both_orders(forward, await judge.compare(question, case.other, case.right))
    verdict = Verdict(
        prompt_id=case.prompt.id,
        first=0,
        second=1,
        outcome=outcome,
        reason=reason,
        judge=judge.name,
        orders=orders,
        strength=forward.strength,
    )
    return case, verdict


if __name__ == "__main__":
    main()
