"""What is trained, and writing it: an adapter with the fingerprint of its base, or a whole model."""

import json
from pathlib import Path
from typing import Any

from lpm_kernel.errors import DivergedError
from lpm_kernel.files import write_json
from lpm_kernel.models.fingerprint import ADAPTER_RECORD, weights_fingerprint
from lpm_kernel.models.folder import GENERATION_CONFIG, TOKENIZER_FILES, copy_config, copy_files
from lpm_kernel.training.settings import TrainConfig


def lora_config(settings: TrainConfig) -> Any:
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
    """Write a whole model: weights in float32 as trained, for the merge to round once; all else is the base's.

    Raises DivergedError.
    """
    _require_finite(model)
    model.float().save_pretrained(model_path, safe_serialization=True)
    for file in (model_path / "config.json", model_path / GENERATION_CONFIG):
        file.unlink(missing_ok=True)
    copy_files(base_model_path, model_path, (*TOKENIZER_FILES, GENERATION_CONFIG))
    copy_config(base_model_path, model_path, "float32")
