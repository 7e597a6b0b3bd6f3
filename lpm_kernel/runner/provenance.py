"""Which code made a result: this program's commit, and the libraries that shape results."""

import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from lpm_kernel.checkout import CHECKOUT
from lpm_kernel.serving.child import clean_environment, find_program

LIBRARIES = ("lpm-kernel", "torch", "transformers", "trl", "peft", "xllamacpp", "gguf")
GIT_TIMEOUT_S = 5.0


@cache
def library_versions() -> dict[str, str]:
    """Name -> version, of what is installed; `commit` where the program runs in a checkout."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    commit = _commit()
    return found | ({"commit": commit} if commit else {})


def _commit() -> str:
    """40 hex digits, and `-dirty` when files differ from it; empty outside a checkout or without git."""
    if not (CHECKOUT / ".git").exists():
        return ""
    git = find_program("git")
    if git is None:
        return ""
    command = [str(git), "-C", str(CHECKOUT), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        told = subprocess.run(
            command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False, env=clean_environment()
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.stdout.strip()
