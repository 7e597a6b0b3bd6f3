"""llama.cpp's converter as a child process: found, started without network or secrets, watched, ended with us."""

import errno
import hashlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lpm_kernel.checkout import CHECKOUT
from lpm_kernel.errors import DataError, MissingInputError, ServiceError, translated
from lpm_kernel.export import convert_child, pre_tokenizer
from lpm_kernel.export.refusals import explain
from lpm_kernel.files import expanded, file_sha256
from lpm_kernel.serving.child import Child, clean_environment

PARTS = ("convert_hf_to_gguf.py", "conversion/base.py", "gguf-py/gguf/__init__.py")
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True)
class Conversion:
    """A converter under way."""

    child: Child
    model_path: Path
    gguf_path: Path
    deadline_s: float
    """By the monotonic clock."""

    def finish(self) -> None:
        """Wait for its end; raises DataError with its reason, DiskError, MemoryShortError, ServiceError for a hang."""
        code = self.child.wait(self.deadline_s - time.monotonic())
        if code == 0:
            return
        if code is None:
            raise ServiceError(
                f"llama.cpp's converter did not end in time on {self.model_path} (--convert-timeout-s); "
                f"{self.child.log_end()}"
            )
        lines = self.child.log_lines()
        if code == convert_child.UNKNOWN_PRE_TOKENIZER:
            raise DataError(
                f"{self.model_path}: its tokenizer splits text in a way that llama.cpp does not know, so the exported "
                f"model would see other tokens than the trained one: {lines[-1]}; take a model that splits "
                f"as one of {', '.join(pre_tokenizer.KNOWN.values())}"
            )
        if refusal := _refusal(code):
            with translated(self.gguf_path.parent):
                raise OSError(refusal, os.strerror(refusal))
        if code < 0:
            raise ServiceError(self.child.trouble())
        raise DataError(
            f"{self.model_path}: llama.cpp's converter refuses it (exit {code}): {explain(lines)}; "
            f"its own words are in {self.child.log_path}"
        )


def _refusal(code: int) -> int:
    """The errno of what the system refused the converter; 0 when it ended for another reason."""
    if code == -signal.SIGKILL:
        return errno.ENOMEM  # the kernel takes memory back like this, and nobody else kills it
    return code - convert_child.REFUSED if code - convert_child.REFUSED in convert_child.REFUSALS else 0


def find_converter(setting: str) -> Path:
    """The folder with convert_hf_to_gguf.py: absolute, or below the project; raises MissingInputError."""
    place = CHECKOUT / expanded(setting)
    if all((place / part).is_file() for part in PARTS):
        return place
    raise MissingInputError(
        f"llama.cpp's converter ({', '.join(PARTS)}) is not in {place}; "
        "run `bash scripts/setup`, which fetches it, or set converter_path"
    )


def converter_sha256(converter_path: Path) -> str:
    """Over the converter's own Python files: which one made a GGUF."""
    files = [converter_path / PARTS[0], *sorted((converter_path / "conversion").rglob("*.py"))]
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()


@contextmanager
def converting(
    model_path: Path, gguf_path: Path, *, outtype: str, converter_path: Path, log_path: Path, timeout_s: float
) -> Iterator[Conversion]:
    """The converter, started; it never outlives the block."""
    log_path.unlink(missing_ok=True)
    script = [sys.executable, "-P", convert_child.__file__, str(converter_path)]
    wanted = [str(model_path.resolve()), "--outfile", str(gguf_path.resolve()), "--outtype", outtype]
    child = Child("llama.cpp's converter", [*script, *wanted], clean_environment(OFFLINE), log_path)
    try:
        yield Conversion(child, model_path, gguf_path, time.monotonic() + timeout_s)
    finally:
        child.stop()
