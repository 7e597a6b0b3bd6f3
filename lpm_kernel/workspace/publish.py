"""The one root: where each artifact is, how it is made complete or not at all, and who may write.

An artifact is a file or a folder. It is built under a temporary name beside its place, flushed, given a
**manifest** (what made it, from which inputs, with which content), and renamed. A folder carries its manifest
inside, as `manifest.json`; a file beside it, as `<name>.manifest.json`, renamed after the old file went and just
before the new one comes, so that a manifest without its content is possible and a content without its manifest is
not. What stands in our way without a manifest of ours that fits is the owner's: it is kept under `<name>.kept-<n>`.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

from lpm_kernel.disk import flush
from lpm_kernel.errors import BusyError, DiskError, OutputError, UsageError
from lpm_kernel.files import MANIFEST, file_sha256, files_of, key_of
from lpm_kernel.progress import say

ARTIFACTS: dict[str, tuple[str, ...]] = {
    "merged.json": ("L2/data/merged.json", "data/merged.json"),
    "global_bio": ("L2/data/global_bio.md", "data/stage2/global_bio/global_bio.json"),
    "base_model": ("L2/base_models/*/",),
    "prompts": ("L2/data/dpo/prompts.jsonl",),
    "held_out": ("L2/data/dpo/held_out.jsonl",),
    "items_account": ("L2/data/dpo/items_account.json",),
    "personal_model": (
        "model/output/personal_model/",
        "model/output/personal_model/*/",
    ),
    "merged_model": ("model/output/merged_model/", "model/output/merged_model/*/"),
    "lpm.gguf": ("model/output/lpm.gguf", "model/output/gguf/*/*.gguf"),
    "fidelity": ("model/output/lpm.fidelity.json",),
    "dpo_full.json": ("L2/data/dpo/dpo_full.json",),
    "dpo_direct.json": ("L2/data/dpo/dpo_direct.json",),
    "verdicts": ("L2/data/dpo/verdicts.jsonl",),
    "pairs_account": ("L2/data/dpo/pairs_account.json",),
    "adapter": ("model/output/dpo_model/adapter/",),
    "dpo_merged_model": ("model/output/dpo_model/merged_model/",),
    "dpo_lpm.gguf": ("model/output/dpo_model/lpm.gguf",),
    "dpo_fidelity": ("model/output/dpo_model/lpm.fidelity.json",),
    "evaluation.json": ("model/output/dpo_model/evaluation.json",),
    "report.html": ("model/output/dpo_model/report.html",),
}
"""Name -> places, the first is where we write; a trailing / is a model folder, `*` takes the newest."""

SETTINGS = "configs/lpm.toml"
TEMPORARY = ".lpm-tmp-"
STAMP = "%Y-%m-%dT%H:%M:%SZ"
MANIFEST_SUFFIX = ".manifest.json"
LOCK_TRIALS, LOCK_PAUSE_S = 5, 0.02
MODEL_MARKS = ("config.json", "adapter_config.json")


@dataclass(frozen=True)
class Manifest:
    """What made an artifact; `files` maps relative names to SHA-256."""

    step: str
    making: str
    """One id for all outputs of one run of the step."""
    config: dict[str, Any]
    flags: list[str]
    """The keys of `config` that were given on the command line."""
    inputs: dict[str, str]
    """Role -> SHA-256 of the content."""
    files: dict[str, str]
    seconds: float
    made_at: str
    versions: dict[str, str]
    demo: bool = False
    """Made of nothing but the demo's own data and base model."""


@dataclass
class Workspace:
    """A root folder; makes nothing before the first write."""

    root: Path
    _hashes: dict[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = self.root.absolute()
        cache = self.root / "runs" / "hashes.json"
        if cache.is_file():
            try:
                self._hashes = json.loads(cache.read_text(encoding="utf-8"))
            except ValueError:
                self._hashes = {}  # a torn cache costs time, not truth

    def place(self, name: str) -> Path:
        """Where we write the artifact; raises UsageError for an unknown name."""
        if name not in ARTIFACTS:
            raise UsageError(f"no artifact is called {name!r}; known: {', '.join(ARTIFACTS)}")
        return self.root / ARTIFACTS[name][0].rstrip("/")

    def find(self, name: str) -> Path | None:
        """Where the artifact is now: the first place that holds it, or None."""
        self.place(name)
        for pattern in ARTIFACTS[name]:
            found = [p for p in self._matches(pattern) if _holds(p, model=pattern.endswith("/"))]
            if found:
                return max(found, key=lambda p: p.stat().st_mtime)
        return None

    def _matches(self, pattern: str) -> list[Path]:
        if "*" not in pattern:
            return [self.root / pattern.rstrip("/")]
        return list(self.root.glob(pattern.rstrip("/")))

    def base_model_place(self, name: str) -> Path:
        """Where a base model of that name lies."""
        return self.root / "L2/base_models" / name

    def settings_path(self) -> Path:
        """The owner's settings file; it need not exist."""
        return self.root / SETTINGS

    def work_path(self, step: str) -> Path:
        """A folder of the step that survives a kill: journal, checkpoints, logs."""
        path = self.root / "runs" / "work" / step
        _make_folder(path)
        return path

    def clear_work(self, step: str) -> None:
        """Take away what only an unfinished step needs: checkpoints are several times the size of a model."""
        _remove(self.work_path(step))

    def digest(self, path: Path) -> str:
        """Hash of an artifact's content; a file that did not change since is not read again."""
        return key_of({name: self._file_hash(file) for name, file in files_of(path).items()})

    def _file_hash(self, path: Path) -> str:
        stat = path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = self._hashes.get(str(path))
        if known and known[:3] == stamp:
            return str(known[3])
        digest = file_sha256(path)
        self._hashes[str(path)] = [*stamp, digest]
        return digest

    def save_hashes(self) -> None:
        """Keep the hashes of unchanged files for the next command; needs the lock."""
        path = self.root / "runs" / "hashes.json"
        live = {name: stamp for name, stamp in self._hashes.items() if os.path.exists(name)}
        write_atomically(path, json.dumps(live))

    def manifest(self, path: Path) -> Manifest | None:
        """The artifact's manifest when it fits the content, else None."""
        try:
            value = json.loads(manifest_path(path).read_text(encoding="utf-8"))
            manifest = Manifest(**value)
        except (OSError, ValueError, TypeError):
            return None  # absent, torn or foreign: not ours
        if not path.exists():
            return None
        files = {name: self._file_hash(file) for name, file in files_of(path).items()}
        return manifest if files == manifest.files else None

    @contextmanager
    def building(self, places: Mapping[str, Path]) -> Iterator[dict[str, Path]]:
        """Temporary paths, one for each place; they vanish unless `publish` took them."""
        drafts = {}
        for role, place in places.items():
            _make_folder(place.parent)
            drafts[role] = place.parent / f"{TEMPORARY}{os.getpid()}-{place.name}"
            _remove(drafts[role])
        try:
            yield drafts
        finally:
            for draft in drafts.values():
                _remove(draft)

    def publish(
        self,
        drafts: Mapping[str, Path],
        places: Mapping[str, Path],
        birth: Mapping[str, Any],
    ) -> None:
        """Give each draft its manifest and its place. `birth` holds the manifest's fields besides `files`."""
        try:
            for role, draft in drafts.items():
                if not draft.exists():
                    raise OutputError(f"step {birth['step']} made no {role} ({places[role]}); this is a defect of ours")
                self._publish_one(draft, places[role], birth)
        except OSError as error:
            raise DiskError(f"{error}; free space and start again: what was there before still is") from error

    def _publish_one(self, draft: Path, place: Path, birth: Mapping[str, Any]) -> None:
        for file in files_of(draft).values():
            flush(file)
        files = {name: file_sha256(file) for name, file in files_of(draft).items()}
        text = json.dumps({**birth, "files": files}, indent=2, ensure_ascii=False)
        if place.exists() and self.manifest(place) is None:
            kept = _free_name(place)
            place.rename(kept)
            say(f"  {place.name} was not as we made it: kept as {kept}")
        if draft.is_dir():
            write_atomically(draft / MANIFEST, text)
            old = place.parent / f"{TEMPORARY}old-{place.name}"
            if place.exists():
                _remove(old)
                place.rename(old)
            draft.rename(place)
            _remove(old)
        else:
            record = draft.with_name(f"{draft.name}{MANIFEST_SUFFIX}")
            _write_flushed(record, text)
            place.unlink(missing_ok=True)  # beside the new manifest it would look like a change of the owner's
            record.rename(manifest_path(place))
            draft.rename(place)
        flush(place.parent)

    def give(self, drafts: Mapping[str, Path], places: Mapping[str, Path]) -> None:
        """Put drafts in their places as an owner would, without a manifest; what is there stays."""
        for role, draft in drafts.items():
            if not places[role].exists():
                draft.rename(places[role])
                flush(places[role].parent)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One writer; raises BusyError naming the holder. The kernel releases it when we die."""
        _make_folder(self.root)
        with (self.root / ".lock").open("a+", encoding="utf-8") as file:
            if not _locked(file):
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise BusyError(f"{self.root} is in use by process {holder}; wait for it, or end it")
            file.seek(0)
            file.truncate()
            file.write(f"{os.getpid()}\n")
            file.flush()
            for leftover in self.root.glob(f"**/{TEMPORARY}*"):
                _remove(leftover)
            yield

    def is_locked(self) -> bool:
        """Whether a run holds the workspace now."""
        path = self.root / ".lock"
        if not path.is_file():
            return False
        with path.open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
        return False


def manifest_path(path: Path) -> Path:
    """Where an artifact's manifest is."""
    return path / MANIFEST if path.is_dir() else path.with_name(path.name + MANIFEST_SUFFIX)


def write_atomically(path: Path, text: str) -> None:
    """A small file, whole or not at all."""
    _make_folder(path.parent)
    draft = path.parent / f"{TEMPORARY}{os.getpid()}-{path.name}"
    _write_flushed(draft, text)
    draft.rename(path)
    flush(path.parent)


def now() -> str:
    """UTC, ISO 8601, seconds."""
    return time.strftime(STAMP, time.gmtime())


def begun_at(manifest: Manifest) -> str:
    """When the run that made the artifact began, as `now` writes it."""
    made = datetime.strptime(manifest.made_at, STAMP)
    return (made - timedelta(seconds=manifest.seconds)).strftime(STAMP)


def _locked(file: TextIO) -> bool:
    """Take the writer's lock if it is free; `is_locked` may hold it for an instant, so one refusal is none."""
    for _ in range(LOCK_TRIALS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(LOCK_PAUSE_S)
        else:
            return True
    return False


def _holds(path: Path, model: bool) -> bool:
    if model:
        return any((path / mark).is_file() for mark in MODEL_MARKS)
    return path.is_file()


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be made ({error.strerror}); choose another --workspace") from None


def _write_flushed(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")
    flush(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _free_name(path: Path) -> Path:
    number = 1
    while (kept := path.with_name(f"{path.name}.kept-{number}")).exists():
        number += 1
    return kept
