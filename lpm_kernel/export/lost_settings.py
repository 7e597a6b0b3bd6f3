"""Which settings of a model its GGUF may have lost: the likely causes when both answer otherwise.

A converter writes down what it knows of an architecture and drops the rest without a word. So every setting of
config.json that shapes the answers and whose value stands nowhere in the GGUF's header is under suspicion, first those
that depart from what their architecture takes when nothing is said.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lpm_kernel.models.gguf_header import GgufHeader, read_header

UNASKED = re.compile(
    r"^_|_size$|_dim$|^num_|^n_|^max_|_embeddings$|_layers$|_ratio$|_heads?$|_bias$|^tie_"  # the tensors tell them
    r"|drop|initiali|_std$|token_id|_cache|loss|_aux|jitter|_tp$|^summary|^output_"  # of training, or bookkeeping
)
"""Settings that are not under suspicion."""
HEADER_SIZES = re.compile(
    r"^(general|tokenizer)\.|(block|expert|head)_count|(embedding|forward|context)_length$|vocab_size$"
)
"""Keys of the header that hold sizes, which would meet a setting's value by chance, or nothing of the arithmetic."""
ROPE_TENSORS = ("rope_freqs", "rope_factors_")
"""Tensors in which the converter puts a rope scaling that the header has no words for."""
ASSUMED = {"freq_base": 10000.0}
"""What llama.cpp takes where the header is silent."""
OTHER_FORM = {"partial_rotary_factor": "dimension_count"}
"""Setting -> where the header tells the same in another form."""
MOST_TOLD = 3


def lost_settings(model_path: Path, gguf_path: Path) -> list[str]:
    """`name = value` of the likeliest causes, the likeliest first; at most MOST_TOLD."""
    from transformers import AutoConfig, PretrainedConfig

    config = AutoConfig.from_pretrained(model_path, local_files_only=True, trust_remote_code=False).get_text_config()
    general = set(PretrainedConfig().to_dict())
    ours, usual = (
        dict(_flat({key: value for key, value in some.to_dict().items() if key not in general}))
        for some in (config, type(config)())
    )
    absent = list(_absent(ours, read_header(gguf_path)))
    departs = [(name, value) for name, value in absent if name not in usual or usual[name] != value]
    numbers = [(name, value) for name, value in absent if _is_number(value) and (name, value) not in departs]
    return [f"{name} = {value}" for name, value in (*departs, *numbers)][:MOST_TOLD]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings that may matter, those in tables with their table's name before a dot; lists are patterns of layers."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value not in (None, False) and not isinstance(value, list) and not UNASKED.search(key):
            yield prefix + key, value


def _absent(settings: Mapping[str, Any], header: GgufHeader) -> Iterator[tuple[str, Any]]:
    """Those of the settings whose value is not in the header, under their own name or one that no setting has."""
    scaled = any(name.startswith(ROPE_TENSORS) for name in header.tensors)
    told = {key.rpartition(".")[2]: value for key, value in header.values.items() if not HEADER_SIZES.search(key)}
    held = ASSUMED | told
    foreign = [value for key, value in held.items() if key not in settings]
    for name, value in settings.items():
        key = name.rpartition(".")[2]
        elsewhere = OTHER_FORM.get(key) in held or (scaled and name.startswith("rope_") and key != "rope_theta")
        if not elsewhere and not any(_same(value, other) for other in (*foreign, held.get(key))):
            yield name, value


def _same(value: Any, stored: Any) -> bool:
    if _is_number(value) and _is_number(stored):
        return math.isclose(value, stored, rel_tol=1e-6)
    return type(value) is type(stored) and bool(value == stored)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
