"""What must hold after a run that was killed, and after a chain that is complete."""

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from kill_laws import (
    DYING_S,
    Repetition,
    Rows,
    half_made,
    journal_rows,
    litter,
    naming,
    questions_of,
    repetition,
    rewritten,
)
from tiny_chain import ASKING, Place

from lpm_kernel.files import file_sha256, key_of
from lpm_kernel.pipeline import STEPS
from lpm_kernel.workspace.manifest import files_of
from lpm_kernel.workspace.places import Workspace

TIMED = {"training_log.json", "merge_report.json", "lpm.fidelity.json"}
"""Reports that hold how long things took."""
SAMPLED = {"evaluation.json", "report.html"}
"""From answers of the real server, which under batching are not the same to the letter."""
IN_FLIGHT = {"dpo-data": 2 * (12 // 3 + 1 + 8), "evaluate": 2 * 8}
"""Prompts under way (12 slots for 3 answers each and one in the queue; 8 verdicts at a time), each with one question
to the model or two to the judge."""
MADE = [artifact for step in STEPS for artifact in step.makes.values()]


@dataclass(frozen=True)
class Before:
    """The state in which a run begins."""

    run: str
    """Id of the run before it."""
    asked: dict[str, list[str]]
    rows: dict[str, Rows]
    children: frozenset[int]

    @classmethod
    def of(cls, place: Place) -> Self:
        return cls(
            place.latest_run(),
            {step: server.settled() for step, server in place.servers.items()},
            {step: journal_rows(place.root, step) for step in ASKING},
            children(),
        )


@dataclass
class Found:
    """After one run."""

    violations: list[str] = field(default_factory=list)
    repetitions: dict[str, Repetition] = field(default_factory=dict)
    """By the step that asked."""
    orphans: dict[int, str] = field(default_factory=dict)
    burial_s: float = 0.0
    """From the death of the run to that of its last child."""

    def hold(self, law: str, against: object) -> None:
        """Note a violation when there is something that speaks against the law."""
        if against:
            self.violations.append(f"{law}, but: {against}")


def check_run(place: Place, before: Before) -> Found:
    """The laws that hold at once after the death of a run."""
    found = Found()
    died = time.monotonic()
    while (alive := naming(place.root) | adopted(before)) and time.monotonic() - died < DYING_S:
        time.sleep(0.005)
    found.burial_s, found.orphans = time.monotonic() - died, alive
    found.hold("no child outlives its run", found.orphans)
    found.hold("an artifact is whole or absent", half_made(place.root))
    found.hold("a kill sets nothing aside", [name for name in litter(place.root) if ".kept-" in name])
    for step, server in place.servers.items():
        earlier, rows = before.asked[step], before.rows[step]
        again = repetition(earlier, server.asked()[len(earlier) :], asked_for(step, rows))
        found.repetitions[step] = again
        found.hold(f"{step} asks nothing again that is journaled", again.repeated > again.allowed and again)
        found.hold(f"{step} leaves little in flight", again.allowed > IN_FLIGHT[step] and again)
        found.hold(f"{step} keeps what is journaled", rewritten(rows, journal_rows(place.root, step)))
    return found


def asked_for(step: str, rows: Rows) -> int:
    """Questions that a scripted server answered; the answers in evaluate's journal are of our own server."""
    own = {key: row for key, row in rows.items() if step != "evaluate" or '"outcome"' in row[1]}
    return questions_of(own, answers=3)


def check_chain(place: Place, reference: Place) -> tuple[dict[str, list[str]], list[str]]:
    """(artifact -> its files that are not as in the undisturbed chain, violations) of a complete chain."""
    ours, theirs = fingerprint(place), fingerprint(reference)
    differing = {artifact: sorted(ours[artifact].items() ^ theirs[artifact].items()) for artifact in theirs}
    names = {artifact: sorted({name for name, _ in files}) for artifact, files in differing.items()}
    found = Found()
    found.hold("a complete chain has every artifact", [a for a in MADE if not Workspace(place.root).place(a).exists()])
    found.hold("a complete chain leaves no litter", litter(place.root))
    found.hold("the chain repeats to the byte", {artifact: files for artifact, files in names.items() if files})
    return names, found.violations


def fingerprint(place: Place) -> dict[str, dict[str, str]]:
    """Artifact -> file -> SHA-256, of all that is promised to repeat."""
    workspace = Workspace(place.root)
    found = {artifact: dict(_hashes(workspace.place(artifact))) for artifact in MADE}
    return {artifact: files for artifact, files in found.items() if files}


def _hashes(path: Path) -> Iterator[tuple[str, str]]:
    for name, file in files_of(path).items():
        if file.is_file() and file.name not in TIMED | SAMPLED:
            yield name or file.name, _placeless_hash(file) if file.suffix in (".json", ".jsonl") else file_sha256(file)


def _placeless_hash(file: Path) -> str:
    """Of a file that may name a server's address, or its hash: each chain has servers on ports of its own."""
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1", file.read_text(encoding="utf-8"))
    return key_of(re.sub(r'"identity": "\w+"', '"identity": ""', text))


# Processes ------------------------------------------------------------------------------------------------------


def children() -> frozenset[int]:
    """Of this process, zombies too."""
    return frozenset(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))


def adopted(before: Before) -> dict[int, str]:
    """Living orphans that came to us, the subreaper: pid -> name; those that died are buried here."""
    found = {}
    for pid in children() - before.children:
        if os.waitpid(pid, os.WNOHANG)[0] == 0:
            found[pid] = Path(f"/proc/{pid}/comm").read_text().strip()
    return found
