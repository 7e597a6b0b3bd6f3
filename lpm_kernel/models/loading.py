"""Loading a model safely, and choosing its arithmetic.

Safe means: weights from safetensors only, no code from the model's directory, nothing from the network.
"""

import os
import warnings
from pathlib import Path
from typing import Any, Literal

from lpm_kernel.errors import DataError
from lpm_kernel.models.folder import read_model_config, weight_shards
from lpm_kernel.models.weights import list_weights

Precision = Literal["auto", "float32", "bfloat16"]
WIDE = 512
"""From this hidden size on, bfloat16 matrix products are faster than float32 on a CPU that has them."""


def quiet_libraries() -> None:
    """Silence the libraries' own bars and advice; our progress and our errors speak instead.

    The warning is peft's use of a name that transformers 5.23 renamed.
    """
    import transformers

    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


def check_base(path: Path) -> None:
    """Raise MissingInputError or DataError for a directory that cannot be, or must not be, a base model."""
    read_model_config(path)
    list_weights(weight_shards(path))


def load_tokenizer(path: Path) -> Any:
    """The tokenizer with chat template, end-of-turn and padding token; raises DataError when it lacks or breaks one."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the libraries raise all kinds, down to plain Exception, for a tokenizer that is broken
        told = f"{type(error).__name__}: {str(error)[:300]}"
        raise DataError(f"the tokenizer of {path} cannot be loaded ({told}); fetch or make the model again") from None
    if not tokenizer.chat_template:
        raise DataError(
            f"{path} has no chat template, so prompts cannot be rendered; take the chat (instruct) variant of the "
            "model, or put its chat_template.jinja there"
        )
    if tokenizer.eos_token_id is None:
        raise DataError(f"{path} names no end token; set eos_token in tokenizer_config.json")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(path: Path, dtype: str) -> Any:
    """The causal language model, its weights in `dtype` (`float32` or `bfloat16`)."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_flush_denormal(True)
    return AutoModelForCausalLM.from_pretrained(
        path, dtype=getattr(torch, dtype), use_safetensors=True, local_files_only=True, trust_remote_code=False
    )


def choose_precision(path: Path, wanted: Precision) -> str:
    """`float32` or `bfloat16`: as wanted, or what is faster for this width on this machine."""
    import torch

    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bfloat16"
    wide = int(read_model_config(path).get("hidden_size") or 0) >= WIDE
    return "bfloat16" if wide and torch.cpu._is_avx512_bf16_supported() else "float32"
