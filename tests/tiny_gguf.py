"""A GGUF that llama.cpp loads in milliseconds: llama architecture, 2 random layers, byte-level BPE, ChatML."""

from pathlib import Path

import numpy as np

from lpm_kernel.demo.base_model import CHATML

WIDTH, HEADS, LAYERS, INNER, CONTEXT = 32, 2, 2, 64, 512
MERGES = ("t h", "th e")
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def byte_letters() -> list[str]:
    """The letter that byte-level BPE writes for each byte (openai/gpt-2, encoder.py, bytes_to_unicode)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    letters = {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(rest)}
    return [letters[b] for b in range(256)]


def write_tiny_gguf(path: Path, seed: int = 0) -> Path:
    """Write the model to path, about 100 kB; its answers are random lower-case letters and spaces."""
    from gguf import GGUFWriter, TokenType

    tokens = [*byte_letters(), *(m.replace(" ", "") for m in MERGES), *SPECIALS]
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if t in SPECIALS else TokenType.NORMAL for t in tokens])
    writer.add_token_merges(MERGES)
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)
    for name, values in _weights(len(tokens), np.random.default_rng(seed)).items():
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _weights(vocabulary: int, dice: np.random.Generator) -> dict[str, np.ndarray]:
    """Tensor name -> values, rows first: (outputs, inputs)."""
    shapes = {
        "attn_norm": (WIDTH,),
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (WIDTH, WIDTH),
        "attn_v": (WIDTH, WIDTH),
        "attn_output": (WIDTH, WIDTH),
        "ffn_norm": (WIDTH,),
        "ffn_gate": (INNER, WIDTH),
        "ffn_up": (INNER, WIDTH),
        "ffn_down": (WIDTH, INNER),
    }
    weights = {
        f"blk.{layer}.{name}.weight": np.ones(shape) if len(shape) == 1 else dice.normal(0, 0.1, shape)
        for layer in range(LAYERS)
        for name, shape in shapes.items()
    }
    embedding, output = dice.normal(0, 1, (2, vocabulary, WIDTH))
    embedding[:, 0] = 5.0  # one channel that is always on, so that the output rows can forbid a token
    output[:, 0] = -20.0
    output[[ord(" "), *range(ord("a"), ord("z") + 1)], 0] = 0.0
    return weights | {"token_embd.weight": embedding, "output_norm.weight": np.ones(WIDTH), "output.weight": output}
