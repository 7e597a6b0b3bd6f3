"""What llama.cpp's converter says when it refuses a model -> one sentence with the cure; the rest stays in its log."""

import re
from collections.abc import Mapping, Sequence

KNOWN: Mapping[str, str] = {
    r"(?:Missing|not found:) .*?([\w.-]+)$": "for this architecture it reads {0}, which is not there; "
    "put the base model's {0} into that folder",
    r"(?:Model|Architecture) '?(\w+)'? (?:is )?not supported": "it does not know the architecture {0}; "
    "start from a base model whose architecture it knows, such as Qwen3, Llama, Mistral, Gemma or SmolLM",
    r"Failed to detect model architecture": "config.json names no architecture; "
    'add "architectures": ["..."] as the config.json of the base model has it',
    r"rope scaling type (\S+) is not supported": "it does not know the rope scaling {0}; "
    "start from a base model with none, or with linear, yarn or llama3",
    r"Quant (?:method|format) .*?'(\S+?)'|(3-bit gptq)": "it does not read weights quantised by {0}; "
    "take the base model as published without quantisation, and choose a small file with --outtype q8_0",
    r"Can not map tensor '(\S+)'": "llama.cpp has no place for the weight {0} in this architecture; "
    "start from a base model that holds only what its architecture names",
    r"KeyError: '(.+)'$": "it looks for {0!r} in config.json or among the tokens and does not find it; "
    "add it as the config.json of the base model, or of another model of this architecture, has it",
    r"No module named '(\S+)'": "it needs the package {0}; install it with `pip install {0}`",
    r"MemoryError": "the memory does not suffice; close other programs, or take a smaller model",
}
"""What stands in a line of its log -> the sentence; {0} is what the expression captured."""
LAST_WORDS = re.compile(r"^(?:\w+\.)*\w+(?:Error|Exception)\b|^ERROR:")


def explain(lines: Sequence[str]) -> str:
    """Why the converter refused, and what to do, from the end of its log."""
    said = next((line for line in reversed(lines) if LAST_WORDS.match(line)), "")
    for expression, sentence in KNOWN.items():
        if match := re.search(expression, said):
            return sentence.format(*filter(None, match.groups()))
    told = said.removeprefix("ERROR:hf-to-gguf:") or (lines[-1] if lines else "nothing")
    return f"it says {told[:300]!r}; start from another base model, or fetch the tested converter with scripts/setup"
