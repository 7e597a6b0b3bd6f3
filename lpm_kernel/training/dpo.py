"""trl's DPOTrainer on exactly the tokens that the server sees and generates.

This module loads trl: import it inside `run` only.
"""

from typing import Any

from trl.trainer.dpo_trainer import DPOTrainer

from lpm_kernel.training.callbacks import GuardLoss
from lpm_kernel.training.rendering import cut_after_end


class PairTrainer(GuardLoss, DPOTrainer):
    """Stops at a loss that is not finite, and trains no token behind the end of turn."""

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """trl's tokens, without what the template writes behind the end of turn (ChatML: a line break)."""
        tokenised = super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        end = processing_class.eos_token_id

        def cut(row: dict[str, list[int]]) -> dict[str, list[int]]:
            return {side: cut_after_end(row[side], end) for side in ("chosen_ids", "rejected_ids")}

        return tokenised.map(cut)
