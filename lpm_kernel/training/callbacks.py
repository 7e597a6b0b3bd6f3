"""What watches a training: progress with the time left, the guard against divergence, the end at saturation.

This module loads transformers: import it inside `run` only.
"""

import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, TrainerCallback

from lpm_kernel.errors import DivergedError
from lpm_kernel.progress import Progress, progress
from lpm_kernel.training.checkpoints import distrust

CURE = "lower --learning_rate or --max_grad_norm and start again"


class ShowProgress(TrainerCallback):
    """One progress line over the updates that are left."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.stack = ExitStack()
        self.shown: Progress | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start counting; a resumed run counts only what is left."""
        self.shown = self.stack.enter_context(progress(self.label, state.max_steps - state.global_step))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """One update done."""
        if self.shown is not None:
            self.shown.advance()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave the last line on the screen."""
        self.stack.close()


def shown_progress(trainer: Any) -> ExitStack:
    """The trainer's progress line, to be held while it trains: an error or Ctrl-C ends it too."""
    return next(c.stack for c in trainer.callback_handler.callbacks if isinstance(c, ShowProgress))


def silence(trainer: Any) -> None:
    """Take away the callback that prints each log entry to standard output."""
    trainer.remove_callback(PrinterCallback)


class GuardGradients(TrainerCallback):
    """Raises DivergedError before an update with a gradient that is not finite, so the weights stay good."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called after clipping: one bad gradient has made all of them bad."""
        import torch

        gradients = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
        if gradients and not math.isfinite(float(torch.stack([g.float().abs().max() for g in gradients]).max())):
            raise DivergedError(f"step {state.global_step + 1}: a gradient is not finite; {CURE}")


class GuardLoss:
    """A Trainer with this mixin stops at the first loss, or logged figure, that is not finite.

    The trainer's own filter (`logging_nan_inf_filter`) would replace it in the log and train on.
    """

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Forward and backward; raises DivergedError."""
        loss = super().training_step(*args, **kwargs)  # type: ignore[misc]
        if not math.isfinite(float(loss)):
            step = self.state.global_step + 1  # type: ignore[attr-defined]
            raise DivergedError(f"step {step}: the loss is {float(loss)}, expected a finite number; {CURE}")
        return loss

    def log(self, *args: Any, **kwargs: Any) -> None:
        """Log, with what the trainer adds; raises DivergedError, and no run resumes from a checkpoint of this step.

        After the last update only this sees what the weights do.
        """
        super().log(*args, **kwargs)  # type: ignore[misc]
        entry = self.state.log_history[-1]  # type: ignore[attr-defined]
        for name, value in entry.items():
            if isinstance(value, float) and not math.isfinite(value):
                distrust(Path(self.args.output_dir) / f"checkpoint-{entry['step']}")  # type: ignore[attr-defined]
                raise DivergedError(f"step {entry['step']}: {name} is {value}, expected a finite number; {CURE}")


class StopWhenSaturated(TrainerCallback):
    """Ends DPO when the logged reward margins stay above a bound: the loss has nothing left to teach."""

    def __init__(self, bound: float, patience: int = 3) -> None:
        self.bound, self.patience, self.above = bound, patience, 0

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Count consecutive training logs above the bound."""
        margin = (logs or {}).get("rewards/margins")
        if margin is None:
            return
        self.above = self.above + 1 if margin > self.bound else 0
        if self.above >= self.patience:
            control.should_training_stop = True
