"""Speed and pitch of one recording, on the CPU: soxr, and a phase vocoder before it."""

from __future__ import annotations

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

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
        (about factor (T - 1024),) of the same type.
    """
    window = torch.hann_window(_FFT, dtype=wave.dtype)
    # Not centred: of a first frame that is half reflection, the bins have phases that part for the
    # whole clip.
    spectrum = torch.stft(wave, _FFT, _HOP, window=window, center=False, return_complex=True)
    return torch.istft(vocoder(spectrum, factor), _FFT, _HOP, window=window)


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
