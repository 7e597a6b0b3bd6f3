"""The models that were promoted, each kept whole under a name, and which of them is current.

`model/versions/<name>/` holds what the documented places held when the evidence promoted it, in hard links where the
disk allows, so that a version costs space only once a later candidate has taken those places. `version.json` is its
birth certificate; `current.json` beside the folders tells which version is served, and which were before.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from lpm_kernel.errors import DataError, MissingInputError, UsageError
from lpm_kernel.files import draft_of, file_sha256, flush, make_folder, read_record, remove, write_atomically
from lpm_kernel.progress import say
from lpm_kernel.records import Record
from lpm_kernel.workspace.manifest import Sealed, files_of, now
from lpm_kernel.workspace.places import Workspace
from lpm_kernel.workspace.publish import set_aside

SFT = "sft"
"""The name of the model that DPO starts from; it is current while nothing is promoted."""
CANDIDATE = "candidate"
"""The name of what the documented places hold, promoted or not."""
RECORD = "version.json"
WEIGHTS = (".safetensors", ".gguf")
"""Files that nobody edits: where the disk allows, another place of theirs costs no space."""
GGUF = "lpm.gguf"
EVALUATION = "evaluation.json"


class Version(Sealed):
    """One promoted model; `files` maps relative names to SHA-256."""

    name: str
    promoted_at: str
    making: str
    """Of the evaluation that promoted it."""
    questions: str
    """SHA-256 of the held-out questions of that evaluation: no training of this model saw them."""
    files: dict[str, str]
    demo: bool = False


class Change(Record):
    """One change of what is current."""

    version: str
    at: str
    why: Literal["promoted", "rollback"]


class History(Sealed):
    """`current.json`, oldest first."""

    changes: tuple[Change, ...] = ()


def version_path(workspace: Workspace, name: str) -> Path:
    """Where a version of that name lies."""
    return workspace.versions_path / name


def all_versions(workspace: Workspace) -> list[Version]:
    """Oldest first; one whose record is damaged is told, left as it is, and not among them."""
    found = []
    for path in workspace.versions_path.glob(f"v*/{RECORD}"):
        try:
            version = read_record(path, Version)
        except (DataError, MissingInputError):
            version = None
        if version is None or not version.is_whole:
            say(f"{path} is damaged, so {path.parent} counts as no version; its files are as they are")
        elif version.name == path.parent.name and version.name[1:].isdecimal():
            found.append(version)
    return sorted(found, key=lambda version: int(version.name[1:]))


def version_named(workspace: Workspace, name: str) -> Version:
    """Raises UsageError for a name that no version has."""
    versions = {version.name: version for version in all_versions(workspace)}
    if name not in versions:
        known = ", ".join([*versions, SFT])
        raise UsageError(f"no version is called {name!r}; known: {known}; see lpm versions")
    return versions[name]


def history(workspace: Workspace) -> History:
    """What was current when; raises DataError when the record is damaged."""
    path = workspace.current_path
    if not path.exists():
        return History()
    with suppress(DataError, MissingInputError):
        found = read_record(path, History)
        if found.is_whole:
            return found
    raise DataError(f"{path} is damaged; say which version is current: lpm rollback VERSION")


def current(workspace: Workspace) -> str:
    """The name of the version that is served, or SFT: the latest that is still there."""
    there = {SFT, *(version.name for version in all_versions(workspace))}
    return next((c.version for c in reversed(history(workspace).changes) if c.version in there), SFT)


def make_current(workspace: Workspace, name: str, why: Literal["promoted", "rollback"]) -> None:
    """Serve that version from now on; needs the lock."""
    changes: tuple[Change, ...] = ()
    with suppress(DataError):  # whatever it held, it is known again what is current
        changes = history(workspace).changes
    changes = (*changes, Change(version=name, at=now(), why=why))
    if workspace.current_path.is_dir():
        set_aside(workspace.current_path)
    write_atomically(workspace.current_path, History(changes=changes).sealed().model_dump_json(indent=2))


def keep(workspace: Workspace, sources: Mapping[str, Path], making: str, questions: str, demo: bool) -> Version:
    """Keep these artifacts, by the name that each has in the version; needs the lock."""
    name = _fresh_name(workspace)
    draft = draft_of(version_path(workspace, name))
    make_folder(draft)
    try:
        files = {}
        for artifact, source in sources.items():
            for relative, file in files_of(source, with_manifest=True).items():
                place = draft / artifact / relative if relative else draft / artifact
                make_folder(place.parent)
                _keep_file(file, place)
                files[str(place.relative_to(draft))] = file_sha256(place)
        version = Version(name=name, promoted_at=now(), making=making, questions=questions, files=files, demo=demo)
        for folder in {(draft / file).parent for file in files}:
            flush(folder)
        write_atomically(draft / RECORD, version.sealed().model_dump_json(indent=2))
        draft.rename(version_path(workspace, name))
        flush(workspace.versions_path)
    finally:
        remove(draft)
    return version


def _fresh_name(workspace: Workspace) -> str:
    """One that no version ever had: a removed one's name is not given a second time."""
    used = [path.name for path in workspace.versions_path.glob("v*")]
    used += [change.version for change in history(workspace).changes]
    numbers = [int(name[1:]) for name in used if name[1:].isdecimal()]
    return f"v{max(numbers, default=0) + 1}"


def _keep_file(source: Path, place: Path) -> None:
    """Weights are linked and made read-only, so that no program writes over them by either name; the rest is copied."""
    if source.suffix in WEIGHTS:
        link_or_copy(source, place)
        place.chmod(0o400)
    else:
        shutil.copyfile(source, place)
        flush(place)


def link_or_copy(source: Path, place: Path) -> None:
    """The same content at another place, without taking its space twice where the disk knows hard links."""
    try:
        os.link(source.resolve(), place)
    except OSError:
        shutil.copyfile(source, place)
        flush(place)


def whole_gguf(workspace: Workspace, name: str) -> Path:
    """The version's GGUF, hashed anew; raises DataError when it is not what was promoted."""
    version = version_named(workspace, name)
    path = version_path(workspace, name) / GGUF
    if not path.is_file() or file_sha256(path) != version.files.get(GGUF):
        raise DataError(f"{path} is not what was promoted (edited, damaged or removed); go back with: lpm rollback")
    return path


def bytes_of(workspace: Workspace, version: Version) -> tuple[int, int]:
    """All bytes of a version, and those that no other place holds."""
    stats = [file.stat() for file in files_of(version_path(workspace, version.name), with_manifest=True).values()]
    return sum(stat.st_size for stat in stats), sum(stat.st_size for stat in stats if stat.st_nlink == 1)


def remove_version(workspace: Workspace, name: str) -> None:
    """Take a version away for good; needs the lock. Raises UsageError for the current one."""
    version_named(workspace, name)
    if name == current(workspace):
        raise UsageError(f"{name} is current, so it stays; make another current first: lpm rollback")
    remove(version_path(workspace, name))
    flush(workspace.versions_path)


def unchanged(workspace: Workspace, version: Version) -> Iterator[Path]:
    """The version's files that are still what was kept, its record included."""
    root = version_path(workspace, version.name)
    yield from (root / name for name, sha256 in version.files.items() if _fits(root / name, sha256))
    yield root / RECORD


def _fits(path: Path, sha256: str) -> bool:
    return path.is_file() and file_sha256(path) == sha256
