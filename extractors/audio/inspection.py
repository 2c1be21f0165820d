"""Facts measured while a recording is decoded: bandwidth, silence, what a mix leaves."""

from __future__ import annotations

import numpy as np
import soundfile
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.facts import CONSTANT, SILENT, Facts

# Formats whose samples the decoder decides, not the file: another version may round otherwise.
_LOSSY = ("VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III")
DECODER = f"libsndfile-{soundfile.__libsndfile_version__}"
_LAST_BIT = 2.0**-14  # peak to peak of 16-bit samples in which the lowest bit alone is heard
_NOTHING = 1e-7  # deviation, re full scale, of what is no sound in any format
_CANCELLED = 1e-3  # of the channels' power; 512 unrelated channels leave more
_FRAME, _FRAMES, _BANDS = 1024, 64, 64
_WINDOW = np.hanning(_FRAME).astype(np.float32)
_CLIFF = 1e3  # ratio of power, 30 dB, within two bands: no machine and no room does that
_BELOW = 4  # bands below an edge that must all be that loud, so that a tone is no edge
_LOWEST = 12  # band; edges below are the machine's own


class Ear:
    """Measures a recording block by block.

    Parameters
    ----------
    sample_rate
        Of the file, Hz.
    sound
        Whether 1 is full scale. Of other numbers only what does not move at all is no signal.
    """

    def __init__(self, sample_rate: int, *, sound: bool = True) -> None:
        self._rate, self._sound = sample_rate, sound
        self._low, self._high, self._count, self._sum, self._square = np.inf, -np.inf, 0, 0.0, 0.0
        self._mixed, self._apart, self._channels = 0.0, 0.0, 1
        self._coarse = True
        self._spectra: list[NDArray[np.float64]] = []

    def hear(self, samples: NDArray[np.float32], mono: NDArray[np.float32]) -> None:
        """Take a block in.

        Parameters
        ----------
        samples
            (T, C), T >= 1.
        mono
            (T,), what the model hears of it.
        """
        self._channels = samples.shape[1]
        self._low, self._high = min(self._low, mono.min()), max(self._high, mono.max())
        self._count += len(mono)
        self._sum += float(mono.sum(dtype=np.float64))
        square = float(np.dot(mono, mono))
        self._square += square
        if self._channels > 1:
            self._mixed += square
            self._apart += float(np.einsum("tc,tc->", samples, samples)) / self._channels
        if self._high - self._low <= _LAST_BIT:
            scaled = mono * np.float32(2**15)
            self._coarse = self._coarse and bool((scaled == np.rint(scaled)).all())
        if len(self._spectra) < _FRAMES and len(mono) >= _FRAME:
            from scipy.fft import rfft  # noqa: PLC0415 (heavy; a third less work than NumPy's)

            count = min(_FRAMES, len(mono) // _FRAME)  # spread evenly
            starts = np.linspace(0, len(mono) - _FRAME, count).astype(np.intp)
            frames = np.lib.stride_tricks.sliding_window_view(mono, _FRAME)[starts] * _WINDOW
            frames -= frames.mean(1, keepdims=True)
            parts = rfft(frames).view(np.float32)  # real and imaginary in turn
            power = np.einsum("fp,fp->p", parts, parts).reshape(-1, 2).sum(1)[1:] / count
            self._spectra.append(power.reshape(_BANDS, -1).mean(1).astype(np.float64))

    def check_mix(self) -> None:
        """Refuse an average in which the channels cancel each other.

        Raises
        ------
        AsdError
            If it is all but silent, and the channels are not.
        """
        least = self._count * _NOTHING**2 if self._sound else 0.0
        if self._apart > least and self._mixed < _CANCELLED * self._apart:
            raise AsdError(
                f"the average of its {self._channels} channels is silent though they are not (one "
                "is the other inverted): choose one with --channel 0"
            )

    def facts(self, remark: str = "", decoder: str = "") -> Facts:
        """Return what was measured; see `cache.facts.Facts`."""
        mean = self._sum / self._count
        deviation = max(0.0, self._square / self._count - mean**2) ** 0.5
        coarse = self._coarse and self._high - self._low <= _LAST_BIT
        lack = ""
        if self._high == self._low or (self._sound and (deviation < _NOTHING or coarse)):
            lack = CONSTANT if abs(mean) > (1e-3 if self._sound else 0) else SILENT
        bandwidth = self._rate / 2
        if self._spectra and not lack:
            power = np.mean(self._spectra, axis=0)
            above = np.maximum.accumulate(power[::-1])[::-1]
            loud = np.lib.stride_tricks.sliding_window_view(power, _BELOW).min(1)[_LOWEST - 1 - _BELOW :]
            cliffs = np.flatnonzero(loud[: _BANDS - _LOWEST] > _CLIFF * above[_LOWEST:])
            if len(cliffs):
                bandwidth *= (_LOWEST + int(cliffs[0]) - 1) / _BANDS
        return Facts(self._rate, self._channels, bandwidth, lack, remark, decoder)


def decoder_of(subtype: str) -> str:
    """Name the decoder where the samples of a format depend on it; empty where they do not."""
    return DECODER if subtype in _LOSSY else ""
