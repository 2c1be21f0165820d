"""Coloured noise at a signal-to-noise ratio."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from cache.base.options import Span, option
from finetune.data.augmentation import WaveformAugmentation
from finetune.data.draws import with_noise


@dataclass(frozen=True)
class Noise(WaveformAugmentation):
    """Gaussian noise whose power density falls with the frequency as ``1 / f^exponent``."""

    snr: Span = option(Span(0.0, 20.0), "range of the ratio, dB", least=-40.0, most=100.0)
    exponent: float = option(1.0, "0 white, 1 pink, 2 brown, -1 blue", least=-3.0, most=3.0)

    def change(self, waveforms: Tensor, generator: Generator) -> Tensor:
        """See `WaveformAugmentation.change`."""
        white = torch.randn(waveforms.shape, generator=generator, device=generator.device)
        noise = coloured(white.to(waveforms.device), self.exponent)
        return with_noise(waveforms, noise, self.snr, generator)


def coloured(white: Tensor, exponent: float) -> Tensor:
    """Shape white noise (B, T) to a power density of ``1 / f^exponent``, without a mean."""
    spectrum = torch.fft.rfft(white)
    bins = torch.arange(1, spectrum.shape[1], device=white.device, dtype=white.dtype)
    spectrum[:, 1:] *= (bins / len(bins)) ** (-exponent / 2)
    spectrum[:, 0] = 0
    noise: Tensor = torch.fft.irfft(spectrum, n=white.shape[1])
    return noise


AUGMENTATION = Noise
