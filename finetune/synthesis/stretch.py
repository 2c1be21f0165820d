"""Speed and pitch of one recording: soxr for the speed, a phase vocoder before it for the pitch."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from extractors.waves import Wave
from finetune.synthesis.levels import fitted

Spectrum = NDArray[np.complex128]

_WINDOW = 1024  # samples, 64 ms at 16 kHz
_OVERLAP = 4  # windows over one sample: three quarters, as in Laroche & Dolson 1999


def at_speed(wave: Wave, factor: float) -> Wave:
    """Play a wave faster: tempo and pitch times `factor`.

    Parameters
    ----------
    wave
        (T,).
    factor
        Above 0; below 1 it is slower.

    Returns
    -------
    Wave
        (about T / factor,).
    """
    return np.asarray(soxr.resample(wave, factor, 1.0, quality="HQ"), dtype=np.float64)


def at_pitch(wave: Wave, factor: float) -> Wave:
    """Shift the pitch of a wave: stretched in time without a change of pitch, then played faster.

    Parameters
    ----------
    wave
        (T,).
    factor
        Of every frequency, above 0.

    Returns
    -------
    Wave
        (T,), the tempo as it was.
    """
    return fitted(at_speed(stretched(wave, factor), factor), len(wave))


def stretched(wave: Wave, factor: float) -> Wave:
    """Make a wave longer at the same pitch, by a phase vocoder.

    A spectral peak turns on by what it did between two neighbouring frames of the input (Flanagan
    & Golden 1966); the bins around it keep their phases against it, without which tones lose a
    fifth of their level: "identity phase locking", Laroche & Dolson, IEEE Trans. Speech Audio
    Process. 7(3), 1999.

    Parameters
    ----------
    wave
        (T,), any length: what is shorter than two windows goes on from its start meanwhile.
    factor
        Of the length, above 0.

    Returns
    -------
    Wave
        (round(T * factor),).
    """
    hop, samples = _WINDOW // _OVERLAP, round(len(wave) * factor)
    padded = fitted(wave, max(len(wave), 2 * _WINDOW))
    transform = ShortTimeFFT(hann(_WINDOW, sym=False), hop, fs=1.0, phase_shift=None)
    spectrum = transform.stft(padded)  # (F, N)
    times = np.arange(0, spectrum.shape[1] - 1, 1 / factor)  # (M,) input frame of an output frame
    result = transform.istft(_interpolated(spectrum, times, hop))
    return fitted(np.asarray(result, dtype=np.float64), max(1, samples))


def _interpolated(spectrum: Spectrum, times: Wave, hop: int) -> Spectrum:
    """Frames (F, M) at (M,) places between the frames (F, N), their phases continued."""
    frames = times.astype(np.intp)
    share = times - frames
    size = (1 - share) * np.abs(spectrum[:, frames]) + share * np.abs(spectrum[:, frames + 1])
    turn = np.angle(spectrum[:, frames + 1] * np.conj(spectrum[:, frames]))  # (F, M)
    # Between two frames a bin turns by its own frequency and what is measured, up to whole turns.
    own = 2 * np.pi * hop * np.arange(len(spectrum))[:, None] / _WINDOW
    advance = own + np.angle(np.exp(1j * (turn - own)))  # (F, M)
    given = np.angle(spectrum[:, frames])  # (F, M)
    phase = given.copy()
    for now in range(1, len(times)):
        going_on = phase[:, now - 1] + advance[:, now - 1]
        peak = _nearest_peak(size[:, now])
        phase[:, now] += (going_on - given[:, now])[peak]
    return np.asarray(size * np.exp(1j * phase))


def _nearest_peak(size: Wave) -> NDArray[np.intp]:
    """Bin of the spectral peak nearest to each of F bins; (F,)."""
    rising = np.concatenate([[True], size[1:] > size[:-1]])
    falling = np.concatenate([size[:-1] >= size[1:], [True]])
    peaks = np.flatnonzero(rising & falling)
    borders = (peaks[1:] + peaks[:-1] + 1) / 2
    return np.asarray(peaks[np.searchsorted(borders, np.arange(len(size)), side="right")])
