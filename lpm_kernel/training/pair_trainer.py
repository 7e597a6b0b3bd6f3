"""trl's DPOTrainer on exactly the tokens that the server sees and generates, with each pair's own doubt in the loss.

This module loads trl: import it inside `run` only.
"""

from typing import Any

import torch
from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer

from lpm_kernel.training.arguments import FloorWarmup
from lpm_kernel.training.callbacks import GuardLoss
from lpm_kernel.training.pairs import SLOPE


class PairCollator(DataCollatorForPreference):
    """trl's batch, with the slope of each pair."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Token ids and masks as trl has them, and the slopes."""
        slopes = torch.tensor([example[SLOPE] for example in examples], dtype=torch.float64)
        return {**super().torch_call(examples), SLOPE: slopes}


class PairTrainer(GuardLoss, FloorWarmup, DPOTrainer):
    """Stops at what is not finite, and trains the token ids and confidences of PairTokens.

    Needs every column (`remove_unused_columns=False`), trl's loss `sigmoid`, and `precompute_ref_log_probs` where a
    slope is not 0.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.data_collator = PairCollator(**vars(self.data_collator))

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        """As it is: trl would render prompt and answer together, as a past turn, which many templates change."""
        return dataset

    def compute_ref_log_probs(self, model: Any, inputs: dict[str, Any]) -> Any:
        """Of a padded batch, whose slopes are no input of the model."""
        return super().compute_ref_log_probs(model, _without_slope(inputs))  # type: ignore[no-untyped-call]

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        """DPO's loss, and for pairs with a doubt the mean of slope * beta * delta; see `doubt.py`."""
        log_probs: list[Any] = []

        def observed(**given: Any) -> Any:
            outputs = model(**given)
            log_probs.append(getattr(outputs, "log_probs", None))
            return outputs

        found = super()._compute_loss(observed, _without_slope(inputs), return_outputs)  # type: ignore[no-untyped-call]
        slopes = inputs[SLOPE]
        if not slopes.any():
            return found
        tokens = inputs["completion_mask"].shape[1] - 1
        chosen, rejected = log_probs[0][:, -tokens:].sum(dim=1).chunk(2)
        delta = (chosen - inputs["ref_chosen_logps"]) - (rejected - inputs["ref_rejected_logps"])
        added = (slopes.to(delta.dtype) * self.beta * delta).mean()
        return (found[0] + added, found[1]) if return_outputs else found + added


def _without_slope(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor for name, tensor in inputs.items() if name != SLOPE}
