"""Draws of augmentations, and what they do to a batch of waveforms: lengths, noise at a ratio."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Generator, Tensor

from cache.base.options import Span
from extractors.device import torchaudio

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


_FADE = 256  # samples, 16 ms at 16 kHz: too short to hear, long enough not to click


def cropped(waveforms: Tensor, length: int, generator: Generator) -> Tensor:
    """Cut (B, T) to (B, length), T >= length, each clip from a beginning of its own."""
    latest = waveforms.shape[1] - length
    if latest == 0:
        return waveforms
    starts = (uniform(len(waveforms), generator) * (latest + 1)).long().to(waveforms.device)
    return waveforms.gather(1, starts[:, None] + torch.arange(length, device=waveforms.device))


def fitted(waveforms: Tensor, length: int, generator: Generator) -> Tensor:
    """Bring (B, T), T >= 1, to (B, length).

    Longer clips are cut at random. Shorter ones go on from their beginning, with a crossfade of
    constant power at the seam: silence, or a click, would tell the network what was done.
    """
    piece = waveforms
    while waveforms.shape[1] < length:
        waveforms = _joined(waveforms, piece)
    return cropped(waveforms, length, generator)


def _joined(before: Tensor, after: Tensor) -> Tensor:
    fade = min(_FADE, after.shape[1] // 2)
    if not fade:
        return torch.cat([before, after], dim=1)
    angle = torch.linspace(0, math.pi / 2, fade, device=before.device, dtype=before.dtype)
    seam = before[:, -fade:] * angle.cos() + after[:, :fade] * angle.sin()
    return torch.cat([before[:, :-fade], seam, after[:, fade:]], dim=1)


def with_noise(waveforms: Tensor, noise: Tensor, snr: Span, generator: Generator) -> Tensor:
    """Add noise to each clip, at a ratio of its own.

    Parameters
    ----------
    waveforms, noise
        (B, T).
    snr
        Range of ``10 log10(energy of the clip / energy of its noise)``, dB.
    generator
        Of the ratios.

    Returns
    -------
    Tensor
        (B, T). A silent clip, or one whose noise is silent, has no ratio and stays as it is.
    """
    ratios = uniform(len(waveforms), generator, snr).to(waveforms.device, waveforms.dtype)
    noisy = torchaudio().functional.add_noise(waveforms, noise, ratios)
    is_silent = noise.square().sum(1, keepdim=True) == 0  # torchaudio divides by it
    return torch.where(is_silent, waveforms, noisy)
