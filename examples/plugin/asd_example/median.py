"""A pooling: the median over time, or another quantile."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cache.base.options import Options, option


@dataclass(frozen=True)
class Median(Options):
    """Quantile of every channel over time: (B, time, C) to (B, C)."""

    q: float = option(0.5, "which quantile; 0.5 is the median", least=0, most=1)

    def __call__(self, frames: Tensor) -> Tensor:
        """Pool frames (B, time, C) to (B, C)."""
        return frames.quantile(self.q, dim=1)


POOLING = Median
