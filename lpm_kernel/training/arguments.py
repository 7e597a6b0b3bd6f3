"""TrainConfig -> the arguments of transformers' Trainer, in one place for both trainings."""

import math
from pathlib import Path
from typing import Any

from lpm_kernel.progress import say
from lpm_kernel.training.settings import TrainConfig


class FloorWarmup:
    """A Trainer with this mixin rounds the warm-up down, so that at least the last update runs at a rate above 0.

    transformers rounds it up: the only update of a short run would have rate 0.
    """

    def create_scheduler(self, num_training_steps: int, *args: Any, **kwargs: Any) -> Any:
        """The scheduler, over warm-up steps that are a whole number below num_training_steps."""
        arguments = self.args  # type: ignore[attr-defined]
        if arguments.warmup_steps < 1:
            arguments.warmup_steps = math.floor(arguments.warmup_steps * num_training_steps)
        elif arguments.warmup_steps >= num_training_steps:
            say(
                f"warning: the rate rises over {arguments.warmup_steps} updates (--warmup-steps), but there are "
                f"{num_training_steps}, so it never gets to --learning-rate; --warmup-ratio 0.1 takes a tenth of them"
            )
        return super().create_scheduler(num_training_steps, *args, **kwargs)  # type: ignore[misc]


def trainer_arguments(settings: TrainConfig, work_path: Path, precision: str) -> dict[str, Any]:
    """Keyword arguments that TrainingArguments and DPOConfig share."""
    import torch

    return {
        "output_dir": str(work_path),
        "num_train_epochs": settings.num_train_epochs,
        "learning_rate": settings.learning_rate,
        "per_device_train_batch_size": settings.batch_size,
        "per_device_eval_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation_steps,
        "max_grad_norm": settings.max_grad_norm,
        "weight_decay": settings.weight_decay,
        "warmup_steps": settings.warmup_ratio if settings.warmup_steps is None else settings.warmup_steps,
        "lr_scheduler_type": "cosine",
        "activation_checkpointing": settings.gradient_checkpointing,
        "bf16": precision == "bfloat16",
        "use_cpu": not torch.cuda.is_available(),
        "seed": settings.seed,
        "logging_steps": settings.logging_steps,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": settings.save_steps,
        "save_total_limit": 2,
        "remove_unused_columns": False,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "report_to": "none",
        "disable_tqdm": True,
    }
