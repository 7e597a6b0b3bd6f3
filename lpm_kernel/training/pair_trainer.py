"""trl's DPOTrainer on exactly the tokens that the server sees and generates, and that SFT trains.

This module loads trl: import it inside `run` only.
"""

from typing import Any

from trl.trainer.dpo_trainer import DPOTrainer

from lpm_kernel.training.arguments import FloorWarmup
from lpm_kernel.training.callbacks import GuardLoss


class PairTrainer(GuardLoss, FloorWarmup, DPOTrainer):
    """Stops at what is not finite, and trains the token ids of PairTokens."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        """As it is: trl would render prompt and answer together, as a past turn, which many templates change."""
        return dataset
