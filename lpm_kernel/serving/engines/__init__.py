"""The programs that can serve a GGUF here, in the order in which they are tried, and how each is told what to do.

Flags and defaults: llama.cpp's tools/server/README.md. `--cache-ram 0 --no-cache-idle-slots`, because the prompt
cache can restore one conversation into another (llama.cpp #27148); `-kvu`, because `-np` alone splits the KV buffer
and every extra choice of a prompt would copy it. `--reasoning-format none --skip-chat-parsing`, because an answer is
judged and compared as the model wrote it, its thoughts included.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from lpm_kernel.serving.endpoint import ServingConfig

PROJECT_ROOT = Path(__file__).resolve().parents[2]
BINARIES = ("llama.cpp/build/bin/llama-server", "llama.cpp/build/llama_server", "llama.cpp/build/llama-server")
OPTIONAL_FLAGS = (
    "--cache-ram 0",
    "--no-cache-idle-slots",
    "--no-ui",
    "--no-webui",
    "--no-slots",
    "--offline",
    "--reasoning-format none",
    "--skip-chat-parsing",
    "--cors-origins http://127.0.0.1:{port}",
)
"""Passed where the binary knows them: older ones lack the flag and the feature alike."""
HELP_TIMEOUT_S = 15.0
PRIVATE = re.compile(r"^(LLAMA_|HF_|HUGGING|OPENAI_|LPM_)|KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
"""Environment variables that a server would obey unasked, or has no business to know."""


@dataclass(frozen=True)
class Engine:
    """One program that serves GGUF files."""

    name: str
    program: tuple[str, ...]

    @property
    def path(self) -> str:
        """How a person knows the engine: the binary's path, or the package's name."""
        return self.program[0] if len(self.program) == 1 else self.name


@dataclass(frozen=True)
class Order:
    """What the server shall serve, and where."""

    gguf_path: Path
    port: int
    slots: int
    slot_tokens: int
    threads: int


def find_engines(config: ServingConfig) -> list[Engine]:
    """All engines here that the settings allow, best first."""
    engines = []
    if config.engine in ("auto", "llama-server"):
        engines += [Engine("llama-server", (str(path),)) for path in _binaries()]
    if config.engine in ("auto", "xllamacpp") and find_spec("xllamacpp"):
        engines.append(Engine("xllamacpp", (sys.executable, "-m", "lpm_kernel.serving.engines.xllamacpp_child")))
    return engines


def command(engine: Engine, order: Order) -> list[str]:
    """The engine's command line; without the API key, which anyone could read there."""
    if engine.name == "xllamacpp":
        flags = {"--model": order.gguf_path, "--port": order.port, "--slots": order.slots, "--threads": order.threads}
        flags["--context-tokens"] = order.slots * order.slot_tokens
        return [*engine.program, *(str(part) for pair in flags.items() for part in pair)]
    context_tokens = order.slots * order.slot_tokens
    always = f"--host 127.0.0.1 --port {order.port} -np {order.slots} -c {context_tokens} -kvu -t {order.threads}"
    known = _help(engine.program[0])
    optional = [flag.format(port=order.port) for flag in OPTIONAL_FLAGS if flag.split()[0] in known]
    return [*engine.program, "-m", str(order.gguf_path), *" ".join([always, *optional]).split()]


def environment(api_key: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Our environment without what would change the server's settings or is none of its business, and with the key."""
    kept = {name: value for name, value in environ.items() if not PRIVATE.search(name)}
    paths = [str(PROJECT_ROOT), *filter(None, [environ.get("PYTHONPATH")])]
    key = {"LLAMA_API_KEY": api_key} if api_key else {}
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", **key}


def _binaries() -> list[Path]:
    """The documented places below the project and the current folder, then PATH; each file once."""
    places = [root / name for root in (PROJECT_ROOT, Path.cwd()) for name in BINARIES]
    found = shutil.which("llama-server")
    places += [Path(found)] if found else []
    usable = [p.resolve() for p in places if p.is_file() and os.access(p, os.X_OK)]
    return list(dict.fromkeys(usable))


def _help(program: str) -> str:
    """What the binary says of its flags; empty when it cannot even do that (its start will tell why)."""
    try:
        shown = subprocess.run(
            [program, "--help"], capture_output=True, timeout=HELP_TIMEOUT_S, check=False, env=environment("")
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (shown.stdout + shown.stderr).decode("utf-8", errors="replace")
