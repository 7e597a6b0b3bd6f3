"""How far a served GGUF is from its trained model, by architecture and format: what the export's bounds rest on.

python benchmarks/export_fidelity.py [--only qwen2 gemma3 ...] [--formats f32 q8_0] [--steps 0 40] [--seed 1]

Small models of many architectures, with random weights and trained until their answers are certain, are converted and
served as the stage does it, but by one converter process for all, whose libraries are loaded once. Prints a row a model
and format to standard error, and one JSON line. An architecture that the converter refuses is a row too.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from lpm_kernel.demo.base_model import CHATML, write_base_model
from lpm_kernel.errors import LpmError
from lpm_kernel.export import convert_child, fidelity
from lpm_kernel.export.converter import find_converter
from lpm_kernel.export.hostile_texts import HOSTILE
from lpm_kernel.L2 import export_gguf
from lpm_kernel.serving.own_server import serve

FORMATS = ("f32", "f16", "bf16", "q8_0")
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
ROPE = {"rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 512}
LLAMA3 = {**ROPE, "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
MOE = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
GEMMA = {"head_dim": 32, "tie_word_embeddings": True}
GEMMA3 = {**GEMMA, "num_hidden_layers": 6, "sliding_window": 64}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen2 untied": ("Qwen2", {}),
    "qwen2, 24 layers": ("Qwen2", {"num_hidden_layers": 24, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"head_dim": 32}),
    "qwen3 tied": ("Qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    "qwen3-moe": ("Qwen3Moe", {**MOE, "head_dim": 32, "norm_topk_prob": True}),
    "llama": ("Llama", {}),
    "llama tied, biases": ("Llama", {"tie_word_embeddings": True, "attention_bias": True}),
    "llama, head_dim 32": ("Llama", {"head_dim": 32}),
    "llama, rope linear": ("Llama", {"rope_parameters": {**ROPE, "rope_type": "linear"}}),
    "llama, rope yarn": ("Llama", {"rope_parameters": {**ROPE, "rope_type": "yarn"}}),
    "llama, rope llama3": ("Llama", {"rope_parameters": LLAMA3}),
    "mistral": ("Mistral", {"sliding_window": None, "head_dim": 16}),
    "mistral, window 32": ("Mistral", {"sliding_window": 32, "head_dim": 16}),
    "mixtral": ("Mixtral", MOE),
    "gemma": ("Gemma", GEMMA),
    "gemma2": ("Gemma2", {**GEMMA, "sliding_window": 64, "query_pre_attn_scalar": 32}),
    "gemma2, scalar 256": ("Gemma2", {**GEMMA, "sliding_window": 64, "query_pre_attn_scalar": 256}),
    "gemma3": ("Gemma3Text", {**GEMMA3, "query_pre_attn_scalar": 32}),
    "gemma3, scalar 256": ("Gemma3Text", {**GEMMA3, "query_pre_attn_scalar": 256}),
    "gemma3, scalar 64": ("Gemma3Text", {**GEMMA3, "query_pre_attn_scalar": 64}),
    "phi3": ("Phi3", {}),
    "smollm3": ("SmolLM3", {"num_hidden_layers": 4}),
    "gpt2": ("GPT2", {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 2048}),
    "gpt-neox": ("GPTNeoX", {"rotary_pct": 0.25}),
    "olmo2": ("Olmo2", {}),
    "olmoe": ("Olmoe", MOE),
    "granite": ("Granite", {"embedding_multiplier": 12.0, "logits_scaling": 8.0, "residual_multiplier": 0.22,
                             "attention_multiplier": 0.0156}),
    "stablelm": ("StableLm", {"partial_rotary_factor": 0.25}),
    "falcon": ("Falcon", {"num_kv_heads": 1, "new_decoder_architecture": False}),
    "starcoder2": ("Starcoder2", {"sliding_window": None, "use_bias": True}),
    "cohere": ("Cohere", {"logit_scale": 0.0625}),
    "cohere2": ("Cohere2", {"logit_scale": 0.0625, "sliding_window": 64, "num_hidden_layers": 4, "head_dim": 16}),
    "phi": ("Phi", {"partial_rotary_factor": 0.5}),
    "glm4": ("Glm4", {"head_dim": 16, "partial_rotary_factor": 0.5}),
    "exaone4": ("Exaone4", {"sliding_window": 64, "num_hidden_layers": 4}),
    "ernie4.5": ("Ernie4_5", {"head_dim": 16}),
    "hunyuan": ("HunYuanDenseV1", {"head_dim": 16}),
    "nemotron": ("Nemotron", {"head_dim": 16}),
}  # fmt: skip
"""Name of the row -> prefix of the class in transformers, and what its config holds beside SHAPE."""
SENTENCEPIECE = ("Gemma", "Gemma2", "Phi3")
"""Whose converter reads tokenizer.model only."""
TEXTS = [*HOSTILE.values(), CHATML, *(f"Question {n} is about {word}." for n, word in enumerate(CHATML.split()))]


def main() -> None:
    """Measure every architecture that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(ARCHITECTURES), help="Rows of the table.")
    parser.add_argument("--formats", nargs="*", default=list(FORMATS), help="Formats.")
    parser.add_argument("--steps", nargs="*", type=int, default=[0, 40], help="Training steps; 0: random weights.")
    parser.add_argument("--seed", type=int, default=1, help="Of the weights.")
    given = parser.parse_args()
    rows = []
    spawned = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, spawned) as converter:
        tokenizers = byte_level_tokenizer(Path(folder) / "bytes"), sentencepiece_tokenizer(Path(folder) / "pieces")
        for name, steps in itertools.product(given.only, given.steps):
            kind, more = ARCHITECTURES[name]
            model_path = Path(folder) / "model"
            shutil.rmtree(model_path, ignore_errors=True)
            shutil.copytree(tokenizers[kind in SENTENCEPIECE], model_path)
            write_model(model_path, kind, more, given.seed, steps)
            for found in compare(model_path, given.formats, Path(folder), converter):
                rows.append({"model": name, "steps": steps, **found})
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(json.dumps({"figure": "export_fidelity", "seed": given.seed, "rows": rows}))


def byte_level_tokenizer(path: Path) -> Path:
    """A folder with the demo's kind of tokenizer."""
    write_base_model(path, TEXTS, seed=1)
    for file in ("model.safetensors", "config.json", "generation_config.json"):
        (path / file).unlink(missing_ok=True)
    return path


def sentencepiece_tokenizer(path: Path) -> Path:
    """A folder with tokenizer.model, and what transformers needs beside it."""
    import sentencepiece

    path.mkdir()
    (path / "texts").write_text("\n".join(text.replace("\n", " ") for text in TEXTS), encoding="utf-8")
    names = ["<|im_start|>", "<|im_end|>"]
    sentencepiece.SentencePieceTrainer.train(
        input=str(path / "texts"), model_prefix=str(path / "tokenizer"), vocab_size=900, model_type="bpe",
        byte_fallback=True, hard_vocab_limit=False, user_defined_symbols=names, add_dummy_prefix=False,
        normalization_rule_name="identity", remove_extra_whitespaces=False, pad_id=3, minloglevel=2,
    )  # fmt: skip
    special = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    settings = {
        "added_tokens_decoder": {str(4 + n): {"content": name, **special} for n, name in enumerate(names)},
        "tokenizer_class": "LlamaTokenizer", "chat_template": "{{ bos_token }}" + CHATML, "eos_token": "<|im_end|>",
        "pad_token": "<pad>",
        "add_bos_token": True, "legacy": False, "add_prefix_space": False, "bos_token": "<s>", "unk_token": "<unk>",
    }  # fmt: skip
    (path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return path


def write_model(path: Path, kind: str, more: dict[str, Any], seed: int, steps: int) -> None:
    """Save a model beside the tokenizer in `path`, trained for some steps on answers to half of the hostile texts."""
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    options = {**SHAPE, "vocab_size": len(tokenizer), "initializer_range": 0.02 if steps else 0.15, **ids, **more}
    options = {key: value for key, value in options.items() if kind != "GPT2" or key not in SHAPE}
    render: Any = tokenizer.apply_chat_template
    config = getattr(transformers, f"{kind}Config")(**options)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).float()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        texts = [text[:60] for text in list(HOSTILE.values())[step % 2 :: 4]]
        chats = [[{"role": "user", "content": t}, {"role": "assistant", "content": t[::-1]}] for t in texts]
        rows = [render(chat, return_dict=False)[:160] for chat in chats]
        longest = max(map(len, rows))
        batch = torch.tensor([row + [tokenizer.pad_token_id] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        loss = model(input_ids=batch, attention_mask=mask, labels=batch.masked_fill(mask == 0, -100)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(path)


def compare(
    model_path: Path, formats: Sequence[str], folder: Path, converter: ProcessPoolExecutor
) -> Iterator[dict[str, Any]]:
    """A row for each format: how the served model differs, or why there is none."""
    config = export_gguf.StageConfig(threads=1, greedy_tokens=24, slot_tokens=1024)
    gguf_paths = [folder / f"{outtype}.gguf" for outtype in formats]
    converted = [converter.submit(convert, model_path, path) for path in gguf_paths]
    trained = export_gguf.ask_trained(config, model_path, export_gguf.conversations_of(config, None))
    for path, said in zip(gguf_paths, converted, strict=True):
        try:
            found = {"refused": said.result()} if said.result() else served(config, path, trained, folder)
        except LpmError as error:
            found = {"refused": str(error)}
        yield {"format": path.stem, **found}


def convert(model_path: Path, gguf_path: Path) -> str:
    """Run the converter's main in this process; returns why it failed, or nothing."""
    sys.argv = ["", str(find_converter("llama.cpp")), str(model_path), "--outfile", str(gguf_path)]
    sys.argv += ["--outtype", gguf_path.stem]
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - while the process lives
    try:
        convert_child.main()
    except (Exception, SystemExit) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def served(config: export_gguf.StageConfig, gguf_path: Path, trained: fidelity.Trained, folder: Path) -> dict[str, Any]:
    """How one GGUF answers; raises LpmError when it cannot be served."""
    with serve(gguf_path, config.model_copy(update={"slots": 4}), folder / "server.log") as endpoint:
        checks = fidelity.compare_prompts(endpoint, trained)
        likeness = fidelity.compare_answers(endpoint, trained, config.greedy_tokens)
    equal = sum(check.agreement != "other_tokens" for check in checks) / len(checks)
    return {"tokens_equal": equal, **vars(likeness)}


if __name__ == "__main__":
    main()
