"""Batched spectral front ends on the model's device; `KaldiFbank` is what BEATs, AST and EAT hear."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from extractors.device import portions
from extractors.nets.filters import kaldi_filters, slaney_filters

BAND = 100  # bins of 40 Hz that FISHER hears as one
_FISHER_MEAN, _FISHER_DEVIATION = -3.017344307886898, 2.1531635155379805  # its publisher's README
_FILTER_GROUPS = 4  # products a clip: fewer multiply zeros, more are too small


class KaldiFbank(nn.Module):
    """Log-mel filter bank of Kaldi's ``compute-fbank-feats`` at 16 kHz, without dither.

    Frames of 25 ms every 10 ms inside the clip, their mean removed, pre-emphasis 0.97, a window,
    power spectrum of 512 points, 128 triangular filters between 20 Hz and 8 kHz, natural logarithm.
    Equal, bit by bit on a CPU, to ``torchaudio.compliance.kaldi.fbank``, for many clips at once
    and on any device. The filter between two bins is empty, and its logarithm is that of the
    floor, 1.19e-7: models were trained on it.

    Parameters
    ----------
    window
        ``povey``, the Hann window to the power of 0.85, or ``hanning``.

    Attributes
    ----------
    RATE
        What it hears, Hz.
    WINDOW, HOP
        Samples: 25 ms and 10 ms.
    MELS
        Number of filters.
    """

    RATE, WINDOW, HOP, MELS = 16_000, 400, 160, 128
    _N_FFT = 512  # the next power of two
    _EMPHASIS = 0.97
    _BAND = 20.0, 8000.0  # Hz

    _taper: Tensor
    _bank: Tensor

    def __init__(self, window: str) -> None:
        super().__init__()
        power = {"povey": 0.85, "hanning": 1.0}[window]
        taper = torch.hann_window(self.WINDOW, periodic=False).pow(power)
        self.register_buffer("_taper", taper, persistent=False)
        # Triangles of height 1, straight on the mel scale ``1127 ln(1 + f / 700)``; in float32, rounded
        # where Kaldi's are: the filters of the training, to the last digit. (257, 128): the bin at half
        # the sample rate counts for nothing.
        low, high = (1127 * math.log(1 + edge / 700) for edge in self._BAND)
        step = (high - low) / (self.MELS + 1)
        number = torch.arange(self.MELS)[:, None]
        left, centre, right = (low + (number + i) * step for i in range(3))
        bins = 1127.0 * (1.0 + self.RATE / self._N_FFT * torch.arange(self._N_FFT // 2) / 700.0).log()
        triangles = torch.min((bins - left) / (centre - left), (right - bins) / (right - centre))
        bank = nn.functional.pad(triangles.clamp_min(0.0), (0, 1)).T.contiguous()
        self.register_buffer("_bank", bank, persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Compute the filter bank.

        Parameters
        ----------
        waveforms
            (B, T) float32 at 16 kHz, T >= 400.

        Returns
        -------
        Tensor
            (B, 1 + (T - 400) // 160, 128) float32, whatever autocast says.
        """
        with torch.autocast(waveforms.device.type, enabled=False):
            powers = []
            for part in portions(waveforms.float()):
                power = torch.fft.rfft(self._frames(part)).abs().square_()  # (B, time, 257)
                powers.append(torch.matmul(power, self._bank))
            return torch.cat(powers).clamp_min_(torch.finfo(torch.float32).eps).log_()

    def _frames(self, waveforms: Tensor) -> Tensor:
        """(B, T) to (B, time, 512); a frame's first sample is emphasised against itself."""
        raw = waveforms.unfold(-1, self.WINDOW, self.HOP)
        centred = raw - raw.mean(-1, keepdim=True)
        before = torch.cat([centred[..., :1], centred[..., :-1]], -1)
        # Multiplied, then subtracted: a fused operation would round otherwise.
        emphasised = centred - before * self._EMPHASIS
        return nn.functional.pad(emphasised * self._taper, (0, self._N_FFT - self.WINDOW))


class MelPower(nn.Module):
    """Windowed frames to mel power.

    Parameters
    ----------
    window
        (n_fft,) float32.
    hop
        Step, samples.
    filters
        (n_fft // 2 + 1, n_mels).
    """

    window: Tensor

    def __init__(self, window: Tensor, hop: int, filters: NDArray[np.float64]) -> None:
        super().__init__()
        self.hop = hop
        self.register_buffer("window", window, persistent=False)
        # A filter spans few bins: neighbours are multiplied together with the bins they touch.
        self._spans: list[slice] = []
        for group in np.array_split(np.arange(filters.shape[1]), _FILTER_GROUPS):
            bins = np.flatnonzero(filters[:, group].any(axis=1))
            span = slice(int(bins.min(initial=len(filters))), int(bins.max(initial=0)) + 1)
            part = torch.from_numpy(filters[span][:, group]).to(torch.float32)
            self.register_buffer(f"filters{len(self._spans)}", part, persistent=False)
            self._spans.append(span)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Compute (B, 1 + (T - n_fft) // hop, n_mels) power from (B, T) waveforms, T >= n_fft.

        In float32 even under autocast: half precision has too few digits for a power.
        """
        with torch.autocast(waveforms.device.type, enabled=False):
            filters = [(span, self.get_buffer(f"filters{i}")) for i, span in enumerate(self._spans)]
            mel = list[Tensor]()
            for part in portions(waveforms):
                spectrum = torch.fft.rfft(part.unfold(-1, len(self.window), self.hop) * self.window)
                # In place: on a CPU, fresh memory for every step costs more than the arithmetic.
                power = spectrum.real.square().add_(spectrum.imag.square())  # (B, time, bin)
                # One clip at a time everywhere, so that its result does not depend on its batch.
                mel += [torch.cat([clip[:, span] @ each for span, each in filters], dim=1) for clip in power]
            return torch.stack(mel)


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

    def __init__(self, sample_rate: int, n_fft: int, hop: int, n_mels: int) -> None:
        super().__init__()
        filters = slaney_filters(sample_rate, n_fft, n_mels)
        self._power = MelPower(torch.hann_window(n_fft), hop, filters)

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
        return _decibels(self._power(waveforms))


class CentredLogMel(nn.Module):
    """Mel power in decibels, frames centred on multiples of the step.

    As torchlibrosa and librosa have it (``center=True``, ``pad_mode="reflect"``, a periodic Hann
    window, no limit to the dynamic range).

    Parameters
    ----------
    filters
        (n_fft // 2 + 1, n_mels).
    hop
        Step, samples.
    """

    def __init__(self, filters: NDArray[np.float64], hop: int) -> None:
        super().__init__()
        self._half = len(filters) - 1
        self._power = MelPower(torch.hann_window(2 * self._half), hop, filters)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Compute the log-mel spectrogram.

        Parameters
        ----------
        waveforms
            (B, T) float32 in [-1, 1], T > n_fft // 2; mirrored by that much at both ends.

        Returns
        -------
        Tensor
            (B, 1 + T // hop, n_mels) float32, dB; 1e-10 and less is -100 dB.
        """
        mirrored = nn.functional.pad(waveforms, (self._half, self._half), mode="reflect")
        return _decibels(self._power(mirrored))


def _decibels(power: Tensor) -> Tensor:
    """Replace power by ``10 log10(max(power, 1e-10))``, in place."""
    return power.clamp_min_(1e-10).log10_().mul_(10)


class PreEmphasisedLogMel(nn.Module):
    """The front end of EfficientAT (Schmid et al. 2023, section 3; evaluation mode)."""

    def __init__(self) -> None:
        super().__init__()
        filters = kaldi_filters(32_000, 1024, 128, (0.0, 15_000.0))
        window = nn.functional.pad(torch.hann_window(800, periodic=False), (112, 112))
        self._power = MelPower(window, 320, filters)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Compute the network's input.

        Parameters
        ----------
        waveforms
            (B, T) float32 in [-1, 1] at 32 kHz, T >= 514; mirrored by 512 samples at both ends.

        Returns
        -------
        Tensor
            (B, 128, 1 + (T - 1) // 320) float32.
        """
        emphasised = waveforms[:, 1:] - 0.97 * waveforms[:, :-1]
        mirrored = nn.functional.pad(emphasised, (512, 512), mode="reflect")
        mel: Tensor = self._power(mirrored)
        return mel.add_(1e-5).log_().add_(4.5).div_(5).transpose(1, 2)


class BandSpectrum(nn.Module):
    """The front end of FISHER: normalised logarithms of magnitudes, in whole bands (arXiv 2507.16696).

    Parameters
    ----------
    rate
        Of the signal, Hz. Windows of 25 ms every 10 ms inside it, its mean removed.
    """

    _window: Tensor

    def __init__(self, rate: int) -> None:
        super().__init__()
        self.n_fft, self.hop = 25 * rate // 1000, 10 * rate // 1000
        bins = self.n_fft // 2 + 1
        self.bands = max(1, bins // BAND)
        self._fill = max(0, BAND - bins)
        self.register_buffer("_window", torch.hann_window(self.n_fft), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Compute (B, frames, bands x 100) from (B, T), in float32 whatever autocast says."""
        with torch.autocast(waveforms.device.type, enabled=False):
            found = []
            for part in portions(waveforms.float()):
                frames = (part - part.mean(1, keepdim=True)).unfold(-1, self.n_fft, self.hop) * self._window
                heard = torch.fft.rfft(frames).abs()[..., : self.bands * BAND]
                found.append(heard.add_(1e-10).log_().sub_(_FISHER_MEAN).div_(2 * _FISHER_DEVIATION))
            return nn.functional.pad(torch.cat(found), (0, self._fill))
