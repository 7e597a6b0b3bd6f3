"""Which of llama.cpp's BPE pre-tokenizers a tokenizer stands for, read from its own regular expressions.

The names and expressions are those of llama.cpp's src/llama-vocab.cpp (`llm_tokenizer_bpe`).
"""

from collections.abc import Mapping
from typing import Any

GPT2 = "the ByteLevel step's own"
"""What the ByteLevel step splits by itself, when `use_regex` is set."""
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
END = r"\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"

KNOWN: Mapping[tuple[str, ...], str] = {
    (GPT2,): "gpt-2",
    (r"\p{N}", GPT2): "smollm",
    (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + END,): "qwen2",
    (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + END,): "qwen35",
    (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + END,): "llama-bpe",
    (
        rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTIONS}?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + END,
    ): "gpt-4o",
}
"""The expressions that split the text, in order -> llama.cpp's name."""


def detect(tokenizer: Mapping[str, Any]) -> str:
    """llama.cpp's name for the pre-tokenizer of a tokenizer, parsed from its JSON; empty when there is none for it."""
    step = tokenizer.get("pre_tokenizer") or {}
    steps = step.get("pretokenizers", []) if step.get("type") == "Sequence" else [step]
    if not steps or steps[-1].get("type") != "ByteLevel" or steps[-1].get("add_prefix_space", True):
        return ""
    expressions = [_expression(s) for s in steps[:-1]] + [GPT2] * bool(steps[-1].get("use_regex", True))
    return KNOWN.get(tuple(expressions), "")


def _expression(step: Mapping[str, Any]) -> str:
    """What a step splits by; empty when it does anything but isolate the matches."""
    if step.get("type") == "Digits" and step.get("individual_digits"):
        return r"\p{N}"
    isolates = step.get("type") == "Split" and step.get("behavior") == "Isolated" and not step.get("invert")
    return str(step["pattern"].get("Regex", "")) if isolates else ""
