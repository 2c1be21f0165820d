"""Kaldi's log-mel filter bank, batched: what BEATs and AST were trained on."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from extractors.device import portions

SAMPLE_RATE = 16_000  # Hz
WINDOW, HOP, MELS = 400, 160, 128  # 25 ms, 10 ms
_N_FFT = 512  # the next power of two
_EMPHASIS = 0.97
_LOW, _HIGH = 20.0, 8000.0  # Hz
_FLOOR = torch.finfo(torch.float32).eps


def frame_count(samples: int) -> int:
    """Frames of a waveform of at least 400 samples at 16 kHz: only whole windows count."""
    return 1 + (samples - WINDOW) // HOP


def _filters() -> Tensor:
    """Triangles of height 1, straight on the mel scale ``1127 ln(1 + f / 700)``.

    In float32, rounded where Kaldi's are: the filters of the training, to the last digit.

    Returns
    -------
    Tensor
        (257, 128) float32; the bin at half the sample rate counts for nothing.
    """
    low, high = (1127 * math.log(1 + edge / 700) for edge in (_LOW, _HIGH))
    step = (high - low) / (MELS + 1)
    number = torch.arange(MELS)[:, None]
    left, centre, right = (low + (number + i) * step for i in range(3))
    bins = 1127.0 * (1.0 + SAMPLE_RATE / _N_FFT * torch.arange(_N_FFT // 2) / 700.0).log()
    triangles = torch.min((bins - left) / (centre - left), (right - bins) / (right - centre))
    return nn.functional.pad(triangles.clamp_min(0.0), (0, 1)).T.contiguous()


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
    """

    _taper: Tensor
    _bank: Tensor

    def __init__(self, window: str) -> None:
        super().__init__()
        power = {"povey": 0.85, "hanning": 1.0}[window]
        taper = torch.hann_window(WINDOW, periodic=False).pow(power)
        self.register_buffer("_taper", taper, persistent=False)
        self.register_buffer("_bank", _filters(), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Compute the filter bank.

        Parameters
        ----------
        waveforms
            (B, T) float32 at 16 kHz, T >= 400.

        Returns
        -------
        Tensor
            (B, `frame_count`, 128) float32, whatever autocast says.
        """
        with torch.autocast(waveforms.device.type, enabled=False):
            mel = torch.cat([self._mel_power(part) for part in portions(waveforms.float())])
        return mel.clamp_min_(_FLOOR).log_()

    def _mel_power(self, waveforms: Tensor) -> Tensor:
        """(B, T) to (B, time, 128)."""
        power = torch.fft.rfft(self._frames(waveforms)).abs().square_()  # (B, time, 257)
        return torch.matmul(power, self._bank)

    def _frames(self, waveforms: Tensor) -> Tensor:
        """(B, T) to (B, time, 512); a frame's first sample is emphasised against itself."""
        raw = waveforms.unfold(-1, WINDOW, HOP)
        centred = raw - raw.mean(-1, keepdim=True)
        frames = waveforms.new_zeros((*centred.shape[:2], _N_FFT))
        head = frames[..., :WINDOW]
        # Multiplied, then subtracted: a fused operation would round otherwise.
        torch.sub(centred[..., 1:], centred[..., :-1] * _EMPHASIS, out=head[..., 1:])
        torch.sub(centred[..., 0], centred[..., 0] * _EMPHASIS, out=head[..., 0])
        head.mul_(self._taper)
        return frames
