"""Pitch shift: higher or lower at the same tempo."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import soxr
import torch
from torch import Generator, Tensor

from cache.options import Span, option
from extractors.compat import torchaudio
from finetune.augmentation import WaveformAugmentation
from finetune.draws import uniform
from finetune.lengths import fitted

_FFT, _HOP = 1024, 256  # samples: 64 ms at 16 kHz, four windows over each other
_SILENT = 1e-12  # a level below which nothing is to be restored


@dataclass(frozen=True)
class Pitch(WaveformAugmentation):
    """Stretched in time by a phase vocoder (Flanagan and Golden 1966), then played faster.

    The vocoder takes about 3 dB from noise, whose bins lose their common phase; the level of the
    clip is restored. Computed on the CPU, clip by clip. A clip shorter than two windows of 1024
    samples has no pitch to shift and stays as it is.
    """

    semitones: Span = option(Span(-2.0, 2.0), "range of the shift", least=-12.0, most=12.0)

    def change(self, waveforms: Tensor, generator: Generator) -> Tensor:
        """See `WaveformAugmentation.change`."""
        if waveforms.shape[1] < 2 * _FFT:
            return waveforms
        ratios = 2 ** (uniform(len(waveforms), generator, self.semitones) / 12)
        shifted = [
            _shifted(clip, ratio, generator)
            for clip, ratio in zip(waveforms.cpu(), ratios.tolist(), strict=True)
        ]
        return torch.cat(shifted).to(waveforms.device)


def _shifted(clip: Tensor, ratio: float, generator: Generator) -> Tensor:
    """(T,) to (1, T), all frequencies multiplied by the ratio."""
    stretched = _stretched(clip, ratio).numpy()
    played = soxr.resample(stretched, ratio, 1.0, quality="HQ").astype(np.float32)
    whole = fitted(torch.from_numpy(played)[None], len(clip), generator)
    return whole * (_level(clip) / _level(whole).clamp_min(_SILENT))


def _stretched(clip: Tensor, ratio: float) -> Tensor:
    """(T,) to (about ratio (T - 1024),) float64, with the same frequencies."""
    window = torch.hann_window(_FFT, dtype=torch.float64)
    # In float64: the phases that the vocoder adds up grow to a million radians. Not centred: of a
    # first frame that is half reflection the bins have phases that part for the whole clip.
    spectrum = torch.stft(
        clip.double(), _FFT, _HOP, window=window, center=False, return_complex=True
    )
    advance = torch.linspace(0, math.pi * _HOP, len(spectrum), dtype=torch.float64)[:, None]
    slower = torchaudio().functional.phase_vocoder(spectrum, 1 / ratio, advance)
    return torch.istft(slower, _FFT, _HOP, window=window)


def _level(waveform: Tensor) -> Tensor:
    return waveform.square().mean().sqrt()


AUGMENTATION = Pitch
