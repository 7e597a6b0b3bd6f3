"""llama.cpp as llama-cpp-python compiled it, behind a small server of ours (`llama_cpp_python_child.py`).

Not behind the package's own, `llama_cpp.server`: it takes no `n`, has no `/props`, `/apply-template` and token
probabilities, so that nobody could say what it serves, and it answers any host and every origin.
"""

from functools import partial
from importlib.metadata import PackageNotFoundError, version

from lpm_kernel.serving.engines.base import Program, child_command

NAME = "llama-cpp-python"
CURE = ".venv/bin/pip install -c constraints.txt -e '.[llama-cpp]' (it compiles for 15 minutes)"


def find() -> list[Program]:
    """The distribution, where it is installed; other ones bring a module `llama_cpp` too."""
    try:
        path = f"{NAME} {version(NAME)}"
    except PackageNotFoundError:
        return []
    return [Program(NAME, path, partial(child_command, "lpm_kernel.serving.engines.llama_cpp_python_child"))]
