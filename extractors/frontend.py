"""Batched spectral front ends on the model's device."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_FILTER_GROUPS = 4  # products a clip: fewer multiply zeros, more are too small


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

    def __init__(self, sample_rate: int, n_fft: int, hop: int, n_mels: int) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        # A filter spans few bins: neighbours are multiplied together with the bins they touch.
        filters = slaney_filters(sample_rate, n_fft, n_mels)
        self._spans: list[slice] = []
        for group in np.array_split(np.arange(n_mels), _FILTER_GROUPS):
            bins = np.flatnonzero(filters[:, group].any(axis=1))
            span = slice(int(bins.min(initial=n_fft)), int(bins.max(initial=0)) + 1)
            part = torch.from_numpy(filters[span][:, group]).to(torch.float32)
            self.register_buffer(f"filters{len(self._spans)}", part, persistent=False)
            self._spans.append(span)

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
        spectrum = torch.fft.rfft(waveforms.unfold(-1, self.n_fft, self.hop) * self.window)
        # In place: on a CPU, fresh memory for every step costs more than the arithmetic.
        power = spectrum.real.square().add_(spectrum.imag.square())  # (B, time, bin)
        mel = torch.stack([self._mel(clip) for clip in power])
        return mel.clamp_min_(1e-10).log10_().mul_(10)

    def _mel(self, power: Tensor) -> Tensor:
        """One clip at a time, so that its result does not depend on the batch it came in."""
        parts = [
            power[:, span] @ self.get_buffer(f"filters{i}") for i, span in enumerate(self._spans)
        ]
        return torch.cat(parts, dim=1)
