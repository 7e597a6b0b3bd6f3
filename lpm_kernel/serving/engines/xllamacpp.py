"""llama.cpp's own server out of the xllamacpp wheel, as a child process (`xllamacpp_child.py`)."""

import sys
from importlib.util import find_spec

from lpm_kernel.serving.engines.base import Launch, Program

NAME = "xllamacpp"


def find() -> list[Program]:
    """The package, where it is installed."""
    return [Program(NAME, NAME, _command)] if find_spec(NAME) else []


def _command(launch: Launch) -> list[str]:
    flags: dict[str, object] = {"--model": launch.gguf_path, "--alias": launch.model_id, "--port": launch.port}
    flags |= {"--slots": launch.slots, "--context-tokens": launch.slots * launch.slot_tokens}
    flags["--threads"] = launch.threads
    child = [sys.executable, "-m", "lpm_kernel.serving.engines.xllamacpp_child"]
    return [*child, *(str(part) for pair in flags.items() for part in pair)]
