"""Random draws from a torch generator, on the generator's device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator, Tensor

from cache.base.options import Span

_UNIT = Span(0.0, 1.0)


def uniform(count: int, generator: Generator, span: Span = _UNIT) -> Tensor:
    """Draw (count,) float64 from a span."""
    values = torch.rand(count, generator=generator, device=generator.device, dtype=torch.float64)
    return span.low + (span.high - span.low) * values


def chosen(count: int, p: float, generator: Generator) -> Tensor:
    """Choose each of `count` rows with probability p: (n,) int64 on the CPU, ascending."""
    return (uniform(count, generator) < p).nonzero()[:, 0].cpu()


def beta(count: int, alpha: float, generator: Generator) -> Tensor:
    """Draw (count,) float32 of Beta(alpha, alpha) on the CPU.

    Torch's own takes no generator: NumPy's is seeded by this one.
    """
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    drawn = np.random.default_rng(int(seed)).beta(alpha, alpha, count)
    return torch.from_numpy(drawn.astype(np.float32))


def partners(allowed: Tensor, generator: Generator) -> Tensor:
    """Choose one of the allowed columns for each row, all with the same probability.

    Parameters
    ----------
    allowed
        (B, N) bool.
    generator
        Of the choice.

    Returns
    -------
    Tensor
        (B,) int64 on the CPU, -1 for a row that allows none.
    """
    draws = uniform(allowed.numel(), generator).cpu().view(allowed.shape)
    best = draws.masked_fill(~allowed.cpu(), -1).max(1)
    return best.indices.masked_fill(best.values < 0, -1)
