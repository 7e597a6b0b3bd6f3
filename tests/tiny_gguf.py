"""A GGUF that llama.cpp loads in milliseconds: llama architecture, 2 random layers, byte-level BPE, ChatML."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lpm_kernel.demo.base_model import CHATML

CONTEXT = 512
KINDS = ("q8_0", "f16")
MERGES = ("t h", "th e")
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


@dataclass(frozen=True)
class Shape:
    """A llama's; what it says is the same for all."""

    width: int = 32
    inner: int = 64
    layers: int = 2
    heads: int = 2
    kv_heads: int = 2
    vocabulary: int = 0
    """Tokens at least; those beyond bytes, merges and special ones are never written."""


TINY = Shape()


def byte_letters() -> list[str]:
    """The letter that byte-level BPE writes for each byte (openai/gpt-2, encoder.py, bytes_to_unicode)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    letters = {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(rest)}
    return [letters[b] for b in range(256)]


def write_tiny_gguf(path: Path, seed: int = 0, kind: str = "f32", shape: Shape = TINY) -> Path:
    """Write the model to path, about 100 kB; its answers are random lower-case letters and spaces."""
    from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quantize

    tokens = [*byte_letters(), *(m.replace(" ", "") for m in MERGES), *SPECIALS]
    tokens += [f"<unused {i}>" for i in range(len(tokens), shape.vocabulary)]
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    kinds = dict.fromkeys(SPECIALS, TokenType.CONTROL)
    writer.add_token_types([kinds.get(t, TokenType.UNUSED if "unused" in t else TokenType.NORMAL) for t in tokens])
    writer.add_token_merges(MERGES)
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)
    for name, values in _weights(len(tokens), shape, np.random.default_rng(seed)):
        type_ = GGMLQuantizationType[(kind if values.ndim > 1 else "f32").upper()]
        writer.add_tensor(name, quantize(values.astype(np.float32), type_), raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _weights(vocabulary: int, shape: Shape, dice: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Tensor name and values, rows first: (outputs, inputs)."""
    width, inner, kv_width = shape.width, shape.inner, shape.width * shape.kv_heads // shape.heads
    sizes = {
        "attn_norm": (width,),
        "attn_q": (width, width),
        "attn_k": (kv_width, width),
        "attn_v": (kv_width, width),
        "attn_output": (width, width),
        "ffn_norm": (width,),
        "ffn_gate": (inner, width),
        "ffn_up": (inner, width),
        "ffn_down": (width, inner),
    }
    for layer in range(shape.layers):
        for name, size in sizes.items():
            yield f"blk.{layer}.{name}.weight", np.ones(size) if len(size) == 1 else dice.normal(0, 0.1, size)
    embedding, output = dice.normal(0, 1, (2, vocabulary, width))
    embedding[:, 0] = 5 * max(1, width / 32)  # always on, whatever the layers add, so that output rows forbid tokens
    output[:, 0] = -20.0
    output[[ord(" "), *range(ord("a"), ord("z") + 1)], 0] = 0.0
    yield from {"token_embd.weight": embedding, "output_norm.weight": np.ones(width), "output.weight": output}.items()
