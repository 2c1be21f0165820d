"""What a far microphone hears taken out of what a near one hears, frequency by frequency."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError

Floats = NDArray[np.float64]
Spectra = NDArray[np.complex128]

# The protocol of github.com/kasahart/asd-experiments, condition W1 (DCASE 2026), for 16 kHz.
WINDOW, HOP = 1024, 512
_PEAK = 0.9  # both channels are brought to it by one factor
_EPS = 1e-12
_SILENT = 1e-12  # peak at and below which nothing is scaled
_FRAMES = 2048  # at once: an hour of sound does not fit the memory as spectra


def cancelled(near: NDArray[np.float32], far: NDArray[np.float32]) -> NDArray[np.float32]:
    """Subtract from the near channel what a linear filter makes of the far one.

    One complex gain a frequency, constant over the clip: ``H = sum_t C conj(F) / (sum_t |F|^2 +
    1e-12)``, ``Y = C - H F``; C and F are the spectra of near and far (periodic Hann window of 1024
    samples, hop 512, centred, mirrored ends), both scaled by one factor to a peak of 0.9 and the
    result scaled back. Where the far channel hears the machine too, the machine goes as well.

    Parameters
    ----------
    near, far
        (T,) in [-1, 1], T > 512.

    Returns
    -------
    ndarray
        (T,) float32.

    Raises
    ------
    AsdError
        If the clip is too short.
    """
    if len(near) <= WINDOW // 2:
        raise AsdError(f"{len(near)} samples are too short to cancel the far channel; it needs 513")
    peak = float(max(np.abs(near).max(), np.abs(far).max()))
    scale = peak / _PEAK if peak > _SILENT else 1.0
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    frames = [_frames(channel, scale) for channel in (near, far)]
    cross, power = np.zeros(WINDOW // 2 + 1, complex), np.zeros(WINDOW // 2 + 1)
    for _, c, f in _spectra(frames, window):
        cross += (c * f.conj()).sum(axis=0)
        power += np.square(np.abs(f)).sum(axis=0)
    gain = cross / (power + _EPS)
    total = np.zeros(len(near) + WINDOW)  # overlap-add, and the squared windows it is divided by
    weight = np.zeros_like(total)
    for first, c, f in _spectra(frames, window):
        pieces = np.fft.irfft(c - gain * f, WINDOW) * window
        for half in (slice(0, HOP), slice(HOP, WINDOW)):
            start = first * HOP + half.start
            stop = start + len(pieces) * HOP
            total[start:stop] += pieces[:, half].ravel()
            weight[start:stop] += np.tile(np.square(window[half]), len(pieces))
    inner = slice(WINDOW // 2, WINDOW // 2 + len(near))
    return np.asarray(total[inner] / weight[inner] * scale, dtype=np.float32)


def _frames(channel: NDArray[np.float32], scale: float) -> Floats:
    """Overlapping frames of a channel with mirrored ends, a view (1 + T // 512, 1024)."""
    padded = np.pad(channel.astype(np.float64) / scale, WINDOW // 2, mode="reflect")
    return np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]


def _spectra(frames: list[Floats], window: Floats) -> Iterator[tuple[int, Spectra, Spectra]]:
    """Yield the number of a block's first frame, and its near and far spectra, (n, 513)."""
    for first in range(0, len(frames[0]), _FRAMES):
        near, far = (np.fft.rfft(each[first : first + _FRAMES] * window, axis=1) for each in frames)
        yield first, near, far
