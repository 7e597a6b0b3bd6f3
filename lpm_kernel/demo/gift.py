"""What the demo gives a workspace, and taking it away again: its own files, byte for byte, and what its runs made.

`demo.json` at the workspace's root holds {"language": code, "files": {relative name: SHA-256}} of what the
demo gave; an artifact that a run made of nothing else says so in its manifest. Whatever fits neither is the owner's and
stays.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lpm_kernel.demo.owner import ENGLISH, languages
from lpm_kernel.demo.write import write_demo
from lpm_kernel.errors import LpmError
from lpm_kernel.files import file_sha256, make_folder, read_object, remove, write_atomically
from lpm_kernel.owner.items import ItemConfig
from lpm_kernel.pipeline import STEPS
from lpm_kernel.progress import say
from lpm_kernel.workspace import versions
from lpm_kernel.workspace.lock import lock
from lpm_kernel.workspace.manifest import MANIFEST_SUFFIX, files_of, manifest_path
from lpm_kernel.workspace.places import IDENTITY, OWN_MARK, Workspace
from lpm_kernel.workspace.publish import building, set_aside
from lpm_kernel.workspace.publish import give as put

GIFT = "demo.json"
RECORD_FILES = ("config.json", "log.txt", "status.json")
"""Of a run, what tells whose it is last: by it a killed removal is gone on with."""
WORK_FILES = ("journal.sqlite*", "*.log", "checkpoint-*")
SETTINGS = '# The settings of the demo. `lpm clean` takes the demo away.\npreset = "{preset}"'


def preset_of(language: str) -> str:
    """The demo's settings in that language; its own workspace inside another's has the same name."""
    return "demo" if language == ENGLISH else f"demo-{language}"


def belows(workspace: Workspace) -> list[Workspace]:
    """The demos' workspaces inside this one, a language each; they need not be there."""
    return [below(workspace, language) for language in languages()]


def below(workspace: Workspace, language: str) -> Workspace:
    """The workspace of the demo in that language inside this one."""
    return Workspace(workspace.root / preset_of(language))


def language_of(workspace: Workspace) -> str:
    """Of the demo that recorded itself here; empty where none did."""
    if not (workspace.root / GIFT).is_file():
        return ""
    language = _object(workspace.root / GIFT).get("language")
    return language if language in languages() else ENGLISH


def is_complete(workspace: Workspace) -> bool:
    """Whether data, bio and base model are there, the demo's or others."""
    return all(place.exists() for place in _places(workspace).values())


def holds_an_owner(workspace: Workspace) -> bool:
    """Whether data or a model is there that the demo neither gave nor made; an edited bio of the demo's is none."""
    given = _given(workspace)
    models = workspace.base_models_path.glob("*/**/*")
    sources = [path for path in (workspace.find("merged.json"), *models) if path and path.is_file()]
    if not all(_fits(workspace, path, given) for path in sources):
        return True
    if not given and workspace.find("global_bio"):
        return True
    if not all(version.demo for version in versions.all_versions(workspace)):
        return True
    places = [place for name in ("personal_model", "merged_model", "lpm.gguf") if (place := workspace.find(name))]
    manifests = [workspace.manifest(place) for place in places]
    return not all(manifest and manifest.demo for manifest in manifests)


def begin(workspace: Workspace, language: str = ENGLISH) -> None:
    """An empty record, so that what comes next is known to be the demo's; and the settings, where there are none."""
    if not (workspace.root / GIFT).exists():
        _record(workspace, language, {})
    if not workspace.settings_path.exists():
        write_atomically(workspace.settings_path, SETTINGS.format(preset=preset_of(language)))


def give(workspace: Workspace, config: ItemConfig, seed: int) -> None:
    """Write what is missing of the demo's owner, data and base model; needs the lock."""
    places = _places(workspace)
    workspace.refuse_link(workspace.base_models_path)
    with building(places) as drafts:
        language = language_of(workspace)
        write_demo(**drafts, language=language, config=config, seed=seed)
        new = {role: draft for role, draft in drafts.items() if not places[role].exists()}
        given = {
            str((places[role] / name if name else places[role]).relative_to(workspace.root)): file_sha256(file)
            for role, draft in new.items()
            for name, file in files_of(draft).items()
        }
        _record(workspace, language, _given(workspace) | given)
        put(new, places)


def is_all_demo(workspace: Workspace) -> bool:
    """Whether all that a run could start from, data and models, is the demo's; the bio may be edited."""
    return bool(_given(workspace)) and not holds_an_owner(workspace)


def take_away(workspace: Workspace) -> bool:
    """Remove what is the demo's and nothing else, and say what stays; False where no demo recorded itself.

    Raises BusyError while a run is under way.
    """
    if not (workspace.root / GIFT).is_file():
        return False
    with lock(workspace):
        gone = belongings(workspace)
        for path in gone:
            remove(path)
        _prune_after(workspace, gone)
        stays = sorted(p for p in workspace.root.rglob("*") if p.is_file() and p.name not in (".lock", IDENTITY, GIFT))
        for name in (GIFT,) if stays else (GIFT, IDENTITY):
            (workspace.root / name).unlink(missing_ok=True)
    own = (
        f"; {len(stays)} files stay, not its own to the byte: {stays[0].relative_to(workspace.root)} ..."
        if stays
        else ""
    )
    say(f"the demo in {workspace.root} is gone{own}")
    return True


def move_away(workspace: Workspace) -> Path | None:
    """Move the demo into a workspace of its own below, where `lpm pipeline --demo` finds it; needs the lock.

    What is not the demo's own to the byte stays. None where no demo recorded itself. A killed move is gone on with.
    """
    if not (workspace.root / GIFT).is_file():
        return None
    place = below(workspace, language_of(workspace))
    finished = (place.root / GIFT).exists() or place.identity != workspace.identity
    if place.root.is_symlink() or (place.root.exists() and finished):
        say(f"what was in {place.root} is kept as {set_aside(place.root)}")
    place.be(workspace.identity)
    moved = [*belongings(workspace), *_words_on_it(workspace), workspace.root / GIFT]
    for path in moved:
        target = place.root / path.relative_to(workspace.root)
        make_folder(target.parent)
        path.rename(target)
    _prune_after(workspace, moved)
    return place.root


def belongings(workspace: Workspace) -> list[Path]:
    """All that is the demo's and nobody else's, but its record."""
    found = [*_made_by_demo(workspace), *_unchanged_gifts(workspace), *_traces_of_runs(workspace)]
    return [path for path in dict.fromkeys(found) if path.exists() and _is_inside(workspace, path)]


def _words_on_it(workspace: Workspace) -> list[Path]:
    """What the owner said of the demo's answers: theirs, so that it is never taken away, but about no other data."""
    heeded = [workspace.place(artifact) for step in STEPS for artifact in step.heeds.values()]
    return [path for path in heeded if path.is_file() and is_all_demo(workspace)]


def _prune_after(workspace: Workspace, gone: list[Path]) -> None:
    """Take away the folders that are empty now, of what went and of the chain's artifacts."""
    places = [workspace.place(artifact) for step in STEPS for artifact in step.makes.values()]
    for path in (*gone, *places):
        _prune(path.parent, workspace.root)


def _places(workspace: Workspace) -> dict[str, Path]:
    return {
        "merged_path": workspace.place("merged.json"),
        "bio_path": workspace.place("global_bio"),
        "base_model_path": workspace.base_model_place("demo"),
    }


def _given(workspace: Workspace) -> dict[str, str]:
    """Relative name -> SHA-256 of what the demo gave; empty where the record is absent or damaged."""
    files = _object(workspace.root / GIFT).get("files")
    return {str(name): str(sha256) for name, sha256 in files.items()} if isinstance(files, dict) else {}


def _record(workspace: Workspace, language: str, files: dict[str, str]) -> None:
    write_atomically(workspace.root / GIFT, json.dumps({"language": language, "files": files}, indent=2))


def _object(path: Path) -> dict[str, Any]:
    """What is absent or damaged says nothing, so that nothing is taken for the demo's because of it."""
    try:
        return read_object(path, "")
    except LpmError:
        return {}


def _fits(workspace: Workspace, file: Path, given: dict[str, str]) -> bool:
    return given.get(str(file.relative_to(workspace.root))) == file_sha256(file)


def _unchanged_gifts(workspace: Workspace) -> list[Path]:
    given = _given(workspace)
    files = [workspace.root / name for name in given if not Path(name).is_absolute()]
    found = [file for file in files if file.is_file() and _fits(workspace, file, given)]
    settings = workspace.settings_path
    if settings.is_file() and settings.read_text(encoding="utf-8", errors="replace").strip() in _settings():
        found.append(settings)
    return found


def _settings() -> set[str]:
    return {SETTINGS.format(preset=preset_of(language)) for language in languages()}


def _made_by_demo(workspace: Workspace) -> Iterator[Path]:
    """Artifacts with a fitting manifest of a demo run; of a single file, the manifest beside it too.

    A manifest alone is what a killed removal left.
    """
    artifacts = [workspace.place(artifact) for step in STEPS for artifact in step.makes.values()]
    compared = workspace.comparison_path("*", "*").parent.glob("*/*")
    for place in (*artifacts, *(path.with_name(path.name.removesuffix(MANIFEST_SUFFIX)) for path in compared)):
        manifest, record = workspace.manifest(place), manifest_path(place)
        if manifest and manifest.demo:
            yield place
            if place.is_file():
                yield record
        elif not place.exists() and _object(record).get("demo") is True:
            yield record
    kept = [version for version in versions.all_versions(workspace) if version.demo]
    if kept and len(kept) == len(versions.all_versions(workspace)):
        yield workspace.current_path
    yield from (file for version in kept for file in versions.unchanged(workspace, version))


def _traces_of_runs(workspace: Workspace) -> Iterator[Path]:
    """What the demo's runs wrote of themselves, and the work folders that no other run worked in."""
    runs = workspace.runs_path
    demos = [path.parent for path in runs.glob("*/status.json") if _object(path).get("demo") is True]
    yield from (folder / name for folder in demos for name in RECORD_FILES)
    for work in (runs / "work").glob("*/"):
        yield from () if (work / OWN_MARK).exists() else (path for name in WORK_FILES for path in work.glob(name))
    yield from (runs / "hashes.json", runs / "latest")


def _is_inside(workspace: Workspace, path: Path) -> bool:
    """False for a link, and for what lies behind a link that leads out of the workspace."""
    return not path.is_symlink() and path.resolve().is_relative_to(workspace.root.resolve())


def _prune(folder: Path, root: Path) -> None:
    """Take away folders that are empty now, below the root."""
    while folder != root and not (folder.is_dir() and any(folder.iterdir())):
        if folder.is_symlink():
            return
        if folder.is_dir():
            folder.rmdir()
        folder = folder.parent
