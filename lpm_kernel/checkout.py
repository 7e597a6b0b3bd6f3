"""The checkout that we run from, and `python lpm_kernel/L2/....py` with any Python: on in its `.venv`, where one is."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
"""The folder that holds the package; where the project was cloned to, unless it was installed as a wheel."""
IN_CHECKOUT = (CHECKOUT / "pyproject.toml").is_file()
"""Not where the project was installed as a wheel: CHECKOUT is a folder of libraries then."""
ENVIRONMENT = CHECKOUT / ".venv"


def enter() -> None:
    """Returns when this Python has the libraries; else becomes `.venv/bin/python`, or exits 69 with the cure."""
    if find_spec("trl") and find_spec("pydantic"):
        return
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists() or Path(sys.prefix).resolve() == ENVIRONMENT:
        print(f"error: {sys.executable} lacks the libraries; run: bash scripts/setup", file=sys.stderr)
        sys.exit(69)
    os.execv(python, [str(python), *sys.argv])
