"""Noise added at a signal-to-noise ratio."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from cache.base.options import Span
from extractors.compat import torchaudio
from finetune.data.draws import uniform


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
