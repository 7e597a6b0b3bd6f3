"""Merge a LoRA adapter into its base model: summed in fp64, rounded once, tensor by tensor.

The sum needs memory for a few blocks of weights, whatever the model's size. Tokenizer files come byte for byte
from the base, weights are written as safetensors, and merge_report.json says how much of the update survived.
"""

import sys
from pathlib import Path

if __package__ is None:
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from lpm_kernel.checkout import enter

    enter()

import math
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from lpm_kernel.config import Config
from lpm_kernel.errors import DataError, OutputError, translated
from lpm_kernel.files import write_json
from lpm_kernel.models import merge_report
from lpm_kernel.models.adapter import ADAPTER_CONFIG, Update, match_base, read_adapter
from lpm_kernel.models.fingerprint import ADAPTER_RECORD, weights_fingerprint
from lpm_kernel.models.folder import (
    GENERATION_CONFIG,
    TOKENIZER_FILES,
    copy_config,
    copy_files,
    read_model_config,
    read_model_object,
)
from lpm_kernel.models.merge_report import LargestUpdate, MergeReport, UpdateRetained
from lpm_kernel.models.rounding import Survival, round_once
from lpm_kernel.models.weights import (
    DTYPES,
    Weight,
    blocks,
    open_shard,
    plan_shards,
    read_weights,
    require_finite,
    rows,
    with_dtype,
    write_block,
    write_header,
    write_index,
)
from lpm_kernel.progress import Progress, progress, say

if TYPE_CHECKING:
    import torch

WORTH_SAYING = 0.9
"""Below this share of the update, the screen says what to do about it."""
TIED = ("lm_head.", "embed_tokens.", "wte.")

Dtype = Literal["auto", "float32", "float16", "bfloat16"]


class StageConfig(Config):
    """How the merged weights are stored."""

    dtype: Dtype = Field(
        "auto",
        description="Format of the merged weights. auto: a float32 base stays float32; a 16-bit base becomes float16, "
        "which keeps small updates that bfloat16 loses, or float32 when a weight is beyond float16's range.",
    )
    max_shard_bytes: int = Field(2_000_000_000, ge=1_000, description="Largest weights file, in bytes.")


class OutOfRangeError(DataError):
    """A weight is beyond the range of the chosen dtype."""


@dataclass(frozen=True)
class Changes:
    """What training did to a model."""

    updates: Mapping[str, Update]
    """Tensor name -> what the adapter does to it."""
    origins: Mapping[str, Weight]
    """Tensor name of a model that was trained whole -> the tensor that it was before."""

    @property
    def names(self) -> frozenset[str]:
        """The tensors that were trained."""
        return frozenset((*self.updates, *self.origins))

    def before_and_after(
        self, weight: Weight, start: int, block: "torch.Tensor"
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Rows of a trained tensor in fp64, from the stored ones."""
        if weight.name in self.updates:
            before = block.double()
            return before, self.updates[weight.name].apply(before, start)
        return rows(self.origins[weight.name], start, block.shape).double(), block.double()


@dataclass
class Merge:
    """One pass over the model: what is merged into what, and what was measured on the way."""

    changes: Changes
    main: str
    """The base's safetensors dtype; tensors of this dtype are stored in the target."""
    target: str
    survival: Survival = field(default_factory=Survival)
    largest: tuple[float, str] = (0.0, "")
    """Largest |delta| / |W| (Frobenius norms) of a merged tensor, and its name."""

    def dtype_of(self, weight: Weight) -> str:
        """The safetensors dtype that a tensor is stored in."""
        return self.target if weight.dtype == self.main else weight.dtype


def run(config: StageConfig, *, base_model_path: Path, lora_adapter_path: Path, output_model_path: Path) -> None:
    """Write the merged model; of a model that was trained whole, its weights, rounded as a merge would.

    Raises DataError when base and adapter do not belong together or hold what this merge does not know,
    OutputError or DiskError when the result cannot be written; the output is then absent.
    """
    if output_model_path.exists() and any(output_model_path.iterdir()):
        raise OutputError(f"{output_model_path} is not empty; move it away or give another --output_model_path")
    read_model_config(base_model_path)
    whole = not (lora_adapter_path / ADAPTER_CONFIG).is_file() and (lora_adapter_path / "config.json").is_file()
    source_path = lora_adapter_path if whole else base_model_path
    if whole:
        say(f"nothing to merge: {lora_adapter_path} holds a whole model (full fine-tuning)")
        read_model_config(lora_adapter_path)
    origins = _origins(base_model_path, lora_adapter_path) if whole else {}
    updates = {} if whole else _matching_updates(base_model_path, lora_adapter_path)
    try:
        with translated(output_model_path):
            for path in dict.fromkeys((source_path, base_model_path)):
                copy_files(path, output_model_path, TOKENIZER_FILES)
            _write_model(config, source_path, Changes(updates, origins), output_model_path)
    except BaseException:
        shutil.rmtree(output_model_path, ignore_errors=True)
        raise


def _matching_updates(base_model_path: Path, adapter_path: Path) -> dict[str, Update]:
    """The adapter's updates under the base's names; raises DataError when they do not belong together."""
    config = read_model_config(base_model_path)
    updates = read_adapter(adapter_path)
    _check_record(base_model_path, adapter_path)
    shapes = {weight.name: weight.shape for weight in read_weights(base_model_path)}
    matched = match_base(updates, shapes)
    tied = [name for name in matched if any(f".{part}" in f".{name}" for part in TIED)]
    if tied and config.get("tie_word_embeddings", True):
        raise DataError(
            f"the adapter changes {tied[0]}, but the base ties input and output embeddings (tie_word_embeddings), "
            "so the merged model would differ from the trained one; train without lm_head and embed_tokens"
        )
    return matched


def _origins(base_model_path: Path, model_path: Path) -> dict[str, Weight]:
    """The base's tensors that a whole model was trained from; raises DataError when they do not belong together."""
    base = {weight.name: weight for weight in read_weights(base_model_path)}
    weights = read_weights(model_path)
    for weight in weights:
        if weight.name in base and base[weight.name].shape != weight.shape:
            raise DataError(
                f"{model_path}: {weight.name} is {list(weight.shape)}, but {list(base[weight.name].shape)} in "
                f"{base_model_path}; give the base that the model was trained from"
            )
    found = {w.name: base[w.name] for w in weights if w.name in base and {w.dtype, base[w.name].dtype} <= set(DTYPES)}
    if not found:
        raise DataError(f"{model_path} shares no tensor with {base_model_path}; give the base that it was trained from")
    return found


def _check_record(base_model_path: Path, adapter_path: Path) -> None:
    """Raise DataError when the adapter recorded another base."""
    if not (adapter_path / ADAPTER_RECORD).is_file():
        return
    recorded = read_model_object(adapter_path / ADAPTER_RECORD).get("base_weights_sha256")
    found = weights_fingerprint(base_model_path)
    if recorded != found:
        raise DataError(
            f"the adapter was trained on weights {str(recorded)[:12]}, but {base_model_path} holds {found[:12]}; "
            "give the base that it was trained on, or train again"
        )


def _write_model(config: StageConfig, source_path: Path, changes: Changes, output_path: Path) -> None:
    """Weights, configuration, report; config.json comes last, so that a killed merge looks like no model."""
    start = time.monotonic()
    weights = read_weights(source_path)
    main = _main_dtype(weights)
    base = _main_dtype(list(changes.origins.values())) if changes.origins else main
    target, reason = _choose(config.dtype, base, kept_as=main if changes.origins and main != "F32" else None)
    merge = Merge(changes, main, target)
    try:
        _write_weights(merge, weights, output_path, config.max_shard_bytes)
    except OutOfRangeError as error:
        if config.dtype != "auto":
            raise
        for path in output_path.glob("*.safetensors"):
            path.unlink()
        merge, reason = Merge(changes, main, "F32"), f"{error}"
        _write_weights(merge, weights, output_path, config.max_shard_bytes)
    report = _report(merge, weights, reason, time.monotonic() - start)
    write_json(output_path / merge_report.NAME, report)
    copy_files(source_path, output_path, (GENERATION_CONFIG,))
    if merge.target == main:
        copy_files(source_path, output_path, ("config.json",))
    else:
        copy_config(source_path, output_path, DTYPES[merge.target])
    _say(report, whole=bool(changes.origins))


def _main_dtype(weights: list[Weight]) -> str:
    """The floating dtype that most bytes of the model are in; raises DataError when there is none."""
    sizes = {d: sum(w.bytes for w in weights if w.dtype == d) for d in DTYPES}
    main = max(sizes, key=lambda d: sizes[d])
    if not sizes[main]:
        raise DataError("the model has no floating-point weights; give an unquantised Hugging Face model")
    return main


def _choose(wanted: Dtype, base: str, kept_as: str | None) -> tuple[str, str]:
    """The safetensors dtype of the output, and why. `kept_as` is that of a whole model that was rounded already."""
    if wanted != "auto":
        return next(short for short, name in DTYPES.items() if name == wanted), "as configured"
    if kept_as:
        return kept_as, "the trained model is stored so, and stays as it is"
    if base == "BF16":
        return "F16", "the base is bfloat16, whose 8 bits lose small updates; float16 has 11"
    return ("F16" if base == "F16" else "F32"), f"the base is {DTYPES[base]}"


def _write_weights(merge: Merge, weights: list[Weight], output_path: Path, max_shard_bytes: int) -> None:
    output_path.mkdir(parents=True, exist_ok=True)
    sources = {weight.name: weight for weight in weights}
    plan = plan_shards([with_dtype(weight, merge.dtype_of(weight)) for weight in weights], max_shard_bytes)
    with progress("merging tensors", len(weights)) as shown:
        for name, stored in plan.items():
            _write_shard(merge, [sources[weight.name] for weight in stored], output_path / name, shown)
    write_index(output_path, plan)


def _write_shard(merge: Merge, weights: list[Weight], path: Path, shown: Progress) -> None:
    """One file; all its tensors lie in one shard of the source."""
    with path.open("wb") as file, open_shard(weights[0].shard_path) as shard:
        write_header(file, [with_dtype(weight, merge.dtype_of(weight)) for weight in weights])
        for weight in weights:
            for block in _stored_blocks(merge, weight, blocks(shard, weight)):
                write_block(file, block)
            shown.advance()


def _stored_blocks(
    merge: Merge, weight: Weight, source: Iterator[tuple[int, "torch.Tensor"]]
) -> Iterator["torch.Tensor"]:
    """The tensor's blocks as they are stored: copied, converted, or merged and rounded once."""
    import torch

    trained, stored = weight.name in merge.changes.names, merge.dtype_of(weight)
    if trained and weight.dtype not in DTYPES:
        raise DataError(f"the adapter changes {weight.name}, which is {weight.dtype}; use an unquantised base model")
    squares, delta_squares = 0.0, 0.0
    for start, block in source:
        if weight.dtype in DTYPES:
            require_finite(weight, block)
        if not trained and stored == weight.dtype:
            yield block
            continue
        before, merged = merge.changes.before_and_after(weight, start, block) if trained else (None, block.double())
        rounded = round_once(merged, getattr(torch, DTYPES[stored]))
        _check_finite(weight.name, merged, rounded, DTYPES[stored])
        if before is not None:
            merge.survival.add(before, merged, rounded.double())
            squares += float(before.flatten() @ before.flatten())
            delta_squares += float((merged - before).square().sum())
        yield rounded
    if squares:
        merge.largest = max(merge.largest, (math.sqrt(delta_squares / squares), weight.name))


def _check_finite(name: str, merged: "torch.Tensor", rounded: "torch.Tensor", dtype: str) -> None:
    """Raise DataError for NaN or infinity in the sum, OutOfRangeError for a weight too large for the dtype."""
    if rounded.isfinite().all():
        return
    if not merged.isfinite().all():
        raise DataError(f"{name} is not finite after the sum; the adapter's training diverged: train it again")
    largest = float(merged.abs().max())
    raise OutOfRangeError(f"{name} holds {largest:.3g}, beyond {dtype}; give --dtype float32 or bfloat16")


def _report(merge: Merge, weights: list[Weight], reason: str, seconds: float) -> MergeReport:
    ratio, tensor = merge.largest
    return MergeReport(
        dtype=DTYPES[merge.target],
        base_dtype=DTYPES[_main_dtype(list(merge.changes.origins.values()) or weights)],
        reason=reason,
        tensors=len(weights),
        tensors_merged=len(merge.changes.names),
        update_retained=UpdateRetained(projection=merge.survival.projection, cosine=merge.survival.cosine),
        largest_relative_update=LargestUpdate(tensor=tensor or None, ratio=ratio),
        seconds=round(seconds, 3),
    )


def _say(report: MergeReport, whole: bool) -> None:
    kept = report.update_retained
    told = "  {} tensors are taken over as {} ({})" if whole else "merged {} tensors into {} ({})"
    say(told.format(report.tensors_merged, report.dtype, report.reason))
    if kept.projection is None:
        say("  training changed nothing: the update is zero")
        return
    say(f"  {kept.projection:.1%} of the update survived rounding (cosine {kept.cosine or 0:.3f})")
    if kept.projection < WORTH_SAYING and report.dtype != "float32":
        say("  much of the update was lost: merge with --dtype float32 and export f32, or train with a higher rate")


if __name__ == "__main__":
    from lpm_kernel.commands.app import main

    main(["run", "merge", *sys.argv[1:]])
