"""The order of the rows in an epoch, told by seed and epoch alone.

transformers' own LengthGroupedSampler draws from the global generator. A run that resumes within the second epoch or
later draws another order than the run that was killed, so that some rows of the epoch come twice and some not at all.
"""

import torch
from transformers.trainer_pt_utils import LengthGroupedSampler


class SeededOrder(LengthGroupedSampler):
    """Rows of about the same length stand in one batch; the trainer calls `set_epoch` before each epoch."""

    def __init__(self, batch_size: int, lengths: list[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths, generator=torch.Generator())
        self._seed = seed

    def set_epoch(self, epoch: int) -> None:
        """Epochs count from 0."""
        self.generator.manual_seed(self._seed + epoch)
