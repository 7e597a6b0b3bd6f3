"""The course of a training: from the last whole checkpoint to what was trained, with its log.

This module loads transformers: import it inside `run` only.
"""

from pathlib import Path
from typing import Any

from lpm_kernel.files import write_json
from lpm_kernel.models.loading import threads_for
from lpm_kernel.progress import say
from lpm_kernel.training.callbacks import shown_progress
from lpm_kernel.training.checkpoints import last_valid
from lpm_kernel.training.saving import save_adapter, save_full_model
from lpm_kernel.training.settings import LOG, TrainConfig


def train(
    trainer: Any,
    name: str,
    config: TrainConfig,
    *,
    base_model_path: Path,
    adapter_path: Path,
    work_path: Path,
    binding: str,
) -> None:
    """Go on from the last checkpoint of this binding, and write the adapter, or with rank 0 the whole model.

    Raises DivergedError when loss, gradient or a logged figure is no longer finite.
    """
    checkpoint = last_valid(work_path, binding)
    if checkpoint is not None:
        say(f"{name} continues from {checkpoint.name}")
    with shown_progress(trainer), threads_for(trainer.model):
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    adapter_path.mkdir(parents=True, exist_ok=True)
    write_json(adapter_path / LOG, trainer.state.log_history)
    save = save_adapter if config.lora_r else save_full_model
    save(trainer.model, adapter_path, base_model_path)
