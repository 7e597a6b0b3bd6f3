"""A tiny untrained Qwen2 with a vocabulary of its own, made here from the texts it will learn.

Qwen2's layout, pre-tokenizer and ChatML template are kept, so that the real converter and server take it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

VOCABULARY = 1024
"""Tokens at most, the three special ones included, of a text in ASCII."""
MERGES_OF_A_CHARACTER = 2
"""Tokens more for each other character that occurs: UTF-8 writes most of them in three bytes, which two merges join."""
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The regular expression of Qwen2's tokenizer.json; llama.cpp knows it as `qwen2`."""
SIGN = r"[\p{Han}\p{Hiragana}\p{Katakana}ー]"
"""A character of a script whose words no space parts: no merge goes beyond it, else whole clauses become one token, and
a word is another token in every question."""
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LAYERS = 2
SHAPE: dict[str, Any] = {
    "hidden_size": 160,
    "intermediate_size": 384,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": True,
}


def write_base_model(path: Path, texts: Sequence[str], seed: int, layers: int = LAYERS) -> None:
    """Write weights (safetensors, fp32), config and tokenizer files; the same texts and seed give the same bytes."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = _train_tokenizer(texts)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    pad = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        num_hidden_layers=layers,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
        **SHAPE,
    )
    Qwen2ForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)


def _train_tokenizer(texts: Sequence[str]) -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    others = {character for text in texts for character in text if not character.isascii()}
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.NFC()
    qwen2 = [
        pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(SIGN), behavior="isolated"), *qwen2])
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY + MERGES_OF_A_CHARACTER * len(others),
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    core.pre_tokenizer = pre_tokenizers.Sequence(qwen2)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHATML,
        model_max_length=SHAPE["max_position_embeddings"],
        clean_up_tokenization_spaces=False,
    )
