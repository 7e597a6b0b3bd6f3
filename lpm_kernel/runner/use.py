"""What the owner puts in an artifact's place: looked at first, and from then on not made by a step."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from lpm_kernel.config import nearest
from lpm_kernel.errors import MissingInputError, UsageError
from lpm_kernel.files import draft_of, file_sha256, flush, make_folder, read_jsonl, remove
from lpm_kernel.L2.dpo.utils import read_pairs
from lpm_kernel.models.adapter import ADAPTER_CONFIG, read_adapter
from lpm_kernel.models.gguf_header import read_header
from lpm_kernel.models.loading import check_base
from lpm_kernel.owner.bio import read_bio
from lpm_kernel.owner.items import ItemConfig, read_items
from lpm_kernel.progress import say
from lpm_kernel.records import PairChoice, Probe, Prompt, Vote
from lpm_kernel.workspace.manifest import files_of, manifest_path
from lpm_kernel.workspace.places import Workspace
from lpm_kernel.workspace.publish import set_aside
from lpm_kernel.workspace.versions import WEIGHTS, link_or_copy


def _check_trained(path: Path) -> None:
    (read_adapter if (path / ADAPTER_CONFIG).is_file() else check_base)(path)


USABLE: Mapping[str, Callable[[Path], object]] = {
    "merged.json": lambda path: read_items(path, ItemConfig()),
    "global_bio": read_bio,
    "base_model": check_base,
    **dict.fromkeys(("prompts", "held_out", "items"), lambda path: list(read_jsonl(path, Prompt))),
    "probes": lambda path: list(read_jsonl(path, Probe)),
    **dict.fromkeys(("personal_model", "adapter"), _check_trained),
    **dict.fromkeys(("merged_model", "dpo_merged_model"), check_base),
    **dict.fromkeys(("lpm.gguf", "dpo_lpm.gguf"), read_header),
    "dpo_direct.json": read_pairs,
    "votes": lambda path: list(read_jsonl(path, Vote)),
    "choices": lambda path: list(read_jsonl(path, PairChoice)),
}
"""Artifact -> what reads one, and raises MissingInputError or DataError for what cannot be it."""


def use(workspace: Workspace, artifact: str, source: Path | None = None) -> Path:
    """Take a file or folder of the owner's as the artifact, or what is in its place already; needs the lock.

    What was in the place is set aside, the source stays as it is. Returns the place. Raises UsageError for what only
    a step makes, MissingInputError or DataError for what cannot be the artifact.
    """
    if artifact not in USABLE:
        raise UsageError(f"{artifact!r} cannot be given{nearest(artifact, USABLE)}; what can: {', '.join(USABLE)}")
    found = workspace.find(artifact)
    if source is None and found is None:
        raise MissingInputError(f"{workspace.place(artifact)} is not there; name a file: lpm use {artifact} PATH")
    USABLE[artifact](source or found or workspace.place(artifact))
    if source is None or (found and source.resolve() == found.resolve()):
        assert found is not None
        manifest_path(found).unlink(missing_ok=True)
        say(f"{found} is yours from now on, and no step makes it")
        return found
    place = workspace.base_model_place(source.resolve().name) if artifact == "base_model" else workspace.place(artifact)
    _put(artifact, source, place)
    return place


def _is_same(one: Path, other: Path) -> bool:
    """Whether two artifacts have the same files with the same content."""
    ones, others = files_of(one), files_of(other)
    return ones.keys() == others.keys() and all(
        file.samefile(others[name]) or file_sha256(file) == file_sha256(others[name]) for name, file in ones.items()
    )


def _put(artifact: str, source: Path, place: Path) -> None:
    """Whole or not at all, and what was there under another name."""
    make_folder(place.parent)
    draft = draft_of(place)
    remove(draft)
    try:
        for name, file in files_of(source).items():
            if any(part.startswith(".") for part in Path(name).parts):
                continue
            target = draft / name if name else draft
            make_folder(target.parent)
            if artifact == "global_bio":
                target.write_text(read_bio(file) + "\n", encoding="utf-8")
            else:
                (link_or_copy if file.suffix in WEIGHTS else shutil.copyfile)(file, target)
            flush(target)
        if place.exists() and not _is_same(draft, place):
            say(f"what was at {place} is kept as {set_aside(place)}")
        manifest_path(place).unlink(missing_ok=True)
        if not place.exists():
            draft.rename(place)
        flush(place.parent)
    finally:
        remove(draft)
    say(f"{source} is at {place} now, and yours: no step makes it")
