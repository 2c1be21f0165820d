"""Batched spectral front ends on the model's device."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def slaney_filters(sample_rate: int, n_fft: int, n_mels: int) -> NDArray[np.float64]:
    """Triangular mel filters of equal area from 0 Hz to half the sample rate.

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

    Returns
    -------
    ndarray
        (n_fft // 2 + 1, n_mels), each column's weight 2 / (its width in Hz).
    """
    step = np.log(6.4) / 27
    top = 15.0 + np.log(sample_rate / 2 / 1000) / step  # mel of the Nyquist rate; >= 15 from 2 kHz
    mels = np.linspace(0.0, top, n_mels + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(step * (mels - 15)))  # Hz
    bins = np.linspace(0.0, sample_rate / 2, n_fft // 2 + 1)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return np.asarray(triangles * 2 / (edges[2:] - edges[:-2]), dtype=np.float64)


class LogMel(nn.Module):
    """Mel power in decibels.

    Parameters
    ----------
    sample_rate
        Hz, at least 2000.
    n_fft, hop
        Hann window and step, samples. Frames lie inside the clip: nothing is padded.
    n_mels
        Number of mel filters.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, sample_rate: int, n_fft: int, hop: int, n_mels: int) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        filters = torch.from_numpy(slaney_filters(sample_rate, n_fft, n_mels))
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("filters", filters.to(torch.float32), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Compute the log-mel spectrogram.

        Parameters
        ----------
        waveforms
            (B, T) float32 in [-1, 1], T >= n_fft.

        Returns
        -------
        Tensor
            (B, 1 + (T - n_fft) // hop, n_mels) float32, dB; 1e-10 and less is -100 dB.
        """
        frames = waveforms.unfold(-1, self.n_fft, self.hop) * self.window
        spectrum = torch.view_as_real(torch.fft.rfft(frames))  # (B, time, bin, 2)
        power = spectrum.square().sum(-1)
        # One product a clip: its result does not depend on the batch it came in.
        mel = torch.stack([clip @ self.filters for clip in power])
        return 10 * torch.log10(mel.clamp_min(1e-10))
