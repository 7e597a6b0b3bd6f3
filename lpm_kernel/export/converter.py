"""llama.cpp's converter as a child process: found, started without network or secrets, watched, ended with us."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lpm_kernel.errors import DataError, DiskError, MissingInputError
from lpm_kernel.export import convert_child, pre_tokenizer
from lpm_kernel.serving import parent_guard

PROJECT_ROOT = Path(__file__).resolve().parents[2]
PARTS = ("convert_hf_to_gguf.py", "conversion/base.py", "gguf-py/gguf/__init__.py")
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
"""Environment variables that the converter sees; it has no business with the others."""
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
LOG_TAIL_CHARS = 1500


@dataclass(frozen=True)
class Conversion:
    """A converter under way."""

    process: subprocess.Popen[bytes]
    model_path: Path
    log_path: Path

    def finish(self) -> None:
        """Wait for its end; raises DataError or DiskError with what it said."""
        code = self.process.wait()
        if code == 0:
            return
        tail = self.log_path.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL_CHARS:].strip()
        if code == convert_child.UNKNOWN_PRE_TOKENIZER:
            raise DataError(
                f"{self.model_path}: its tokenizer splits text in a way that llama.cpp does not know, so the exported "
                f"model would see other tokens than the trained one: {tail.splitlines()[-1]}; take a model that splits "
                f"as one of {', '.join(pre_tokenizer.KNOWN.values())}"
            )
        if "No space left" in tail:
            raise DiskError(f"the disk is full while {self.model_path} was converted; free space and start again")
        raise DataError(
            f"llama.cpp's converter failed (exit {code}) on {self.model_path}; {self.log_path} ends:\n{tail}"
        )


def find_converter(setting: str) -> Path:
    """The folder with convert_hf_to_gguf.py: as given, below here, or below the project; raises MissingInputError."""
    places = list(dict.fromkeys([Path(setting).resolve(), PROJECT_ROOT / setting]))
    for place in places:
        if all((place / part).is_file() for part in PARTS):
            return place
    raise MissingInputError(
        f"llama.cpp's converter ({', '.join(PARTS)}) is not in {' nor in '.join(map(str, places))}; "
        "run `bash scripts/setup`, which fetches it, or set converter_path"
    )


@contextmanager
def converting(
    model_path: Path,
    gguf_path: Path,
    *,
    outtype: str,
    converter_path: Path,
    log_path: Path,
) -> Iterator[Conversion]:
    """The converter, started; it never outlives the block."""
    child = [sys.executable, "-P", convert_child.__file__, str(converter_path)]
    wanted = [str(model_path.resolve()), "--outfile", str(gguf_path.resolve()), "--outtype", outtype]
    guard = [sys.executable, "-I", parent_guard.__file__, str(os.getpid())]
    environment = {name: value for name, value in os.environ.items() if name in KEPT} | OFFLINE
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*guard, *child, *wanted],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    try:
        yield Conversion(process, model_path, log_path)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
