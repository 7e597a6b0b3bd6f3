"""Read a GGUF file's header, and prove that the file is whole before a server chokes on it.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little endian.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lpm_kernel.errors import DataError, MissingInputError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
LONGEST_ARRAY_KEPT = 64
"""Longer arrays (vocabulary, merges) are walked over, not kept."""
MOST_DIMENSIONS = 8

STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""GGUF value type -> struct code."""


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says of itself."""

    values: dict[str, Any]
    tensors: dict[str, tuple[int, ...]]
    """Tensor name -> shape as stored, the fastest-running dimension first."""

    @property
    def context_tokens(self) -> int | None:
        """The context length that the model was trained with, in tokens."""
        value = self.values.get(f"{self.values.get('general.architecture')}.context_length")
        return value if isinstance(value, int) and value > 0 else None


def read_header(path: Path) -> GgufHeader:
    """Raises MissingInputError, or DataError for a file that is no GGUF, is damaged or was cut."""
    if not path.is_file():
        raise MissingInputError(f"{path} is not there; export the model first, or give another GGUF file")
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        reader = _Reader(file, size_bytes)
        try:
            return _read(reader, size_bytes)
        except (_DamagedError, struct.error, UnicodeDecodeError, RecursionError) as error:
            raise DataError(
                f"{path} ({size_bytes} bytes) is no whole GGUF file: {error}; export it again, or fetch it again"
            ) from None


class _DamagedError(Exception):
    """The file cannot be what it says; the message says why."""


class _Reader:
    """Bounded reads: nothing longer than the file is ever asked for."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file, self._size_bytes = file, size_bytes

    @property
    def position(self) -> int:
        return self._file.tell()

    def take(self, count: int) -> bytes:
        self.need(count)
        return self._file.read(count)

    def skip(self, count: int) -> None:
        self.need(count)
        self._file.seek(count, 1)

    def need(self, count: int) -> None:
        if count > self._size_bytes - self._file.tell():
            raise _DamagedError(f"it ends within its header, at byte {self._size_bytes}")

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def string(self) -> str:
        return self.take(self.number("Q")).decode("utf-8", errors="replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == STRING:
            return self.string()
        if kind == ARRAY and depth < 2:
            return self._array(depth)
        if kind not in SCALARS:
            raise _DamagedError(f"value type {kind} is unknown")
        return self.number(SCALARS[kind])

    def _array(self, depth: int) -> list[Any] | None:
        kind, count = self.number("I"), self.number("Q")
        if kind in SCALARS and count > LONGEST_ARRAY_KEPT:
            self.skip(count * struct.calcsize(SCALARS[kind]))
            return None
        self.need(count)
        if kind == STRING and count > LONGEST_ARRAY_KEPT:
            for _ in range(count):
                self.skip(self.number("Q"))
            return None
        return [self.value(kind, depth + 1) for _ in range(count)]


def _read(reader: _Reader, size_bytes: int) -> GgufHeader:
    if reader.take(4) != MAGIC:
        raise _DamagedError("it does not begin with GGUF")
    version = reader.number("I")
    if version not in VERSIONS:
        raise _DamagedError(f"its version is {version}, known are {VERSIONS}")
    tensor_count, value_count = reader.number("Q"), reader.number("Q")
    values: dict[str, Any] = {}
    for _ in range(value_count):
        key = reader.string()
        values[key] = reader.value(reader.number("I"))
    infos = [_tensor_info(reader) for _ in range(tensor_count)]
    alignment = values.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or not 0 < alignment <= 2**20:
        raise _DamagedError(f"its alignment is {alignment!r}")
    data_start = -(-reader.position // alignment) * alignment
    end = max((data_start + offset + length for _, _, offset, length in infos), default=data_start)
    if not infos:
        raise _DamagedError("it holds no tensors")
    if end > size_bytes:
        raise _DamagedError(f"its tensors end at byte {end}, {end - size_bytes} bytes are missing")
    return GgufHeader(values, {name: shape for name, shape, _, _ in infos})


def _tensor_info(reader: _Reader) -> tuple[str, tuple[int, ...], int, int]:
    """Name, shape, offset into the data and length, both in bytes."""
    name = reader.string()
    dimensions = reader.number("I")
    if dimensions > MOST_DIMENSIONS:
        raise _DamagedError(f"tensor {name[:80]!r} has {dimensions} dimensions")
    shape = tuple(int(reader.number("Q")) for _ in range(dimensions))
    kind, offset = reader.number("I"), reader.number("Q")
    return name, shape, offset, _length_bytes(name, shape, kind)


def _length_bytes(name: str, shape: tuple[int, ...], kind: int) -> int:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        block_weights, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (ValueError, KeyError):
        raise _DamagedError(f"tensor {name[:80]!r} has the unknown type {kind}") from None
    weights = 1
    for extent in shape:
        weights *= extent
    return weights // block_weights * block_bytes
