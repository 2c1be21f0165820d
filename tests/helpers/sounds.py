"""Sounds to augment, and what is measured of them."""

from __future__ import annotations

import numpy as np
import torch
from scipy import signal

from finetune.data import augmentation
from finetune.data.augmentation import Augmentation, Batch, Mixture

RATE = 16_000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(waveforms: torch.Tensor, machines: int = 3) -> Batch:
    numbers = torch.arange(len(waveforms))
    return Batch(waveforms, Mixture.plain(numbers % 5), numbers % machines, 5)


def noise(clips: int, samples: int = RATE, seed: int = 1) -> torch.Tensor:
    return 0.1 * torch.randn(clips, samples, generator=seeded(seed))


def parsed(text: str) -> Augmentation:
    return augmentation.parse([text]).of_batches[0]


def changed(text: str, waveforms: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return parsed(text)(batch(waveforms), seeded(seed)).waveforms


def frequency(clip: torch.Tensor) -> float:
    """The strongest, Hz, between bins by a parabola through its logarithms."""
    window = signal.windows.hann(len(clip), sym=False)
    power = np.log(np.abs(np.fft.rfft(clip.double().numpy() * window)) + 1e-30)
    peak = int(power.argmax())
    below, at, above = power[peak - 1 : peak + 2]
    return (peak + (below - above) / (below - 2 * at + above) / 2) * RATE / len(clip)


def sine(hertz: float, clips: int, samples: int = 2 * RATE) -> torch.Tensor:
    time = torch.arange(samples, dtype=torch.float64) / RATE
    return (0.5 * torch.sin(2 * torch.pi * hertz * time)).float().expand(clips, -1).contiguous()
