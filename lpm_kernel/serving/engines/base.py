"""What every engine is: programs found here, and how each is told what to serve."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

KEY_VARIABLE = "LLAMA_API_KEY"
"""Environment variable from which llama-server reads its API key; on the command line anyone could read it."""


@dataclass(frozen=True)
class Launch:
    """What the server shall serve, and where."""

    gguf_path: Path
    port: int
    slots: int
    slot_tokens: int
    threads: int

    @property
    def model_id(self) -> str:
        """What the server calls the model, in place of its path; llama.cpp takes a comma as the end of a name."""
        return self.gguf_path.stem.replace(",", "_")


@dataclass(frozen=True)
class Program:
    """One program on this machine that serves GGUF files."""

    engine: str
    path: str
    """How a person knows it: the binary's path, or the package's name."""
    command: Callable[[Launch], list[str]]
    """The command line; the API key comes in KEY_VARIABLE."""


@dataclass(frozen=True)
class Engine:
    """A family of programs: all that the rest of the program needs to know of it."""

    find: Callable[[], Sequence[Program]]
    """Those that are here, best first."""
    cure: str
    """The command that puts one here."""


def child_command(module: str, launch: Launch) -> list[str]:
    """The command line of an engine that is a module of ours."""
    flags = {"--model": launch.gguf_path, "--port": launch.port, "--slots": launch.slots, "--threads": launch.threads}
    flags["--context-tokens"] = launch.slots * launch.slot_tokens
    return [sys.executable, "-m", module, *(str(part) for pair in flags.items() for part in pair)]


def child_launch(description: str | None) -> Launch:
    """What `child_command` wrote, read in the child."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--context-tokens", type=int, required=True, help="over all slots")
    parser.add_argument("--threads", type=int, required=True)
    told = parser.parse_args()
    return Launch(told.model, told.port, told.slots, told.context_tokens // told.slots, told.threads)


def child_key() -> str:
    """The API key, empty for none; read in the child, once."""
    return os.environ.pop(KEY_VARIABLE, "")
