"""What every engine is: programs found here, and how each is told what to serve."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


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
    """The command line; without the API key, which anyone could read there."""


Find = Callable[[], Sequence[Program]]
"""The programs of one engine that are here, best first."""
