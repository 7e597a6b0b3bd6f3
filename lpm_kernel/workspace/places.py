"""Where everything is: artifact name -> path below the one root, every one."""

import re
import uuid
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lpm_kernel.config import nearest, toml_layer
from lpm_kernel.errors import ConfigError, OutputError, UsageError
from lpm_kernel.files import key_of, make_folder, remove, write_atomically
from lpm_kernel.workspace.manifest import ContentHashes, Manifest, fitting_manifest, misfit

ARTIFACTS: dict[str, tuple[str, ...]] = {
    "merged.json": ("L2/data/merged.json", "data/merged.json"),
    "global_bio": ("L2/data/global_bio.md", "data/stage2/global_bio/global_bio.json"),
    "base_model": ("L2/base_models/*/",),
    "prompts": ("L2/data/dpo/prompts.jsonl",),
    "held_out": ("L2/data/dpo/held_out.jsonl",),
    "probes": ("L2/data/dpo/probes.jsonl",),
    "items": ("L2/data/dpo/items.jsonl",),
    "items_account": ("L2/data/dpo/items_account.json",),
    "examination": ("L2/data/dpo/examination.json",),
    "personal_model": (
        "model/output/personal_model/",
        "model/output/personal_model/*/",
    ),
    "merged_model": ("model/output/merged_model/", "model/output/merged_model/*/"),
    "lpm.gguf": ("model/output/lpm.gguf", "model/output/gguf/*/*.gguf"),
    "fidelity": ("model/output/lpm.fidelity.json",),
    "votes": ("L2/data/dpo/votes.jsonl",),
    "choices": ("L2/data/dpo/choices.jsonl",),
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

GIVEN = ("merged.json", "global_bio", "base_model")
"""Artifacts that only the owner gives."""
SETTINGS = "configs/lpm.toml"
IDENTITY = ".workspace"
HEX = re.compile("[0-9a-f]{32}")
OWN_MARK = ".own"
"""In the work folder of a step: a run on an owner's data worked here, so what lies here is not the demo's alone."""
MODEL_MARKS = ("config.json", "adapter_config.json")


@dataclass
class Workspace:
    """A root folder; makes nothing before the first write."""

    root: Path
    given_base_model: str = ""
    """The base model's name, where something decides it before the settings file does."""

    def __post_init__(self) -> None:
        self.root = self.root.absolute()

    def place(self, name: str) -> Path:
        """Where we write the artifact; raises UsageError for an unknown name."""
        if name not in ARTIFACTS:
            raise UsageError(f"no artifact is called {name!r}; known: {', '.join(ARTIFACTS)}")
        return self.root / ARTIFACTS[name][0].rstrip("/")

    def find(self, name: str) -> Path | None:
        """Where the artifact is now: the first place that holds it, or None; raises ConfigError for an odd choice."""
        self.place(name)
        if name == "base_model" and self.base_model:
            return self._chosen_base_model()
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
        return self.base_models_path / name

    @property
    def base_models_path(self) -> Path:
        """A folder for each base model."""
        return self.place("base_model").parent

    @property
    def base_model(self) -> str:
        """The chosen base model's name; empty when nobody has chosen one."""
        return self.given_base_model or toml_layer(self.settings_path).base_model

    def base_models(self) -> list[str]:
        """Names of the base models that are there."""
        return sorted(p.name for p in self._matches(ARTIFACTS["base_model"][0]) if _holds(p, model=True))

    def _chosen_base_model(self) -> Path | None:
        names = self.base_models()
        if names and self.base_model not in names:
            raise ConfigError(
                f"base_model = {self.base_model!r} names none of those in {self.base_models_path}"
                f"{nearest(self.base_model, names)}; there are: {', '.join(names)}"
            )
        return self.base_model_place(self.base_model) if names else None

    @property
    def settings_path(self) -> Path:
        """The owner's settings file; it need not exist."""
        return self.root / SETTINGS

    @property
    def runs_path(self) -> Path:
        """A folder for each run, and `work/` for what a killed step left."""
        return self.root / "runs"

    @property
    def versions_path(self) -> Path:
        """A folder for each promoted model."""
        return self.root / "model/versions"

    @property
    def current_path(self) -> Path:
        """Which version is served, and which were before."""
        return self.versions_path / "current.json"

    def comparison_path(self, before: str, after: str) -> Path:
        """A folder for what a comparison of two models found."""
        return self.root / "model/comparisons" / f"{before}-{after}"

    @property
    def lock_path(self) -> Path:
        """What the one writer holds."""
        return self.root / ".lock"

    def refuse_links(self) -> None:
        """Raise OutputError for a link by which we would write, empty or remove something outside of the root.

        What the owner gives is only read, so merged.json, the bio, a model's folder or `base_models` may be links; the
        folders that we write into may not lead out. What is below `runs/work` is ours alone: no links, no pipes.
        """
        made = [self.place(name).parent for name in ARTIFACTS if name not in GIVEN]
        folders = {*made, self.versions_path, self.comparison_path("", "").parent, self.settings_path.parent}
        for folder in sorted(
            {parent for path in (*folders, self.runs_path / "work") for parent in (path, *path.parents)}
        ):
            if folder.is_relative_to(self.root) and folder != self.root:
                self.refuse_link(folder)
        for entry in (self.runs_path / "work").rglob("*"):
            if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
                raise OutputError(f"{entry} is a link or no file, but what is there is ours alone; take it away")

    def refuse_link(self, folder: Path) -> None:
        """Raise OutputError when the folder is a link out of the root, to nowhere, or to itself."""
        if not folder.is_symlink():
            return
        try:
            inside = folder.resolve(strict=True).is_relative_to(self.root.resolve())
        except (OSError, RuntimeError):  # a loop is a RuntimeError in Python 3.11
            inside = False
        if not inside:
            raise OutputError(
                f"{folder} is a link out of the workspace (or to nowhere), and nothing is written through it; take it "
                "away, or put the whole workspace where it leads: --workspace"
            )

    def work_path(self, step: str) -> Path:
        """A folder of the step that survives a kill: journal, checkpoints, logs; raises OutputError for a link."""
        self.refuse_links()
        path = self.work_place(step)
        make_folder(path)
        return path

    def work_place(self, step: str) -> Path:
        """Where that folder is, or would be."""
        return self.runs_path / "work" / step

    def clear_work(self, step: str) -> None:
        """Take away what only an unfinished step needs: checkpoints are several times the size of a model."""
        remove(self.work_path(step))

    @cached_property
    def hashes(self) -> ContentHashes:
        """Of the files below the root."""
        return ContentHashes(self.runs_path / "hashes.json")

    def digest(self, path: Path) -> str:
        """Hash of an artifact's content."""
        return self.hashes.digest(path)

    def manifest(self, path: Path) -> Manifest | None:
        """The artifact's manifest when it fits the content, else None."""
        return fitting_manifest(path, self.hashes)

    def misfit(self, path: Path) -> str:
        """What is wrong with an artifact that carries a manifest; empty when it fits, or where there is none."""
        return misfit(path, self.hashes)

    def is_ours(self, path: Path) -> bool:
        """Whether a run in this workspace made the artifact as it is now; all else is the owner's."""
        manifest = self.manifest(path)
        return manifest is not None and not self.is_foreign(manifest)

    def is_foreign(self, manifest: Manifest) -> bool:
        """Whether it tells of a making in another workspace, from where the owner brought the artifact."""
        return manifest.workspace not in ("", self.identity)

    @property
    def identity(self) -> str:
        """What tells this workspace from every other, also once it was moved; empty when damaged or not there."""
        path = self.root / IDENTITY
        words = path.read_text(encoding="utf-8", errors="replace").split() if path.is_file() else []
        if not words or not HEX.fullmatch(words[0]) or words[1:] not in ([], [_checksum(words[0])]):
            return ""
        return words[0]

    def be(self, identity: str) -> None:
        """Write the identity, with a checksum by which a damaged one is known; early ones have none."""
        write_atomically(self.root / IDENTITY, f"{identity} {_checksum(identity)}")

    def identify(self) -> None:
        """Give the workspace its identity, once; needs the lock. A lost one comes back from what was made first."""
        if not self.identity:
            prompts = self.find("prompts")
            manifest = self.manifest(prompts) if prompts else None
            self.be((manifest and manifest.workspace) or uuid.uuid4().hex)


def _checksum(identity: str) -> str:
    return key_of(identity)[:8]


def _holds(path: Path, model: bool) -> bool:
    if model:
        return any((path / mark).is_file() for mark in MODEL_MARKS)
    return path.is_file()
