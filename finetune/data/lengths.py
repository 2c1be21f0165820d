"""Waveforms brought to a length, without silence that a network could take for a sign."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from finetune.data.draws import uniform

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
