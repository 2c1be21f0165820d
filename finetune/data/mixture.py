"""Labels of a batch: one class a clip, or the two classes that were mixed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mixture:
    """Soft labels of at most two classes: ``weight`` of `first`, ``1 - weight`` of `second`.

    Attributes
    ----------
    first, second
        (B,) int64 class numbers from 0; the same for a clip that is not mixed.
    weight
        (B,) float32 in [0, 1].
    """

    first: Tensor
    second: Tensor
    weight: Tensor

    @classmethod
    def plain(cls, classes: Tensor) -> Mixture:
        """Labels of clips that are not mixed, from (B,) int64."""
        return cls(classes, classes, torch.ones(len(classes), device=classes.device))

    @property
    def is_plain(self) -> bool:
        """Whether no clip has two classes."""
        return bool((self.first == self.second).all())

    def average(self, values: Tensor) -> Tensor:
        """Weigh what (B, K) holds for the two classes of each clip: (B,)."""
        first = values.gather(1, self.first[:, None])[:, 0]
        second = values.gather(1, self.second[:, None])[:, 0]
        # `lerp` gives `first` to the last bit where both are the same.
        return torch.lerp(second, first, self.weight.to(values.dtype))

    def to(self, device: torch.device) -> Mixture:
        """Move to a device."""
        return Mixture(self.first.to(device), self.second.to(device), self.weight.to(device))
