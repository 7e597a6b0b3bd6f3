"""Settings: one pydantic field is the flag, the TOML key, the environment variable and the help line.

Layers, later wins: field default < well-known variables (OPENAI_BASE_URL) < preset < `configs/lpm.toml` < `LPM_...`
variables < flags. Variables stand in `.env` of the checkout, in that of the workspace, or in the environment: it wins.
A TOML table is a step's name (`[dpo-train]`), or `[common]` for keys that several steps share.
The environment variable of `lora_r` of dpo-train is `LPM_DPO_TRAIN_LORA_R`; a common `seed` is `LPM_SEED`.
"""

import difflib
import re
import tomllib
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_after_validator_function

from lpm_kernel.errors import ConfigError, UsageError
from lpm_kernel.urls import is_base_url, login_of, on_loopback, shown_url, split_login

COMMON = "common"
RESERVED = {"LPM_WORKSPACE", "LPM_PRESET", "LPM_SERVE_API_KEY", "LPM_BASE_MODEL"}
"""Environment variables that name no setting of a step."""
ENVIRONMENT = "environment"
"""Under this name a field's extra holds the well-known variable that gives its value."""


class Config(BaseModel):
    """Base of every StageConfig: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), hide_input_in_errors=True)
    own_word: ClassVar[frozenset[str]] = frozenset()
    """Fields that name a program to run: settings that came with a workspace cannot set them."""
    operational: ClassVar[frozenset[str]] = frozenset()
    """Fields of this class that shape how the work is done but not its result: changing one makes nothing stale."""

    _flags: frozenset[str] = PrivateAttr(frozenset())

    @property
    def flags(self) -> frozenset[str]:
        """The keys that were given on the command line: decisions of the hour, not standing settings."""
        return self._flags

    @classmethod
    def all_operational(cls) -> frozenset[str]:
        """The operational fields of the class and its bases."""
        return frozenset().union(*(vars(base).get("operational", ()) for base in cls.__mro__))

    def recorded(self) -> dict[str, Any]:
        """The settings as JSON values; a URL that stands where none belongs, without its user and password."""
        values = self.model_dump(mode="json")
        return {k: shown_url(v) if isinstance(v, str) and "://" in v else v for k, v in values.items()}

    @classmethod
    def settings(cls) -> dict[str, FieldInfo]:
        """The fields that a flag or a settings file may set: all but the secrets."""
        return {key: field for key, field in cls.model_fields.items() if field.annotation is not SecretStr}

    @classmethod
    def variables(cls) -> dict[str, str]:
        """Key -> the well-known environment variable that gives its value."""
        extras = {key: field.json_schema_extra for key, field in cls.model_fields.items()}
        return {key: str(e[ENVIRONMENT]) for key, e in extras.items() if isinstance(e, dict) and ENVIRONMENT in e}

    @classmethod
    def urls(cls) -> dict[str, str]:
        """Setting that is a base URL -> the secret that is sent there."""
        marks = ((key, mark) for key, field in cls.model_fields.items() for mark in field.metadata)
        return {key: mark.key for key, mark in marks if isinstance(mark, BaseUrl)}

    @model_validator(mode="before")
    @classmethod
    def _take_logins(cls, values: Any) -> Any:
        """User and password of a URL become the secret that is sent there; the URL is kept without them."""
        for url, key in cls.urls().items() if isinstance(values, dict) else ():
            if isinstance(given := values.get(url), str) and (login := login_of(given)):
                values = {**values, url: split_login(given)[1], key: basic_key(login)}
        return values


C = TypeVar("C", bound=Config)
BASIC = "Basic "
"""Begins a secret that is a user and password, as no key does."""
SENDABLE = re.compile(r"[\x20-\x7e]*")
"""What an HTTP header can carry."""


def secret(variable: str, description: str) -> Any:
    """A field that comes from one environment variable (or `.env`) alone: no flag sets it, no file of ours holds it."""
    return Field(SecretStr(""), exclude=True, description=description, json_schema_extra={ENVIRONMENT: variable})


@dataclass(frozen=True)
class OneOf:
    """Marks a text setting that takes one of some names; the error tells them, and the nearest."""

    names: tuple[str, ...]

    def check(self, value: str) -> str:
        """The value; raises ValueError."""
        if value not in self.names:
            raise ValueError(f"expected one of {', '.join(self.names)}{nearest(value, self.names)}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """pydantic asks for this."""
        return no_info_after_validator_function(self.check, handler(source))


@dataclass(frozen=True)
class BaseUrl:
    """Marks a text setting that is the base URL of a server, or empty; `key` is the secret that is sent there."""

    key: str

    def check(self, value: str) -> str:
        """The value; raises ValueError."""
        if value and not is_base_url(value):
            raise ValueError("expected a URL such as http://127.0.0.1:8080/v1, without a query: a key is set by itself")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """pydantic asks for this."""
        return no_info_after_validator_function(self.check, handler(source))


@dataclass(frozen=True)
class Layer:
    """Settings of one origin: table -> key -> value."""

    origin: str
    tables: Mapping[str, Mapping[str, Any]]
    preset: str = ""
    """The preset that a settings file asks for."""
    base_model: str = ""
    """The base model that it chooses among several."""
    private: bool = False
    """A place for secrets: the environment, or `.env`."""
    came_along: bool = False
    """It came with a workspace that is no part of the checkout, so perhaps from somebody else."""


def preset_names() -> list[str]:
    """The presets that ship with the package."""
    return sorted(p.name.removesuffix(".toml") for p in (resources.files("lpm_kernel") / "presets").iterdir())


def preset_layer(name: str) -> Layer:
    """A shipped preset, over the one that it `extends`; raises ConfigError with the nearest name."""
    if name not in preset_names():
        raise ConfigError(f"preset {name!r} does not exist{nearest(name, preset_names())}; known: {preset_names()}")
    tables = tomllib.loads((resources.files("lpm_kernel") / "presets" / f"{name}.toml").read_text(encoding="utf-8"))
    base = preset_layer(extended).tables if (extended := tables.pop("extends", "")) else {}
    merged = {table: {**base.get(table, {}), **tables.get(table, {})} for table in [*base, *tables]}
    return Layer(f"preset {name}", merged)


def toml_layer(path: Path) -> Layer:
    """A settings file; a missing file is an empty layer. Raises ConfigError with the line."""
    if not path.is_file():
        return Layer(str(path), {})
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        preset, base_model = (str(tables.pop(key, "")) for key in ("preset", "base_model"))
        return Layer(str(path), tables, preset=preset, base_model=base_model)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None


def environment_layer(kinds: Mapping[str, type[Config]], environ: Mapping[str, str]) -> Layer:
    """`LPM_...` variables; raises ConfigError for one that names no setting."""
    known = {_variable(step, key): (step, key) for step, kind in kinds.items() for key in kind.settings()}
    known |= {_variable(COMMON, key): (COMMON, key) for key in _shared_keys(kinds)}
    others = RESERVED | {name for kind in kinds.values() for name in kind.variables().values()}
    tables: dict[str, dict[str, Any]] = {}
    for name in sorted(n for n in environ if n.startswith("LPM_") and n not in others):
        if name not in known:
            raise ConfigError(f"environment variable {name} names no setting{nearest(name, known)}; unset or rename it")
        step, key = known[name]
        tables.setdefault(step, {})[key] = environ[name]
    return Layer("environment", tables)


def variables_layer(kinds: Mapping[str, type[Config]], values: Mapping[str, str], origin: str) -> Layer:
    """Well-known variables, such as OPENAI_API_KEY: the only source of the secrets.

    Raises ConfigError as `sendable`.
    """
    tables = {
        step: {key: value for key, name in kind.variables().items() if (value := sendable(name, values, origin))}
        for step, kind in kinds.items()
    }
    return Layer(origin, tables)


def sendable(name: str, values: Mapping[str, str], origin: str) -> str:
    """The variable's value, empty for none; spaces and line ends around it are none of it.

    Raises ConfigError for what no HTTP header can carry, untold.
    """
    value = values.get(name, "").strip()
    if not SENDABLE.fullmatch(value):
        raise ConfigError(f"{name} ({origin}) holds a character that no header can carry; copy it once more")
    return value


def check_layer(layer: Layer, kinds: Mapping[str, type[Config]]) -> None:
    """Raise ConfigError for a table or key that names nothing, with the nearest right one."""
    secrets = {key: name for kind in kinds.values() for key, name in kind.variables().items()}
    for table, keys in layer.tables.items():
        if table != COMMON and table not in kinds:
            raise ConfigError(f"{layer.origin}: table [{table}] is no step{nearest(table, [*kinds, COMMON])}")
        if not isinstance(keys, Mapping):
            raise ConfigError(f"{layer.origin}: {table!r} must be a table, [{table}], but is {keys!r}")
        known = _shared_keys(kinds) if table == COMMON else set(kinds[table].settings())
        for key in keys:
            if key not in known and key in secrets:
                raise ConfigError(f"{layer.origin}: [{table}] {key} is a secret; put {secrets[key]}=... into .env")
            if key not in known:
                raise ConfigError(f"{layer.origin}: [{table}] has no key {key!r}{nearest(key, known)}")


def resolve(kind: type[C], step: str, layers: Iterable[Layer], flags: Mapping[str, Any]) -> C:
    """The step's settings out of all layers; raises ConfigError or UsageError with the origin of a bad value."""
    values: dict[str, Any] = {}
    origins: dict[str, Layer] = {}
    flag_layers = (Layer(f"--{key.replace('_', '-')}", {step: {key: value}}) for key, value in flags.items())
    for layer in (*layers, *flag_layers):
        shared = {k: v for k, v in layer.tables.get(COMMON, {}).items() if k in kind.model_fields}
        own = {**shared, **layer.tables.get(step, {})}
        values |= own
        origins |= dict.fromkeys(own, layer)
    _refuse_open_logins(kind, step, values, origins)
    _refuse_what_came_along(kind, step, values, origins)
    try:
        config = kind.model_validate(values)
        config._flags = frozenset(flags)
        return config
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else "?"
        wrong = UsageError if key in flags else ConfigError
        told = first["msg"].removeprefix("Value error, ")
        origin = origins[key].origin if key in origins else "default"
        shown = shown_url(str(first.get("input"))) if key in kind.urls() else first.get("input")
        raise wrong(f"{step}: {key} = {shown!r} ({origin}): {told}") from None


def _refuse_open_logins(kind: type[Config], step: str, values: Mapping[str, Any], origins: Mapping[str, Layer]) -> None:
    """A user and password in a URL are a secret: others can read the process list, and a settings file is passed on."""
    for key in kind.urls():
        if key in values and login_of(str(values[key])) and not origins[key].private:
            flag = origins[key].origin.startswith("--")
            raise (UsageError if flag else ConfigError)(
                f"{step}: {key} = {shown_url(str(values[key]))!r} ({origins[key].origin}) holds a user and password; "
                f"put the URL into {_variable(COMMON, key)} in the environment or .env, which only you can read"
            )


def _refuse_what_came_along(
    kind: type[Config], step: str, values: Mapping[str, Any], origins: Mapping[str, Layer]
) -> None:
    """Settings that came with a workspace neither name a program to run nor the receiver of a key from elsewhere."""
    came_along = {key for key, layer in origins.items() if layer.came_along}
    for key in sorted(came_along & kind.own_word):
        raise ConfigError(
            f"{step}: {key} = {values[key]!r} ({origins[key].origin}) names a program to run, and this workspace is no "
            f"part of the checkout; if it is yours, say so once: lpm init --workspace PATH; or give "
            f"--{key.replace('_', '-')}"
        )
    for url, key in kind.urls().items():
        astray = url in came_along and key in values and key not in came_along
        if astray and not login_of(str(values[url])) and values[url] and not on_loopback(str(values[url])):
            name = kind.variables()[key]
            raise ConfigError(
                f"{step}: {url} = {shown_url(str(values[url]))!r} ({origins[url].origin}) would be sent your {name} "
                f"({origins[key].origin}), and this workspace is no part of the checkout; if it is yours, say so "
                f"once: lpm init --workspace PATH; or put {name} into the workspace's own .env"
            )


def basic_key(login: str) -> str:
    """`user:password` as what an Authorization header carries (RFC 7617)."""
    return f"{BASIC}{b64encode(login.encode()).decode()}"


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or nothing when no known name is close."""
    match = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""


def _shared_keys(kinds: Mapping[str, type[Config]]) -> set[str]:
    return {key for kind in kinds.values() for key in kind.settings()}


def _variable(step: str, key: str) -> str:
    parts = [key] if step == COMMON else [step, key]
    return "_".join(["LPM", *parts]).upper().replace("-", "_")
