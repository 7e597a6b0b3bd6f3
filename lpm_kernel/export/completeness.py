"""Is an exported GGUF complete: every tensor of the model with its shape, its tokenizer, its chat template?"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lpm_kernel.errors import DataError
from lpm_kernel.models.gguf_header import read_header

NOT_STORED = (".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias")
"""Ends of the names of buffers that old checkpoints hold and that llama.cpp computes itself."""
COMPUTED = ("rope_freqs", "rope_factors_")
"""Beginnings of the names of tensors that the converter adds."""
NEEDED = ("tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type")
NEEDED_FOR_BPE = ("tokenizer.ggml.pre", "tokenizer.ggml.merges")
AGAIN = "the export is incomplete: remove it and export again, and if it stays so, report the model's architecture"

Shapes = Mapping[str, tuple[int, ...]]


def check_gguf(gguf_path: Path, *, shapes: Shapes, vocabulary: int, chat_template: str) -> str:
    """Compare a GGUF with its model: shapes by Hugging Face name, token count, template. Returns the pre-tokenizer.

    Raises DataError when the file does not open, or lacks or changes anything.
    """
    read_header(gguf_path)
    from gguf import GGUFReader

    reader = GGUFReader(gguf_path)
    _check_tensors(reader, shapes)
    missing = [key for key in NEEDED if key not in reader.fields]
    if _text(reader, "tokenizer.ggml.model") == "gpt2":
        missing += [key for key in NEEDED_FOR_BPE if key not in reader.fields]
    if missing:
        raise DataError(f"{gguf_path} lacks {', '.join(missing)}; {AGAIN}")
    tokens = len(reader.fields["tokenizer.ggml.tokens"].data)
    if tokens < vocabulary:
        raise DataError(f"{gguf_path} holds {tokens} tokens, the tokenizer has {vocabulary}; {AGAIN}")
    if _text(reader, "tokenizer.chat_template") != chat_template:
        raise DataError(f"{gguf_path} holds another chat template than the model; {AGAIN}")
    return _text(reader, "tokenizer.ggml.pre")


def _check_tensors(reader: Any, shapes: Shapes) -> None:
    """Raise DataError for a missing tensor, another shape, or another number of weights in all."""
    stored = {tensor.name: tuple(int(n) for n in reversed(tensor.shape)) for tensor in reader.tensors}
    names = _gguf_names(reader, shapes)
    for name, shape in shapes.items():
        found = stored.get(names[name], ()) if name in names else shape
        if found != shape and not _is_tied(name, stored):
            raise DataError(f"{names[name]} ({name}) has shape {found or None}, expected {shape}; {AGAIN}")
    expected = sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(NOT_STORED))
    total = sum(math.prod(shape) for name, shape in stored.items() if not name.startswith(COMPUTED))
    tied = math.prod(stored.get("token_embd.weight", (0,)))
    if total not in (expected, expected + tied, expected - tied):
        raise DataError(f"the GGUF holds {total} weights, the model {expected}; {AGAIN}")


def _gguf_names(reader: Any, shapes: Shapes) -> dict[str, str]:
    """Hugging Face name -> GGUF name, for those that stand for one tensor each; empty for an unknown architecture."""
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map

    architecture = _text(reader, "general.architecture")
    known: dict[str, MODEL_ARCH] = {name: arch for arch, name in MODEL_ARCH_NAMES.items()}
    if architecture not in known:
        return {}
    block_count = int(reader.fields[f"{architecture}.block_count"].contents())
    mapping = get_tensor_name_map(known[architecture], block_count)
    pairs = {name: mapping.get_name(name, try_suffixes=(".weight", ".bias")) for name in shapes}
    return {name: found for name, found in pairs.items() if found and not name.endswith(NOT_STORED)}


def _is_tied(name: str, stored: Shapes) -> bool:
    """The output head, when llama.cpp takes the input embedding for it."""
    return name.startswith("lm_head.") and "output.weight" not in stored


def _text(reader: Any, key: str) -> str:
    field = reader.fields.get(key)
    return "" if field is None else str(field.contents())
