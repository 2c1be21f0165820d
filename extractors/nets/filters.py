"""Mel filters, in NumPy: of the front ends that need no torch, and of the networks' own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def slaney_filters(
    sample_rate: int, n_fft: int, n_mels: int, band: tuple[float, float] | None = None
) -> NDArray[np.float64]:
    """Triangular mel filters of equal area.

    The mel scale of Slaney's Auditory Toolbox (1998): linear, 200/3 Hz a mel, below 1 kHz, then
    logarithmic with 27 mels for a factor of 6.4. The same as librosa's default.

    Parameters
    ----------
    sample_rate
        Hz.
    n_fft
        Transform length, samples.
    n_mels
        Number of filters.
    band
        Lower edge, at most 1000 Hz, and upper edge, at least 1000 Hz; 0 Hz to half the sample rate
        where none is given.

    Returns
    -------
    ndarray
        (n_fft // 2 + 1, n_mels), each column's weight 2 / (its width in Hz).
    """
    low, high = band or (0.0, sample_rate / 2)
    step = np.log(6.4) / 27
    mels = np.linspace(low * 3 / 200, 15.0 + np.log(high / 1000) / step, n_mels + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(step * (mels - 15)))  # Hz
    bins = np.linspace(0.0, sample_rate / 2, n_fft // 2 + 1)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return np.asarray(triangles * 2 / (edges[2:] - edges[:-2]), dtype=np.float64)


def kaldi_filters(
    sample_rate: int, n_fft: int, n_mels: int, band: tuple[float, float]
) -> NDArray[np.float64]:
    """Triangular filters of height 1, straight on Kaldi's mel scale ``1127 ln(1 + f / 700)``.

    Parameters
    ----------
    sample_rate
        Hz.
    n_fft
        Transform length, samples.
    n_mels
        Number of filters.
    band
        Lower and upper edge, Hz.

    Returns
    -------
    ndarray
        (n_fft // 2 + 1, n_mels); as in Kaldi, the bin at half the sample rate counts for nothing.
    """
    low, high = (1127 * np.log(1 + edge / 700) for edge in band)
    edges = np.linspace(low, high, n_mels + 2)  # mel
    bins = 1127 * np.log(1 + np.arange(n_fft // 2 + 1) * sample_rate / n_fft / 700)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0.0, np.minimum(rising, falling))
    filters[-1] = 0.0
    return np.asarray(filters, dtype=np.float64)


def htk_filters(sample_rate: int, n_fft: int, n_mels: int) -> NDArray[np.float64]:
    """Triangular filters of height 1, straight in Hz, spaced on HTK's scale ``2595 lg(1 + f / 700)``.

    The HTK Book, section 5.4; the default of torchaudio.

    Parameters
    ----------
    sample_rate
        Hz; the filters reach from 0 Hz to half of it.
    n_fft
        Transform length, samples.
    n_mels
        Number of filters.

    Returns
    -------
    ndarray
        (n_fft // 2 + 1, n_mels).
    """
    mels = np.linspace(0.0, 2595 * np.log10(1 + sample_rate / 2 / 700), n_mels + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)  # Hz
    bins = np.linspace(0.0, sample_rate / 2, n_fft // 2 + 1)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)), dtype=np.float64)
