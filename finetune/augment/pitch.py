"""Pitch shift: higher or lower at the same tempo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr
import torch
from torch import Generator, Tensor

from cache.options import Span, option
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
    """(T,) to (about ratio (T - 1024),), with the same frequencies."""
    window = torch.hann_window(_FFT)
    # Not centred: of a first frame that is half reflection, the bins have phases that part for the
    # whole clip.
    spectrum = torch.stft(clip, _FFT, _HOP, window=window, center=False, return_complex=True)
    return torch.istft(vocoder(spectrum, ratio), _FFT, _HOP, window=window)


def vocoder(spectrum: Tensor, ratio: float) -> Tensor:
    """Stretch a spectrum in time.

    Magnitudes are interpolated between frames; each bin's phase goes on by what it went on between
    the same two frames. The distance of frames does not change, so whole turns do not matter and
    phases can stay what they are, complex numbers of length 1.

    Parameters
    ----------
    spectrum
        (bins, frames) complex, frames >= 2.
    ratio
        Of the lengths, new to old.

    Returns
    -------
    Tensor
        (bins, ceil(ratio (frames - 1))).
    """
    times = torch.arange(0, spectrum.shape[1] - 1, 1 / ratio, dtype=torch.float64)
    before = times.long()
    after = (times - before).to(spectrum.real.dtype)
    magnitude, turns = spectrum.abs(), torch.sgn(spectrum)
    turns = torch.where(turns == 0, 1, turns)  # a silent bin has no phase
    steps = (turns[:, 1:] * turns[:, :-1].conj())[:, before[:-1]]
    phases = torch.cat([turns[:, :1], steps], dim=1).cumprod(1)
    return torch.lerp(magnitude[:, before], magnitude[:, before + 1], after) * torch.sgn(phases)


def _level(waveform: Tensor) -> Tensor:
    return waveform.square().mean().sqrt()


AUGMENTATION = Pitch
