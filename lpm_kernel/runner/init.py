"""From the demo, or from nothing, to the owner's own data: files in their places, settings, and nothing lost."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit

from lpm_kernel.demo import gift
from lpm_kernel.demo.owner import ENGLISH, languages
from lpm_kernel.errors import MissingInputError, UsageError
from lpm_kernel.progress import say
from lpm_kernel.runner.settings import edited, resolve_all, vouch
from lpm_kernel.runner.use import USABLE, use
from lpm_kernel.workspace.lock import lock
from lpm_kernel.workspace.manifest import files_of
from lpm_kernel.workspace.places import Workspace

MODELS = ("merged_model", "personal_model", "base_model", "lpm.gguf")


def found_in(tree: Path) -> dict[str, Path]:
    """What a Second-Me tree, or another workspace, holds of data, bio and models: artifact -> place.

    Of its models, those that the chain starts from: the SFT model; else base model and adapter; else the GGUF.
    Raises MissingInputError when there is nothing.
    """
    for root in (tree / "resources", tree):
        place = Workspace(root)
        found = {name: path for name in ("merged.json", "global_bio", *MODELS) if (path := place.find(name))}
        if not found:
            continue
        if "merged_model" in found:
            wanted = {"merged_model"}
        else:
            wanted = {"base_model", "personal_model"} if "base_model" in found else {"lpm.gguf"}
        return {name: path for name, path in found.items() if name not in MODELS or name in wanted}
    raise MissingInputError(f"{tree} holds neither data nor a bio nor a model at Second-Me's places; check the path")


def set_up(workspace: Workspace, sources: Mapping[str, Path], settings: Mapping[str, str]) -> None:
    """Set the demo aside, put the owner's files in their places, and write the settings under [common].

    All is looked at before anything is moved. The workspace is the owner's from then on, and its settings count.
    Raises MissingInputError, DataError or UsageError for what is refused.
    """
    demos = set(gift.belongings(workspace))
    for artifact, source in sources.items():
        USABLE[artifact](source)
        if not demos.isdisjoint(_all(source)):
            raise UsageError(f"{source} belongs to the demo, which is set aside; give a file or model of yours")
    vouch(workspace)
    resolve_all(workspace, assignments=[f"common.{k}={v}" for k, v in settings.items()])
    with lock(workspace):
        below = gift.move_away(workspace)
        if below:
            _tell_of_the_demo(workspace, below, sources)
        for artifact, source in sources.items():
            use(workspace, artifact, source)
        _write_settings(workspace, settings)


def _tell_of_the_demo(workspace: Workspace, below: Path, sources: Mapping[str, Path]) -> None:
    """Where it is, and what stays of what a step would start from: pairs of the demo are not to train an owner's."""
    found = {name: path for name in USABLE if (path := workspace.find(name))}
    whole = "" if found else ", whole"
    language = gift.language_of(Workspace(below))
    again = "--demo" if language == ENGLISH else f"--demo --demo-language {language}"
    say(f"the demo is in {below} now{whole}: lpm pipeline {again} goes on there, lpm clean takes it away")
    for path in (path for name, path in found.items() if name not in sources):
        say(f"{path} is not the demo's to the byte: it stays here, and counts as yours; take it away unless it is")


def _write_settings(workspace: Workspace, settings: Mapping[str, str]) -> None:
    """Into the owner's file, which keeps its other settings and its comments; the demo's preset goes."""
    path = workspace.settings_path
    with edited(path) as document:
        if (preset := document.get("preset")) in [gift.preset_of(language) for language in languages()]:
            del document["preset"]
            say(f"{path}: the preset {preset} is taken out")
        if settings:
            common: Any = document.setdefault("common", tomlkit.table())
            common.update(settings)
            say(f"{path}: {', '.join(f'{key} = {value}' for key, value in settings.items())}")


def lacking(workspace: Workspace, sources: Mapping[str, Path]) -> list[str]:
    """Data, bio and models that are not there once the sources are in place and the demo is set aside."""
    demos = set(gift.belongings(workspace))
    there = {name: workspace.find(name) for name in ("merged.json", "global_bio", *MODELS)}
    return [n for n, path in there.items() if n not in sources and (path is None or not demos.isdisjoint(_all(path)))]


def _all(path: Path) -> set[Path]:
    return {path, *files_of(path).values()}
