"""What is missing on this machine and in this workspace, and the cure: before hours of work, not after."""

import os
import shlex
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from lpm_kernel.config import Config
from lpm_kernel.errors import Finding, LpmError, MissingInputError, OutputError, UsageError
from lpm_kernel.pipeline import STEPS, step_named
from lpm_kernel.progress import human_bytes
from lpm_kernel.runner.settings import documented_bio
from lpm_kernel.runner.state import CURES, StepState, chain_states, missing_inputs, refuse_when_undecided
from lpm_kernel.workspace.places import Workspace

LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "gguf", "openai", "sacrebleu")
LEAST_FREE_BYTES = 2 * 1024**3
PAGE = "README.md"
"""The checkout's own page in the default workspace; nothing of the owner's."""
OTHERS_MAY_ENTER, OTHERS_MAY_READ = stat.S_IXGRP | stat.S_IXOTH, stat.S_IRGRP | stat.S_IROTH


def examine(workspace: Workspace, configs: Mapping[str, Config]) -> list[Finding]:
    """Everything, in the order in which a newcomer would cure it."""
    states = chain_states(workspace, configs, STEPS[-1].name)
    return [*_machine(workspace), *stage_findings([s.name for s in STEPS], configs), *_data(workspace, states)]


def stage_findings(names: list[str], configs: Mapping[str, Config]) -> list[Finding]:
    """What the stages of these steps say of themselves; each thing once."""
    found: dict[Finding, None] = {}
    for name in names:
        preflight = getattr(step_named(name).stage, "preflight", None)
        found |= dict.fromkeys(preflight(configs[name]) if preflight else ())
    return list(found)


def refuse_when_blocked(states: Mapping[str, StepState], configs: Mapping[str, Config]) -> None:
    """Raise the error of the first finding that blocks a step to come."""
    for finding in stage_findings([name for name, state in states.items() if state.must_run], configs):
        finding.refuse()


def _machine(workspace: Workspace) -> Iterator[Finding]:
    running = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python", running, sys.version_info >= (3, 11), "install Python 3.11 or newer", LpmError)
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    told = f"missing: {', '.join(missing)}" if missing else "all"
    yield Finding("libraries", told, not missing, "bash scripts/setup", LpmError)
    place = next(p for p in (workspace.root, *workspace.root.parents) if p.exists())
    writable = os.access(place, os.W_OK)
    yield Finding("workspace", str(workspace.root), writable, "choose a folder of yours with --workspace", OutputError)
    exposed = _exposed(workspace.root)
    told = f"{exposed} files can be read by others on this machine" if exposed else "nobody else can read it"
    yield Finding("privacy", told, not exposed, f"chmod -R go= {shlex.quote(str(workspace.root))}")
    free = shutil.disk_usage(place).free
    cure = "free at least three times the size of your model"
    yield Finding("disk", f"{human_bytes(free)} free", free >= LEAST_FREE_BYTES, cure)


def _exposed(root: Path) -> int:
    """Files that group or others may read, and no folder keeps them from; what older versions or the owner wrote."""

    def open_to(path: Path, bits: int) -> bool:
        return bool(path.lstat().st_mode & bits)

    if not root.is_dir() or not open_to(root, OTHERS_MAY_ENTER):
        return 0
    count = 0
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if open_to(Path(folder, name), OTHERS_MAY_ENTER)]
        files = {Path(folder, name) for name in names} - {root / PAGE}
        count += sum(stat.S_ISREG(file.lstat().st_mode) and open_to(file, OTHERS_MAY_READ) for file in files)
    return count


def _data(workspace: Workspace, states: Mapping[str, StepState]) -> Iterator[Finding]:
    lacking = missing_inputs(workspace, states)
    undecided = ""
    try:
        refuse_when_undecided(workspace, states)
    except UsageError as error:
        undecided = str(error)
    for artifact, cure in CURES.items():
        path = workspace.find(artifact)
        if artifact == "base_model" and undecided:
            yield Finding(artifact, "several", False, undecided, UsageError)
        elif path is not None:
            yield Finding(artifact, str(path))
        elif artifact == "global_bio" and documented_bio():
            yield Finding(artifact, "GLOBAL_BIO of dpo/utils.py, taken over by the next run")
        elif artifact in lacking:
            yield Finding(artifact, "not there", False, f"{workspace.place(artifact)}: {cure}", MissingInputError)
