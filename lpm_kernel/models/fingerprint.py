"""Which weights a model is made of: an adapter records this of its base, and the merge checks it."""

import hashlib
from pathlib import Path

from lpm_kernel.errors import MissingInputError
from lpm_kernel.files import file_sha256

ADAPTER_RECORD = "lpm_adapter.json"
"""Beside an adapter: {"base_weights_sha256": weights_fingerprint(base model)}."""


def weights_fingerprint(model_path: Path) -> str:
    """SHA-256, 64 hex digits, over the sorted, concatenated SHA-256 hex digests of the model's *.safetensors files.

    File names do not count, so a copied or renamed model keeps its fingerprint.
    Raises MissingInputError when the directory holds no safetensors weights.
    """
    shards = [path for path in model_path.glob("*.safetensors") if not path.name.startswith("adapter_")]
    if not shards:
        raise MissingInputError(
            f"{model_path} holds no *.safetensors weights; give the directory of a Hugging Face model"
        )
    return hashlib.sha256("".join(sorted(file_sha256(path) for path in shards)).encode()).hexdigest()
