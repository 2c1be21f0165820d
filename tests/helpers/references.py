"""Published formulas written down a second time, for several tests."""

from __future__ import annotations

import librosa
import numpy as np
from scipy.signal import get_window


def cancelled_by_formula(near: np.ndarray, far: np.ndarray) -> np.ndarray:
    """The condition W1 step by step on matrices, the Fourier transforms written out."""
    n, hop = 1024, 512
    peak = max(np.abs(near).max(), np.abs(far).max())
    scale = peak / 0.9 if peak > 1e-12 else 1.0
    window = np.sin(np.pi * np.arange(n) / n) ** 2
    fourier = np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n)

    def spectra(x: np.ndarray) -> np.ndarray:
        x = x.astype(float) / scale
        x = np.concatenate([x[hop:0:-1], x, x[-2 : -hop - 2 : -1]])
        frames = [x[i * hop : i * hop + n] * window for i in range(1 + (len(x) - n) // hop)]
        return np.array(frames) @ fourier

    c, f = spectra(near), spectra(far)
    h = np.sum(c * f.conj(), axis=0) / (np.sum(np.abs(f) ** 2, axis=0) + 1e-12)
    pieces = ((c - f * h) @ fourier.conj() / n).real * window
    total, weight = np.zeros((2, len(near) + 2 * hop))
    for i, piece in enumerate(pieces):
        total[i * hop : i * hop + n] += piece
        weight[i * hop : i * hop + n] += window**2
    return (total / np.where(weight > 0, weight, 1))[hop : hop + len(near)] * scale


def power_spectra(wave: np.ndarray, window: np.ndarray, hop: int) -> np.ndarray:
    """Squared magnitudes of windows from the first sample on, (n_fft / 2 + 1, windows)."""
    cut = np.lib.stride_tricks.sliding_window_view(wave.astype(float), len(window))[::hop]
    return np.asarray(np.abs(np.fft.rfft(cut * window)).T ** 2)


def mel_powers(wave: np.ndarray, n_mels: int = 128, *, mirrored: bool) -> np.ndarray:
    """LibROSA's mel filters on periodic Hann windows of 1024 samples, half overlapping, of 16 kHz.

    Of LibROSA's own transform, the first call would compile for ten seconds.
    """
    padded = np.pad(wave, 512, mode="reflect") if mirrored else wave
    spectra = power_spectra(padded, get_window("hann", 1024), 512)
    return np.asarray(librosa.filters.mel(sr=16_000, n_fft=1024, n_mels=n_mels) @ spectra)
