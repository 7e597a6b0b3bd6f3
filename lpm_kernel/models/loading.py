"""Loading a model safely, and choosing its arithmetic.

Safe means: weights from safetensors only, no code from the model's directory, nothing from the network.
"""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from lpm_kernel.errors import DataError
from lpm_kernel.models.folder import read_model_config
from lpm_kernel.models.weights import check_finite, read_weights

Precision = Literal["auto", "float32", "bfloat16"]
WIDE = 512
"""From this hidden size on, bfloat16 matrix products are faster than float32 on a CPU that has them, and so are several
threads than one."""


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
    check_finite(read_weights(path))


def load_tokenizer(path: Path) -> Any:
    """The tokenizer with chat template, end-of-turn and padding token; raises DataError when it lacks or breaks one."""
    from transformers import AutoTokenizer

    read_model_config(path)
    with _reading(path, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
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
    """The causal language model, its weights in `dtype` (`float32` or `bfloat16`).

    Raises DataError when configuration and weights do not fit each other.
    """
    import torch
    from transformers import AutoModelForCausalLM

    _check_depth(path)
    torch.set_flush_denormal(True)
    with _reading(path, "model"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    model, found = loaded
    if found["missing_keys"]:
        raise DataError(
            f"{path} lacks {len(found['missing_keys'])} weights that its config.json asks for, such as "
            f"{min(found['missing_keys'])}; fetch or make the model again"
        )
    return model


def _check_depth(path: Path) -> None:
    """Raise DataError when the configuration asks for more layers than the weights hold, before any is allocated."""
    config = read_model_config(path)
    wanted = config.get("text_config", config).get("num_hidden_layers") or 0
    numbers = [int(n) for weight in read_weights(path) for n in re.findall(r"\.(\d+)\.", weight.name)]
    held = max(numbers, default=-1) + 1
    if wanted > held:
        raise DataError(
            f"{path}/config.json asks for {wanted} layers, the weights hold {held}; they are of different models: "
            "fetch or make the model again"
        )


def _first_mismatch(path: Path) -> str:
    """The first weight whose stored shape is not the one that the configuration asks for; empty for none."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        asked = {name: tuple(t.shape) for name, t in AutoModelForCausalLM.from_config(config).state_dict().items()}
    wrong = (w for w in read_weights(path) if asked.get(w.name, w.shape) != w.shape)
    return next((f"{w.name} is {w.shape}, config.json asks for {asked[w.name]}" for w in wrong), "")


@contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """DataError for a damaged file of a model, at which the libraries raise exceptions of any kind."""
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) is not None:
            raise
        told = " ".join(str(error).split()) or type(error).__name__
        if "ignore_mismatched_sizes" in told:
            told = _first_mismatch(path) or told
        raise DataError(f"{path}: its {what} cannot be loaded ({told}); fetch or make the model again") from error


def choose_precision(path: Path, wanted: Precision) -> str:
    """`float32` or `bfloat16`: as wanted, or what is faster for this width on this machine."""
    import torch

    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bfloat16"
    wide = int(read_model_config(path).get("hidden_size") or 0) >= WIDE
    return "bfloat16" if wide and torch.cpu._is_avx512_bf16_supported() else "float32"


@contextmanager
def threads_for(model: Any) -> Iterator[None]:
    """One thread for a narrow model: waiting for a second one costs more than it brings, most of all beside other work.

    Measured with 2 layers, 8 x 40 tokens, forward and backward, on two idle cores: 49 ms on one thread and 63 to 98 ms
    on two at a hidden size of 192, 187 and 307 at 512, 331 and 288 at 768.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1 if model.config.get_text_config().hidden_size < WIDE else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
