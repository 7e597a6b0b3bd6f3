"""`merge_report.json`, beside a merged model: how it was stored, and how much of the update survived."""

from pathlib import Path

from lpm_kernel.files import read_record
from lpm_kernel.records import Record

NAME = "merge_report.json"


class UpdateRetained(Record):
    """The applied update a against the intended one i, over all merged tensors; None when either is zero."""

    projection: float | None
    """<a, i> / <i, i>: 1 when all of the update survived."""
    cosine: float | None


class LargestUpdate(Record):
    """The tensor that changed most, by |delta| / |W| (Frobenius norms)."""

    tensor: str | None
    ratio: float


class MergeReport(Record):
    """What one merge did."""

    dtype: str
    base_dtype: str
    reason: str
    """Why this dtype."""
    tensors: int
    tensors_merged: int
    update_retained: UpdateRetained
    largest_relative_update: LargestUpdate
    seconds: float


def read_merge_report(model_path: Path | None) -> MergeReport | None:
    """None for a model that we did not merge; raises DataError when the report is damaged."""
    path = model_path and model_path / NAME
    return read_record(path, MergeReport) if path and path.is_file() else None
