"""Models of two layers with a vocabulary of their own, and their export in a folder of its own."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config

from lpm_kernel.demo.base_model import CHATML as DEMO_CHATML
from lpm_kernel.errors import LpmError
from lpm_kernel.export import pre_tokenizer
from lpm_kernel.export.hostile_texts import HOSTILE
from lpm_kernel.L2 import export_gguf
from lpm_kernel.L2.export_gguf import StageConfig

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML = DEMO_CHATML + "\n"
EXPRESSIONS = {name: expressions for expressions, name in pre_tokenizer.KNOWN.items()}
SHAPE: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "initializer_range": 0.15}
HEADS: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}


def make_tokenizer(expressions: tuple[str, ...], template: str, bos: bool) -> PreTrainedTokenizerFast:
    """A byte-level BPE of 400 tokens that splits by the expressions, and with `bos` adds a leading token."""
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.NFC()
    own = [e for e in expressions if e != pre_tokenizer.GPT2]
    steps: list[Any] = [pre_tokenizers.Split(Regex(e), behavior="isolated") for e in own]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre_tokenizer.GPT2 in expressions))
    core.pre_tokenizer = pre_tokenizers.Sequence(steps)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([*HOSTILE.values()] * 3, trainer)
    names = {"eos_token": SPECIAL[2], "pad_token": SPECIAL[0], "chat_template": template or None}
    if bos:
        core.post_processor = TemplateProcessing(single=f"{SPECIAL[0]} $A", special_tokens=[(SPECIAL[0], 0)])
        names["bos_token"] = SPECIAL[0]
    return PreTrainedTokenizerFast(tokenizer_object=core, **names)


def make_model(
    path: Path,
    name: str = "qwen2",
    *,
    llama: bool = False,
    seed: int = 1,
    template: str = CHATML,
    bos: bool = False,
) -> Path:
    """A random model whose answers are certain enough to compare; `name` is the pre-tokenizer."""
    make_tokenizer(EXPRESSIONS.get(name, (name,)), template, bos).save_pretrained(path)
    torch.manual_seed(seed)
    ids: dict[str, Any] = {"bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0, "vocab_size": 400}
    config = (LlamaConfig if llama else Qwen2Config)(**SHAPE, **HEADS, **ids, tie_word_embeddings=not llama)
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    return path


@dataclass
class Export:
    """One run of the stage in a folder of its own."""

    folder: Path

    def run(self, model_path: Path, prompts_path: Path | None = None, **settings: Any) -> dict[str, Any]:
        export_gguf.run(
            StageConfig(**{"greedy_tokens": 12, "threads": 1, **settings}),
            model_path=model_path,
            gguf_path=self.gguf_path,
            report_path=self.folder / "fidelity.json",
            work_path=self.folder / "work",
            prompts_path=prompts_path,
        )
        report: dict[str, Any] = json.loads((self.folder / "fidelity.json").read_text())
        return report

    @property
    def gguf_path(self) -> Path:
        return self.folder / "lpm.gguf"

    def refuse(self, model_path: Path, match: str, **settings: Any) -> None:
        with pytest.raises(LpmError, match=match):
            self.run(model_path, **settings)
        assert not self.gguf_path.exists()
        assert not (self.folder / "fidelity.json").exists()
