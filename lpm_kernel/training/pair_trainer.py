"""trl's DPOTrainer on exactly the tokens that the server sees and generates, and that SFT trains.

This module loads trl: import it inside `run` only.
"""

from typing import Any

from trl.trainer.dpo_trainer import DPOTrainer

from lpm_kernel.models.rendering import render
from lpm_kernel.records import Message
from lpm_kernel.training.arguments import FloorWarmup
from lpm_kernel.training.callbacks import GuardLoss


class PairTrainer(GuardLoss, FloorWarmup, DPOTrainer):
    """Stops at what is not finite, and trains our own tokens."""

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """Our token ids under trl's column names.

        trl would render prompt and answer together, as a past turn, which many templates change.
        """

        def tokenise(row: dict[str, Any]) -> dict[str, list[int]]:
            messages = [Message(**message) for message in row["prompt"]]
            answers = (row[side][0]["content"] for side in ("chosen", "rejected"))
            chosen, rejected = (render(processing_class, messages, answer) for answer in answers)
            return {"prompt_ids": chosen.prompt, "chosen_ids": chosen.answer, "rejected_ids": rejected.answer}

        return dataset.map(tokenise)
