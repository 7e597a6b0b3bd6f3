"""What is missing on this machine and in this workspace, and the cure."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from lpm_kernel.config import Config, shown_url
from lpm_kernel.errors import LpmError
from lpm_kernel.L2.dpo import utils
from lpm_kernel.pipeline import STEPS
from lpm_kernel.serving.endpoint import ServingConfig
from lpm_kernel.serving.engines import find_engines
from lpm_kernel.serving.probe import who_listens
from lpm_kernel.standing import CURES, missing_inputs, wanted
from lpm_kernel.workspace import Workspace

LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "gguf", "openai", "sacrebleu")
LEAST_FREE_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    found: str
    fine: bool
    blocks: bool = False
    """The pipeline cannot run before this is cured."""
    cure: str = ""


def examine(workspace: Workspace, configs: Mapping[str, Config]) -> list[Finding]:
    """Everything, in the order in which a newcomer would cure it."""
    return [
        *_machine(workspace),
        *_converter(configs),
        *_serving(configs),
        *_judge(configs),
        *_data(workspace, configs),
    ]


def _machine(workspace: Workspace) -> Iterator[Finding]:
    running = ".".join(map(str, sys.version_info[:3]))
    fine = sys.version_info >= (3, 11)
    yield Finding("Python", running, fine, not fine, "" if fine else "install Python 3.11 or newer")
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    cure = "bash scripts/setup" if missing else ""
    yield Finding("libraries", f"missing: {', '.join(missing)}" if missing else "all", not missing, bool(missing), cure)
    place = next(p for p in (workspace.root, *workspace.root.parents) if p.exists())
    writable = os.access(place, os.W_OK)
    cure = "" if writable else "choose a folder of yours with --workspace"
    yield Finding("workspace", str(workspace.root), writable, not writable, cure)
    free = shutil.disk_usage(place).free
    roomy = free >= LEAST_FREE_BYTES
    cure = "" if roomy else "free at least three times the size of your model"
    yield Finding("disk", f"{free / 1024**3:.0f} GiB free", roomy, cure=cure)


def _converter(configs: Mapping[str, Config]) -> Iterator[Finding]:
    from lpm_kernel.serving.converter import find_converter

    try:
        found = str(find_converter(configs["sft-gguf"].model_dump()["converter_path"]))
        yield Finding("GGUF converter", found, True)
    except LpmError:
        yield Finding("GGUF converter", "not there", False, True, "bash scripts/setup")


def _serving(configs: Mapping[str, Config]) -> Iterator[Finding]:
    config = configs["dpo-data"]
    assert isinstance(config, ServingConfig)
    names = [engine.name for engine in find_engines(config)]
    cure = "" if names else "bash scripts/setup installs xllamacpp"
    yield Finding("server", ", ".join(names) or "none", bool(names), not names, cure)
    yield Finding(f"port {config.port}", who_listens(config.port), True)


def _judge(configs: Mapping[str, Config]) -> Iterator[Finding]:
    config = configs["dpo-data"].model_dump()
    if config["judge"] == "reference":
        yield Finding("judge", "reference (embedded)", True)
        return
    base_url = config["judge_base_url"] or os.environ.get("OPENAI_BASE_URL") or utils.OPENAI_BASE_URL
    key = os.environ.get("OPENAI_API_KEY") or utils.OPENAI_API_KEY
    fine = bool(key or base_url)
    cure = "" if fine else "OPENAI_API_KEY in .env, or judge without network: --set dpo-data.judge=reference"
    where = shown_url(base_url) or "api.openai.com"
    yield Finding(
        "judge", f"{config['judge_model']} at {where}, key {'set' if key else 'not set'}", fine, not fine, cure
    )


def _data(workspace: Workspace, configs: Mapping[str, Config]) -> Iterator[Finding]:
    lacking = missing_inputs(workspace, wanted(workspace, configs, STEPS[-1].name))
    for artifact in CURES:
        path = workspace.find(artifact)
        if path is not None:
            yield Finding(artifact, str(path), True)
        elif artifact in lacking:
            yield Finding(artifact, "not there", False, True, f"{workspace.place(artifact)}: {CURES[artifact]}")
