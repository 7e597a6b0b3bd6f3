"""Which workspace and which settings a command works with."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lpm_kernel.config import Config, Layer, check_layer, environment_layer, preset_layer, resolve, toml_layer
from lpm_kernel.errors import ConfigError, UsageError
from lpm_kernel.L2.dpo import utils
from lpm_kernel.owner.items import SecondMeConfig
from lpm_kernel.pipeline import kinds, step_named
from lpm_kernel.progress import say
from lpm_kernel.workspace import Workspace, write_atomically

CHECKOUT = Path(__file__).resolve().parents[1]
OWNERS = ("merged.json", "global_bio", "base_model", "merged_model", "personal_model", "lpm.gguf")
"""Artifacts that make a workspace somebody's."""


def default_root() -> Path:
    """`resources/` of the checkout that we run from, else of the current folder."""
    base = CHECKOUT if (CHECKOUT / "pyproject.toml").is_file() else Path.cwd()
    return base / "resources"


def open_workspace(given: str = "", *, demo: bool = False, dry_run: bool = False) -> Workspace:
    """The workspace of the flag, of LPM_WORKSPACE, or the default one; with `demo`, filled with the demo's owner.

    The demo never mixes with an owner's files: where there are some, it lives in `demo/` below.
    """
    _load_dotenv()
    workspace = Workspace(Path(given or os.environ.get("LPM_WORKSPACE", "") or default_root()).expanduser())
    if demo:
        workspace = _demo_workspace(workspace)
        if not dry_run:
            _fill_with_demo(workspace)
    elif (utils.GLOBAL_BIO or "").strip():
        _take_documented_bio(workspace)
    return workspace


def resolve_all(
    workspace: Workspace,
    *,
    preset: str = "",
    assignments: Iterable[str] = (),
    flags: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Config]:
    """Every step's settings; raises ConfigError or UsageError that names the wrong key and the nearest right one."""
    known = kinds()
    file = toml_layer(workspace.settings_path())
    chosen = preset or os.environ.get("LPM_PRESET", "") or file.preset
    layers = [preset_layer(chosen)] if chosen else []
    layers += [file, environment_layer(known)]
    for layer in layers:
        check_layer(layer, known)
    given = _assigned(assignments, known)
    for step, values in (flags or {}).items():
        given.setdefault(step, {}).update(values)
    return {step: resolve(kind, step, layers, given.get(step, {})) for step, kind in known.items()}


def is_demo(workspace: Workspace) -> bool:
    """Whether the workspace holds the demo's owner."""
    return toml_layer(workspace.settings_path()).preset == "demo"


def _assigned(assignments: Iterable[str], known: Mapping[str, type[Config]]) -> dict[str, dict[str, Any]]:
    given: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        step, dot, key = name.strip().partition(".")
        if not (equals and dot):
            raise UsageError(f"--set {assignment!r}: expected STEP.KEY=VALUE, such as dpo-train.lora_r=32")
        step_named(step)
        try:
            check_layer(Layer("--set", {step: {key: value}}), known)
        except ConfigError as error:
            raise UsageError(str(error)) from None
        given.setdefault(step, {})[key] = value
    return given


def _load_dotenv() -> None:
    """`.env` of the checkout or the current folder; the environment wins over it."""
    from dotenv import load_dotenv

    for folder in (Path.cwd(), CHECKOUT):
        load_dotenv(folder / ".env", override=False)


def _demo_workspace(workspace: Workspace) -> Workspace:
    owners = workspace.settings_path().exists() or any(workspace.find(name) for name in OWNERS)
    if is_demo(workspace) or not owners:
        return workspace
    say(f"{workspace.root} holds files of yours; the demo goes to {workspace.root / 'demo'}")
    return Workspace(workspace.root / "demo")


def _fill_with_demo(workspace: Workspace) -> None:
    """Write what is missing of the demo's owner, data, base model and settings."""
    from lpm_kernel.demo import gift

    if gift.is_complete(workspace):
        return
    with workspace.lock():
        gift.give_settings(workspace)
        config = resolve_all(workspace, preset="demo")["sft-train"]
        assert isinstance(config, SecondMeConfig)
        say("writing the demo's owner, notes and untrained base model")
        gift.give(workspace, config, seed=config.model_dump()["seed"])


def _take_documented_bio(workspace: Workspace) -> None:
    """GLOBAL_BIO of dpo/utils.py becomes the bio file, unless there is one."""
    found = workspace.find("global_bio")
    if found is None:
        write_atomically(workspace.place("global_bio"), utils.GLOBAL_BIO.strip())
        say(f"GLOBAL_BIO of dpo/utils.py written to {workspace.place('global_bio')}; edit it there from now on")
    elif found.read_text(encoding="utf-8", errors="replace").strip() != utils.GLOBAL_BIO.strip():
        say(f"warning: {found} is used; GLOBAL_BIO in dpo/utils.py differs and is not read")
