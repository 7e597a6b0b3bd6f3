"""Which workspace and which settings a command works with; secrets are read here, once."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomlkit
from dotenv import dotenv_values

from lpm_kernel.checkout import CHECKOUT, IN_CHECKOUT
from lpm_kernel.config import (
    COMMON,
    Config,
    Layer,
    check_layer,
    environment_layer,
    preset_layer,
    resolve,
    toml_layer,
    variables_layer,
)
from lpm_kernel.demo import gift
from lpm_kernel.demo.owner import ENGLISH, languages, load_owner
from lpm_kernel.errors import ConfigError, DataError, MissingInputError, OutputError, UsageError
from lpm_kernel.files import expanded, file_sha256, read_object, write_atomically
from lpm_kernel.L2.dpo import utils
from lpm_kernel.L2.prepare_data import StageConfig as PrepareConfig
from lpm_kernel.owner.bio import TEMPLATE
from lpm_kernel.pipeline import config_kinds, step_named
from lpm_kernel.progress import say
from lpm_kernel.workspace.lock import lock
from lpm_kernel.workspace.places import Workspace

DOCUMENTED = "dpo/utils.py"
BASE_MODEL = "LPM_BASE_MODEL"
DOTENV = ".env"
PRESET = "LPM_PRESET"
PLACE_CURE = "set XDG_CONFIG_HOME to a folder of yours, or take a workspace in the checkout"
TAKEN_BIO = "documented_bio.json"
"""Below `runs/`: the hash of the bio file that was last written from GLOBAL_BIO."""


def default_root() -> Path:
    """`resources/` of the checkout that we run from, else, installed as a wheel, a folder of the person's own."""
    return CHECKOUT / "resources" if IN_CHECKOUT else expanded("~/.local/share/lpm")


def open_workspace(given: str = "") -> Workspace:
    """The workspace of the flag, of LPM_WORKSPACE, or the default one; nothing is written.

    A relative path begins in the current folder, in `.env` of the checkout beside that file.
    """
    root = _root(given)
    return Workspace(root, _latest(environments(Workspace(root)), BASE_MODEL))


def _root(given: str) -> Path:
    named = given or os.environ.get("LPM_WORKSPACE", "")
    if named:
        return expanded(named)
    in_file = _dotenv(CHECKOUT / DOTENV).get("LPM_WORKSPACE", "") if IN_CHECKOUT else ""
    return CHECKOUT / expanded(in_file) if in_file else default_root()


def demo_workspace(given: str = "", language: str = "") -> tuple[Workspace, str]:
    """The same for the demo, and its language; without a given one, that of the demo which is there, else English.

    A demo never mixes with an owner's files nor with a demo in another language: where there are some, it has a
    workspace of its own below. Raises UsageError when there are some of yours too, or for an unknown language.
    """
    workspace = open_workspace(given)
    theirs = _demo_language(workspace)
    if not _is_for_demos(workspace):
        inside, why = gift.below(workspace, language or ENGLISH), "files of yours"
    elif language and theirs and language != theirs:
        inside, why = gift.below(workspace, language), f"the demo in {theirs!r}, which stays as it is"
    else:
        language = language or theirs or ENGLISH
        load_owner(language)
        return workspace, language
    load_owner(language or ENGLISH)
    if not _is_for_demos(inside) or _demo_language(inside) not in ("", language or ENGLISH):
        raise UsageError(f"{workspace.root} and {inside.root} hold files of yours; give the demo another --workspace")
    say(f"{workspace.root} holds {why}; the demo goes to {inside.root}: look at it with --workspace {inside.root}")
    return inside, language or ENGLISH


def _is_for_demos(workspace: Workspace) -> bool:
    return (is_demo(workspace) or not workspace.settings_path.exists()) and not gift.holds_an_owner(workspace)


def is_demo(workspace: Workspace) -> bool:
    """Whether the workspace holds the demo's owner."""
    return toml_layer(workspace.settings_path).preset in _demo_presets()


def _demo_language(workspace: Workspace) -> str:
    """Of the demo that is there, or that the settings ask for; empty without any."""
    return gift.language_of(workspace) or _demo_presets().get(toml_layer(workspace.settings_path).preset, "")


def _demo_presets() -> dict[str, str]:
    """Preset -> language."""
    return {gift.preset_of(language): language for language in languages()}


def fill_with_demo(workspace: Workspace, language: str = ENGLISH) -> None:
    """Write what is missing of the demo's owner, data, base model and settings."""
    if gift.is_complete(workspace):
        return
    with lock(workspace):
        gift.begin(workspace, language)
        config = resolve_all(workspace, preset=gift.preset_of(language))["prepare"]
        assert isinstance(config, PrepareConfig)
        say("writing the demo's owner, notes and untrained base model")
        gift.give(workspace, config, seed=config.seed)


def resolve_all(
    workspace: Workspace,
    *,
    preset: str = "",
    assignments: Iterable[str] = (),
    flags: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Config]:
    """Every step's settings; raises ConfigError or UsageError that names the wrong key and the nearest right one."""
    known = config_kinds()
    file = replace(toml_layer(_trusted(workspace.settings_path)), came_along=_came_along(workspace))
    sources = environments(workspace)
    chosen = preset or _latest(sources, PRESET) or file.preset
    layers = [preset_layer(chosen)] if chosen else []
    layers += [file, *(source.layer(environment_layer(known, source.values)) for source in sources)]
    for layer in layers:
        check_layer(layer, known)
    layers = [
        replace(variables_layer(known, _documented(), DOCUMENTED), private=True),
        *(source.layer(variables_layer(known, source.values, source.origin)) for source in sources),
        *layers,
    ]
    given = _assigned(assignments, known)
    for step, values in (flags or {}).items():
        given.setdefault(step, {}).update(values)
    return {step: resolve(kind, step, layers, given.get(step, {})) for step, kind in known.items()}


@dataclass(frozen=True)
class Source:
    """Variables of one origin."""

    origin: str
    values: Mapping[str, str]
    came_along: bool = False
    """With a workspace that is no part of the checkout."""

    def layer(self, settings: Layer) -> Layer:
        """Settings that stood here."""
        return replace(settings, origin=self.origin, private=True, came_along=self.came_along)


def environments(workspace: Workspace) -> list[Source]:
    """`.env` of the checkout, `.env` of the workspace, and the environment: later wins. No other folder counts."""
    own, given, came_along = CHECKOUT / DOTENV, _trusted(workspace.root / DOTENV), _came_along(workspace)
    return [
        *([Source(str(own), _dotenv(own))] if IN_CHECKOUT else []),
        Source(str(given), _dotenv(given, came_along), came_along),
        Source("environment", os.environ),
    ]


def _latest(sources: list[Source], name: str) -> str:
    """The variable's value in the last of the sources that gives one."""
    return next((s.values[name] for s in reversed(sources) if s.values.get(name)), "")


def _came_along(workspace: Workspace) -> bool:
    """Whether somebody else may have written its settings: it is no part of the checkout, and nobody vouched for it."""
    places = (Path(os.path.abspath(workspace.root)), workspace.root.resolve())  # noqa: PTH100 - a link counts as we made it
    ours = [*([CHECKOUT] if IN_CHECKOUT else []), *_vouched_for()]
    return not any(place.is_relative_to(root) for place in places for root in ours)


def vouch(workspace: Workspace) -> None:
    """From now on the workspace's settings count like the checkout's: its owner works with it."""
    known = _vouched_for()
    if workspace.root.resolve() not in known and _came_along(workspace):
        path = _vouched_path()
        try:
            write_atomically(path, json.dumps([str(root) for root in (*known, workspace.root.resolve())]))
        except OutputError as error:
            raise ConfigError(f"{error.__cause__}; {PLACE_CURE}") from None
        say(f"the settings of {workspace.root} are trusted from now on: they may say where your keys are sent")


def _vouched_for() -> list[Path]:
    try:
        return [Path(root) for root in json.loads(_vouched_path().read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, ConfigError):
        return []


def _vouched_path() -> Path:
    """A JSON list of folders; raises ConfigError where no home is known. A relative one would be the current folder."""
    given = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    try:
        place = given if given.is_absolute() else Path.home() / ".config"
    except RuntimeError:
        place = given
    if not place.is_absolute():
        raise ConfigError(f"no home folder is known, in which to keep which workspaces are yours; {PLACE_CURE}")
    return place / "lpm/workspaces.json"


def _trusted(path: Path) -> Path:
    """The path; raises ConfigError for a settings file that is another user's, or that others may write."""
    try:
        found = path.stat()
    except OSError:
        return path
    if found.st_uid not in (0, os.geteuid()) and os.geteuid() != 0:
        raise ConfigError(f"{path} belongs to user {found.st_uid}, not to you; copy the workspace, or chown the file")
    by_group = found.st_mode & 0o020 and found.st_gid not in (0, os.getegid())
    if by_group or found.st_mode & 0o002:
        raise ConfigError(f"{path} can be written by others (mode {found.st_mode & 0o777:o}); chmod go-w {path}")
    return path


def _dotenv(path: Path, came_along: bool = False) -> dict[str, str]:
    """The variables of the file; `${NAME}` takes in another variable, but not into a file that came along."""
    try:
        values = dotenv_values(path, interpolate=not came_along)
        return {name: value for name, value in values.items() if value is not None}
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None


def choose_base_model(workspace: Workspace, name: str) -> None:
    """From now on this one of several; written into the owner's settings file."""
    path = workspace.settings_path
    with edited(path) as document:
        document["base_model"] = name
    say(f"base_model = {name!r} is written to {path}; change it there to take another")


@contextmanager
def edited(path: Path) -> Iterator[tomlkit.TOMLDocument]:
    """An owner's settings file to change, with its comments; raises DataError when it is not TOML."""
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        document = tomlkit.parse(text)
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not TOML ({error}); mend it, or move it away") from None
    yield document
    if (changed := tomlkit.dumps(document)) != text:
        write_atomically(path, changed.rstrip())


def documented_bio() -> str:
    """GLOBAL_BIO of dpo/utils.py, where somebody filled it in."""
    return (utils.GLOBAL_BIO or "").strip()


def awaited_bio(workspace: Workspace) -> str:
    """GLOBAL_BIO, where the next run makes it the bio file; empty where the file stays as it is."""
    bio, place, found = documented_bio(), workspace.place("global_bio"), workspace.find("global_bio")
    text = _text_of(found)
    taken = text == TEMPLATE or (found == place and file_sha256(place) == _last_taken(workspace))
    return bio if taken and text != bio else ""


def _text_of(bio_path: Path | None) -> str:
    return bio_path.read_text(encoding="utf-8", errors="replace").strip() if bio_path else TEMPLATE


def take_documented_bio(workspace: Workspace) -> None:
    """GLOBAL_BIO becomes the bio file, and again when it is edited, unless the file is the owner's; needs the lock."""
    bio, place, found = documented_bio(), workspace.place("global_bio"), workspace.find("global_bio")
    if not bio:
        return
    if _text_of(found) == bio:
        _note_taken(workspace, place)
    elif awaited_bio(workspace):
        write_atomically(place, bio)
        _note_taken(workspace, place)
        say(f"GLOBAL_BIO of {DOCUMENTED} written to {place}; edit it there or here, but not in both")
    else:
        say(
            f"warning: {found} is used; GLOBAL_BIO in {DOCUMENTED} differs and is not read, for the file is not as it "
            "came from there. To take GLOBAL_BIO, move the file away; to keep the file, empty GLOBAL_BIO"
        )


def _note_taken(workspace: Workspace, place: Path) -> None:
    """Remember the bio file as it came from GLOBAL_BIO."""
    if place.is_file() and file_sha256(place) != _last_taken(workspace):
        write_atomically(workspace.runs_path / TAKEN_BIO, json.dumps({"sha256": file_sha256(place)}))


def _last_taken(workspace: Workspace) -> str:
    with suppress(MissingInputError, DataError):  # without the record, the file counts as the owner's
        return str(read_object(workspace.runs_path / TAKEN_BIO, "").get("sha256", ""))
    return ""


def _documented() -> dict[str, str]:
    """The variables that dpo/utils.py gives, by their names in the environment."""
    if utils.OPENAI_API_KEY:
        say(f"warning: OPENAI_API_KEY stands in lpm_kernel/L2/{DOCUMENTED}, where a commit can leak it; use .env")
    return {"OPENAI_API_KEY": utils.OPENAI_API_KEY, "OPENAI_BASE_URL": utils.OPENAI_BASE_URL}


def _assigned(assignments: Iterable[str], known: Mapping[str, type[Config]]) -> dict[str, dict[str, Any]]:
    given: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        step, dot, key = name.strip().partition(".")
        if not (equals and dot):
            raise UsageError(f"--set {assignment!r}: expected STEP.KEY=VALUE, such as dpo-train.lora_r=32")
        if step != COMMON:
            step_named(step)
        try:
            check_layer(Layer("--set", {step: {key: value}}), known)
        except ConfigError as error:
            raise UsageError(str(error)) from None
        for name in [step] if step != COMMON else [s for s, kind in known.items() if key in kind.settings()]:
            given.setdefault(name, {})[key] = value
    return given
