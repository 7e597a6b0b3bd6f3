"""The settings that both trainings share."""

from pydantic import Field

from lpm_kernel.config import Config
from lpm_kernel.models.loading import Precision

RANK = "Rank of the LoRA adapter, on all linear layers; 0 trains all weights and writes a whole model."

LOG = "training_log.json"
"""Beside what was trained: a list of figures in the order of the updates."""


class TrainConfig(Config):
    """How a model is trained; each stage sets its own defaults for rate, rank and batch."""

    num_train_epochs: float = Field(3.0, gt=0, description="Passes over the data.")
    learning_rate: float = Field(1e-4, gt=0, description="Peak learning rate.")
    batch_size: int = Field(4, ge=1, description="Rows per forward pass.")
    gradient_accumulation_steps: int = Field(1, ge=1, description="Forward passes per update.")
    max_length: int = Field(2048, ge=16, description="Longer rows are left out and counted, in tokens.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are scaled down to this norm.")
    warmup_ratio: float = Field(0.1, ge=0, lt=1, description="Share of the updates during which the rate rises.")
    warmup_steps: int | None = Field(
        None, ge=0, description="Updates during which the rate rises, in place of --warmup-ratio."
    )
    weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay.")
    lora_r: int = Field(32, ge=0, description=RANK)
    lora_alpha: int = Field(64, ge=1, description="LoRA's scale: the adapter counts alpha / r.")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the adapter's input, a probability.")
    gradient_checkpointing: bool = Field(False, description="Recompute activations: less memory, a third more time.")
    precision: Precision = Field("auto", description="Arithmetic; auto: bfloat16 on a GPU and for wide models.")
    logging_steps: int = Field(5, ge=1, description="Updates between two entries of the training log.")
    save_steps: int = Field(50, ge=1, description="Updates between two checkpoints.")
    seed: int = Field(42, ge=0, lt=2**32, description="Seed of weights, order and dropout.")
