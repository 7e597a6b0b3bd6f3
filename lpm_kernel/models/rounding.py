"""One rounding from fp64 to a storage dtype, and how much of an update survives it."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def round_once(values: "torch.Tensor", dtype: "torch.dtype") -> "torch.Tensor":
    """fp64 to the nearest value of dtype, ties to even, as if in one step.

    torch goes to 16 bits by way of fp32 and so rounds twice. Rounding to odd in fp32 first makes the second
    rounding exact (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008, theorem 3).
    """
    import torch

    if dtype not in (torch.float16, torch.bfloat16):
        return values.to(dtype)
    nearest = values.float()
    away = nearest.double().abs() > values.abs()
    bits = nearest.view(torch.int32) - away.int()
    inexact = nearest.double() != values
    return (bits | inexact.int()).view(torch.float32).to(dtype)


@dataclass
class Survival:
    """Sums over all merged tensors of the intended update i = W' - W in fp64 and the applied one a = round(W') - W."""

    intended_intended: float = 0.0
    applied_intended: float = 0.0
    applied_applied: float = 0.0

    def add(self, before: "torch.Tensor", merged: "torch.Tensor", rounded: "torch.Tensor") -> None:
        """Count one block; all fp64, of one shape."""
        intended, applied = (merged - before).flatten(), (rounded - before).flatten()
        self.intended_intended += float(intended @ intended)
        self.applied_intended += float(applied @ intended)
        self.applied_applied += float(applied @ applied)

    @property
    def projection(self) -> float | None:
        """<a, i> / <i, i>: 1 when all of the update survived; None for an adapter that changes nothing."""
        return self.applied_intended / self.intended_intended if self.intended_intended else None

    @property
    def cosine(self) -> float | None:
        """Between a and i: noise of the rounding lowers it; None when either is zero."""
        norms = math.sqrt(self.applied_applied * self.intended_intended)
        return self.applied_intended / norms if norms else None
