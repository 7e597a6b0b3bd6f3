"""Artifacts become whole or stay absent.

An artifact is built under a temporary name beside its place, flushed, given its manifest, and renamed. A file's
manifest is renamed after the old file went and just before the new one comes, so that a manifest without its content
is possible and a content without its manifest is not. What stands in our way without a manifest of ours that fits is
the owner's: it is kept under `<name>.kept-<n>`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lpm_kernel.errors import OutputError, translated
from lpm_kernel.files import (
    TEMPORARY,
    draft_of,
    file_sha256,
    flush,
    free_name,
    make_folder,
    remove,
    write_atomically,
    write_flushed,
)
from lpm_kernel.progress import say
from lpm_kernel.workspace.manifest import MANIFEST, MANIFEST_SUFFIX, Manifest, files_of, manifest_path
from lpm_kernel.workspace.places import Workspace


@contextmanager
def building(places: Mapping[str, Path]) -> Iterator[dict[str, Path]]:
    """Temporary paths, one for each place; they vanish unless `publish` took them."""
    drafts = {}
    for role, place in places.items():
        make_folder(place.parent)
        drafts[role] = draft_of(place)
        remove(drafts[role])
    try:
        yield drafts
    finally:
        for draft in drafts.values():
            remove(draft)


def publish(workspace: Workspace, drafts: Mapping[str, Path], places: Mapping[str, Path], manifest: Manifest) -> None:
    """Give each draft its manifest, with the draft's own files, and its place."""
    for role, draft in drafts.items():
        with translated(places[role]):
            if not draft.exists():
                raise OutputError(f"step {manifest.step} made no {role} ({places[role]}), or something removed it")
            _publish_one(workspace, draft, places[role], manifest)


def give(drafts: Mapping[str, Path], places: Mapping[str, Path]) -> None:
    """Put drafts in their places as an owner would, without a manifest; what is there stays."""
    for role, draft in drafts.items():
        if not places[role].exists():
            draft.rename(places[role])
            flush(places[role].parent)


def _publish_one(workspace: Workspace, draft: Path, place: Path, manifest: Manifest) -> None:
    for file in files_of(draft).values():
        flush(file)
    files = {name: file_sha256(file) for name, file in files_of(draft).items()}
    text = manifest.model_copy(update={"files": files}).sealed().model_dump_json(indent=2)
    if place.exists() and not workspace.is_ours(place):
        say(f"  {place.name} was not as we made it: kept as {set_aside(place)}")
    if draft.is_dir():
        write_atomically(draft / MANIFEST, text)
        old = place.parent / f"{TEMPORARY}old-{place.name}"
        if place.exists():
            remove(old)
            place.rename(old)
        draft.rename(place)
        remove(old)
    else:
        record = draft.with_name(f"{draft.name}{MANIFEST_SUFFIX}")
        write_flushed(record, text)
        place.unlink(missing_ok=True)  # beside the new manifest it would look like a change of the owner's
        record.rename(manifest_path(place))
        draft.rename(place)
    flush(place.parent)


def set_aside(path: Path) -> Path:
    """Give what is the owner's another name beside its place, and tell which."""
    kept = free_name(path, "kept")
    path.rename(kept)
    return kept
