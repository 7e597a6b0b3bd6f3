"""Loading a base model safely, choosing its arithmetic, and writing what was trained.

Safe means: weights from safetensors only, no code from the model's directory, nothing from the network.
"""

import json
import os
import warnings
from pathlib import Path
from typing import Any

from lpm_kernel.errors import DataError, DivergedError
from lpm_kernel.records import write_json
from lpm_kernel.training.fingerprint import ADAPTER_RECORD, weights_fingerprint
from lpm_kernel.training.model_files import (
    GENERATION_CONFIG,
    TOKENIZER_FILES,
    copy_files,
    read_model_config,
    weight_shards,
)
from lpm_kernel.training.settings import Precision, TrainSettings
from lpm_kernel.training.weight_files import list_weights

WIDE = 512
"""From this hidden size on, bfloat16 matrix products are faster than float32 on a CPU that has them."""


def quiet_libraries() -> None:
    """Silence the libraries' own bars and advice; our progress and our errors speak instead.

    The warning is peft's use of a name that transformers 5.23 renamed.
    """
    import transformers

    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


def check_base(path: Path) -> None:
    """Raise MissingInputError or DataError for a directory that cannot be, or must not be, a base model."""
    read_model_config(path)
    list_weights(weight_shards(path))


def load_tokenizer(path: Path) -> Any:
    """The tokenizer with chat template, end-of-turn and padding token; raises DataError without a template."""
    from transformers import AutoTokenizer

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


def lora_config(settings: TrainSettings) -> Any:
    """peft's settings for LoRA on all linear layers."""
    from peft import LoraConfig

    return LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def save_adapter(model: Any, adapter_path: Path, base_model_path: Path) -> None:
    """Write the adapter in float32, with the fingerprint of the weights that it belongs to; raises DivergedError."""
    _require_finite(model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    model.save_pretrained(adapter_path, safe_serialization=True)
    (adapter_path / "README.md").unlink(missing_ok=True)
    _make_portable(adapter_path / "adapter_config.json")
    write_json(adapter_path / ADAPTER_RECORD, {"base_weights_sha256": weights_fingerprint(base_model_path)})


def _require_finite(model: Any) -> None:
    import torch

    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not torch.isfinite(parameter).all():
            raise DivergedError(f"trained weight {name} is not finite; lower --learning_rate and train again")


def _make_portable(config_path: Path) -> None:
    """No path of this machine and no order of a set: the same training writes the same bytes anywhere."""
    config = json.loads(config_path.read_text(encoding="utf-8"))
    modules = sorted(config["target_modules"])
    write_json(config_path, config | {"base_model_name_or_path": None, "target_modules": modules})


def save_full_model(model: Any, model_path: Path, base_model_path: Path) -> None:
    """Write a whole model: weights in the base's own dtype, config and tokenizer byte for byte from the base.

    Raises DivergedError.
    """
    import torch

    _require_finite(model)
    stored = read_model_config(base_model_path)
    name = str(stored.get("dtype") or stored.get("torch_dtype") or "float32")
    model.to(getattr(torch, name)).save_pretrained(model_path, safe_serialization=True)
    for file in (model_path / "config.json", model_path / GENERATION_CONFIG):
        file.unlink(missing_ok=True)
    copy_files(base_model_path, model_path, (*TOKENIZER_FILES, "config.json", GENERATION_CONFIG))
