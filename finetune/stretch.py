"""Speed and pitch of one recording, on the CPU: soxr, and a phase vocoder before it."""

from __future__ import annotations

import math

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from extractors.compat import torchaudio

_FFT, _HOP = 1024, 256  # samples: 64 ms at 16 kHz, four windows over each other
SHORTEST = 2 * _FFT  # samples: less has no pitch to shift

Samples = NDArray[np.float64]


def at_speed(wave: Samples, factor: float) -> Samples:
    """Play a wave faster: tempo and pitch times `factor`.

    Parameters
    ----------
    wave
        (T,).
    factor
        Above 0; below 1 it is slower.

    Returns
    -------
    Samples
        (about T / factor,).
    """
    return np.asarray(soxr.resample(wave, factor, 1.0, quality="HQ"), dtype=np.float64)


def at_pitch(wave: Samples, factor: float) -> Samples:
    """Shift the pitch of a wave: stretched in time without a change of pitch, then played faster.

    The vocoder takes about 3 dB from noise, whose bins lose their common phase.

    Parameters
    ----------
    wave
        (T,), at least `SHORTEST` samples.
    factor
        Of every frequency, above 0.

    Returns
    -------
    Samples
        (about T - 1024,), the tempo as it was.
    """
    return at_speed(stretched(torch.from_numpy(wave), factor).numpy(), factor)


def stretched(wave: Tensor, factor: float) -> Tensor:
    """Make a wave longer at the same pitch, by a phase vocoder (Flanagan and Golden 1966).

    Parameters
    ----------
    wave
        (T,), at least `SHORTEST` samples.
    factor
        Of the length, above 0.

    Returns
    -------
    Tensor
        (about factor (T - 1024),) float64.
    """
    window = torch.hann_window(_FFT, dtype=torch.float64)
    # In float64: the phases that the vocoder adds up grow to a million radians. Not centred: of a
    # first frame that is half reflection the bins have phases that part for the whole clip.
    spectrum = torch.stft(
        wave.double(), _FFT, _HOP, window=window, center=False, return_complex=True
    )
    advance = torch.linspace(0, math.pi * _HOP, len(spectrum), dtype=torch.float64)[:, None]
    slower = torchaudio().functional.phase_vocoder(spectrum, 1 / factor, advance)
    return torch.istft(slower, _FFT, _HOP, window=window)
