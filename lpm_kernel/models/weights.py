"""Weights of any size, tensor by tensor: read from safetensors shards through mmap, written as a stream.

File format: https://github.com/huggingface/safetensors#format (8 bytes little-endian header length, JSON header, data).
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lpm_kernel.errors import DataError
from lpm_kernel.models.folder import INDEX, WEIGHTS, read_weight_map, weight_shards

if TYPE_CHECKING:
    import torch

ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Floating dtypes as safetensors and as torch name them."""
BLOCK_ITEMS = 1 << 20
"""Weights worked on at once: 8 MB in fp64."""


@dataclass(frozen=True)
class Weight:
    """One tensor of a model: where it lies, its safetensors dtype and its shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    shard_path: Path

    @property
    def bytes(self) -> int:
        """Size of the data."""
        return ITEM_BYTES[self.dtype] * math.prod(self.shape)


def read_weights(model_path: Path) -> list[Weight]:
    """All tensors of a model.

    Raises MissingInputError or DataError for a broken or missing file, a tensor that is twice there or not where the
    index has it, and a dtype that is no plain number.
    """
    weights = [weight for path in weight_shards(model_path) for weight in _weights_of(path)]
    names = {weight.name for weight in weights}
    twice = len(names) < len(weights)
    listed = set(read_weight_map(model_path)) if (model_path / INDEX).is_file() else names
    if twice or listed != names:
        wrong = "a tensor twice" if twice else f"other tensors than its index: {min(listed ^ names)}"
        raise DataError(f"{model_path} holds {wrong}; fetch or make the model again")
    for weight in weights:
        if weight.dtype not in ITEM_BYTES:
            raise DataError(
                f"{weight.shard_path.name}: {weight.name} is {weight.dtype}, a quantised model; "
                "use the model's bfloat16, float16 or float32 release"
            )
    return weights


def _weights_of(shard_path: Path) -> Iterator[Weight]:
    with open_shard(shard_path) as shard:
        for name in shard.keys():  # noqa: SIM118 - a safe_open handle is no mapping
            tensor = shard.get_slice(name)
            yield Weight(name, tensor.get_dtype(), tuple(tensor.get_shape()), shard_path)


def check_finite(weights: Iterable[Weight]) -> None:
    """Raise DataError for NaN or infinity in a floating tensor; reads them all."""
    for shard_path, group in groupby(weights, key=lambda weight: weight.shard_path):
        with open_shard(shard_path) as shard:
            for weight in group:
                if weight.dtype in DTYPES:
                    for _, block in blocks(shard, weight):
                        require_finite(weight, block)


def require_finite(weight: Weight, block: "torch.Tensor") -> None:
    """Raise DataError for NaN or infinity in rows of a floating tensor."""
    if block.numel() and not all(bound.isfinite() for bound in block.aminmax()):  # a tenth of isfinite's time
        raise DataError(
            f"{weight.shard_path}: {weight.name} holds NaN or infinity, so the model can answer nothing; "
            "fetch or make the model again"
        )


@contextmanager
def open_shard(path: Path) -> Iterator[Any]:
    """A safe_open handle (untyped there), which reads through mmap; raises DataError when it is cut or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        handle = safe_open(path, framework="pt")
    except SafetensorError as error:
        raise DataError(f"{path} is cut or damaged ({error}); fetch or make the model again") from None
    with handle as shard:
        yield shard


def blocks(shard: Any, weight: Weight) -> Iterator[tuple[int, "torch.Tensor"]]:
    """(first row, rows of the tensor) of at most about BLOCK_ITEMS items; a scalar is one row."""
    if not weight.shape:
        yield 0, shard.get_tensor(weight.name)
        return
    tensor = shard.get_slice(weight.name)
    rows = max(1, BLOCK_ITEMS // max(1, math.prod(weight.shape[1:])))
    for start in range(0, weight.shape[0], rows):
        yield start, tensor[start : start + rows]


def rows(weight: Weight, start: int, shape: Sequence[int]) -> "torch.Tensor":
    """As many rows of a tensor as a block of that shape has, from the first one on; a scalar is one row."""
    with open_shard(weight.shard_path) as shard:
        if not weight.shape:
            return shard.get_tensor(weight.name)  # type: ignore[no-any-return]
        return shard.get_slice(weight.name)[start : start + shape[0]]  # type: ignore[no-any-return]


def plan_shards(weights: Sequence[Weight], max_shard_bytes: int) -> dict[str, list[Weight]]:
    """File name -> its tensors: the boundaries of the source stay, and no file exceeds the bound (one tensor may)."""
    shards: list[list[Weight]] = []
    for weight in weights:
        room = shards and shards[-1][-1].shard_path == weight.shard_path
        if room and sum(w.bytes for w in shards[-1]) + weight.bytes <= max_shard_bytes:
            shards[-1].append(weight)
        else:
            shards.append([weight])
    if len(shards) == 1:
        return {WEIGHTS: _aligned(shards[0])}
    return {f"model-{i:05}-of-{len(shards):05}.safetensors": _aligned(shard) for i, shard in enumerate(shards, 1)}


def write_header(file: BinaryIO, weights: Sequence[Weight]) -> None:
    """The header of a shard whose tensors' bytes follow in this order."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for weight in weights:
        span = [offset, offset + weight.bytes]
        header[weight.name] = {"dtype": weight.dtype, "shape": weight.shape, "data_offsets": span}
        offset += weight.bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)


def write_block(file: BinaryIO, block: "torch.Tensor") -> None:
    """The raw little-endian bytes of a tensor of any dtype."""
    import torch

    file.write(block.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def write_index(model_path: Path, plan: dict[str, list[Weight]]) -> None:
    """model.safetensors.index.json, where there is more than one shard."""
    if len(plan) == 1:
        return
    weight_map = {weight.name: name for name, weights in plan.items() for weight in weights}
    total = sum(weight.bytes for weights in plan.values() for weight in weights)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (model_path / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def with_dtype(weight: Weight, dtype: str) -> Weight:
    """The same tensor in another safetensors dtype."""
    return replace(weight, dtype=dtype)


def _aligned(weights: list[Weight]) -> list[Weight]:
    """Widest items first, so that each tensor starts at a multiple of its item size."""
    return sorted(weights, key=lambda weight: -ITEM_BYTES[weight.dtype])
