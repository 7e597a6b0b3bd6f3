"""llama.cpp's own server out of the xllamacpp wheel, as a child process (`xllamacpp_child.py`)."""

from functools import partial
from importlib.util import find_spec

from lpm_kernel.serving.engines.base import Program, child_command

NAME = "xllamacpp"
CURE = "bash scripts/setup"


def find() -> list[Program]:
    """The package, where it is installed."""
    command = partial(child_command, "lpm_kernel.serving.engines.xllamacpp_child")
    return [Program(NAME, NAME, command)] if find_spec(NAME) else []
