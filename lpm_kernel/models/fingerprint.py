"""Which weights a model is made of: an adapter records this of its base, and the merge checks it."""

import hashlib
from pathlib import Path

from lpm_kernel.files import file_sha256
from lpm_kernel.models.folder import weight_shards

ADAPTER_RECORD = "lpm_adapter.json"
"""Beside an adapter: {"base_weights_sha256": weights_fingerprint(base model)}."""


def weights_fingerprint(model_path: Path) -> str:
    """SHA-256, 64 hex digits, over the sorted, concatenated SHA-256 hex digests of the files of its weights.

    File names do not count, so a copied or renamed model keeps its fingerprint.
    Raises MissingInputError or DataError as `weight_shards`.
    """
    return hashlib.sha256("".join(sorted(map(file_sha256, weight_shards(model_path)))).encode()).hexdigest()
