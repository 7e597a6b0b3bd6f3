"""llama.cpp's own server, as a binary that the user built or installed.

Flags and defaults: llama.cpp's tools/server/README.md. `--cache-ram 0 --no-cache-idle-slots`, because the prompt
cache can restore one conversation into another (llama.cpp #27148); `-kvu`, because `-np` alone splits the KV buffer
and every extra choice of a prompt would copy it. `--reasoning-format none --skip-chat-parsing`, because an answer is
judged and compared as the model wrote it, its thoughts included.
"""

import os
import subprocess
from functools import partial
from pathlib import Path

from lpm_kernel.checkout import CHECKOUT
from lpm_kernel.serving.child import WORKING_FOLDER, clean_environment, find_program
from lpm_kernel.serving.engines.base import Launch, Program

NAME = "llama-server"
CURE = "bash scripts/build-llama-cpp"
BINARIES = (
    "llama.cpp/build/bin/llama-server",
    "llama.cpp/build/llama-server",
    "llama.cpp/build/llama_server",
    "build/llama_server",
)
"""Where scripts/build-llama-cpp and others put it."""
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


def find() -> list[Program]:
    """The documented places below the project, then PATH; each file once."""
    found = find_program(NAME)
    places = [*(CHECKOUT / name for name in BINARIES), *([found] if found else [])]
    usable = dict.fromkeys(p.resolve() for p in places if p.is_file() and os.access(p, os.X_OK))
    return [program(path) for path in usable]


def program(path: Path) -> Program:
    """The binary at this path."""
    return Program(NAME, str(path), partial(_command, str(path)))


def _command(binary: str, launch: Launch) -> list[str]:
    context_tokens = launch.slots * launch.slot_tokens
    always = f"--host 127.0.0.1 --port {launch.port} -np {launch.slots} -c {context_tokens} -kvu -t {launch.threads}"
    known = _help(binary)
    optional = [flag.format(port=launch.port) for flag in OPTIONAL_FLAGS if flag.split()[0] in known]
    return [binary, "-m", str(launch.gguf_path), "--alias", launch.model_id, *" ".join([always, *optional]).split()]


def _help(binary: str) -> str:
    """What the binary says of its flags; empty when it cannot even do that (its start will tell why)."""
    try:
        shown = subprocess.run(
            [binary, "--help"],
            capture_output=True,
            timeout=HELP_TIMEOUT_S,
            check=False,
            env=clean_environment(),
            cwd=WORKING_FOLDER,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (shown.stdout + shown.stderr).decode("utf-8", errors="replace")
