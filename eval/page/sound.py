"""A recording made small enough for a page: MP3 to hear, mel spectrogram to see."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.heard import PLAIN, SIGNAL_SUFFIXES, Signal, Span
from extractors.audio.decode import read_audio
from extractors.audio.files import opened

Floats = NDArray[np.float64]

RATES = (8_000, 16_000, 32_000)  # of MP3; a clip takes the highest that it fills
LONGEST = 12.0  # seconds of a clip that are kept: the task's clips last 6 to 12 s (2024: 6 to 10)
_QUALITY = 0.5  # of variable bit rate, 0 best: about 30 kbit/s at 16 kHz
_BANDS, _FRAMES = 64, 160
_WINDOW = 0.064  # s
_NAMED = 1000  # bytes of the fields' names and of the clip's id wherever the page refers to it
_FLOOR = -120.0  # dB re a full-scale sine; a byte of the spectrogram is -_FLOOR / 255 dB


@dataclass(frozen=True)
class PageSound:
    """A clip as the page holds it.

    Attributes
    ----------
    mp3
        Base64 of the encoded audio.
    levels
        Base64 of (bands, frames) bytes, the lowest band first: 0 is -120 dB or less, 255 is 0 dB
        re a full-scale sine.
    frames, bands
        Shape of `levels`.
    seconds
        Length of what is kept.
    rate
        Hz; the spectrogram reaches half of it.
    cut
        Whether the recording goes on after that.
    made
        How a file of numbers was made audible; empty of sound.
    """

    mp3: str
    levels: str
    frames: int
    bands: int
    seconds: float
    rate: int
    cut: bool
    made: str = ""

    @property
    def size(self) -> int:
        """Bytes in the page."""
        return len(self.mp3) + len(self.levels) + _NAMED


def make_sound(
    path: Path, span: Span | None = None, sha256: str | None = None, signal: Signal = PLAIN
) -> PageSound:
    """Read a recording, or a span of it in s, and make it small.

    Numbers that are no sound are brought to a peak of 0.9 around their mean, and a rate that can be
    played; `PageSound.made` says so.

    Raises
    ------
    AsdError
        If it cannot be read, is not the file of this SHA-256, or this installation's libsndfile
        writes no MP3.
    """
    if "MP3" not in soundfile.available_formats():
        raise AsdError("libsndfile 1.1 or newer is needed to write MP3: pip install soundfile")
    native = native_rate(path, signal)
    rate = max((r for r in RATES if r <= native), default=RATES[0])
    recording = read_audio(path, rate, span, signal=signal)
    if sha256 not in (None, recording.content_sha256):
        raise AsdError("changed since it was scored: run the extraction again")
    samples = recording.samples
    kept = samples[: int(LONGEST * rate)]
    made = ""
    if path.suffix.lower() in SIGNAL_SUFFIXES:
        kept, made = _audible(kept, native, rate)
    levels = mel_levels(kept.astype(np.float64), rate)
    return PageSound(
        mp3=_base64(_encode(kept, rate)),
        levels=_base64(levels.tobytes()),
        frames=levels.shape[1],
        bands=levels.shape[0],
        seconds=round(len(kept) / rate, 3),
        rate=rate,
        cut=len(kept) < len(samples),
        made=made,
    )


def mel_levels(samples: Floats, rate: int) -> NDArray[np.uint8]:
    """Mel spectrogram as bytes.

    Parameters
    ----------
    samples
        (T,) in [-1, 1].
    rate
        Hz.

    Returns
    -------
    ndarray
        (64, up to 160) uint8, the lowest band first; see `PageSound.levels`.
    """
    size = int(_WINDOW * rate)
    from scipy.signal import ShortTimeFFT  # noqa: PLC0415 (half a second that most commands save)
    from scipy.signal.windows import hann  # noqa: PLC0415

    window = hann(size, sym=False)
    padded = np.pad(samples, (0, max(0, size - len(samples))))
    # Hops as long as they must be for no more frames than there are columns.
    hop = max(size // 2, -(-len(padded) // _FRAMES))
    transform = ShortTimeFFT(window * 2 / window.sum(), hop, rate, scale_to=None)
    spectrum = transform.spectrogram(padded, p0=0, p1=max(1, len(padded) // hop))
    bands = mel_bank(size, rate) @ spectrum
    decibels = 10 * np.log10(np.maximum(bands, 1e-30))
    return np.clip(np.round(255 * (1 - decibels / _FLOOR)), 0, 255).astype(np.uint8)


def mel_bank(size: int, rate: int) -> Floats:
    """Triangles that average power over bands of equal width in mel.

    ``mel(f) = 2595 log10(1 + f / 700)`` (O'Shaughnessy 1987).

    Parameters
    ----------
    size
        Window, samples.
    rate
        Hz.

    Returns
    -------
    ndarray
        (64, size // 2 + 1), rows of sum 1.
    """
    frequencies = np.arange(size // 2 + 1) * rate / size
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, _BANDS + 2) / 2595) - 1)
    # Low bands are narrower than a bin: each reaches at least to the next bin on either side.
    reach = np.maximum(np.diff(edges), rate / size)
    centre = edges[1:-1, None]
    rising = 1 - (centre - frequencies) / reach[:-1, None]
    falling = 1 - (frequencies - centre) / reach[1:, None]
    bank = np.clip(np.minimum(rising, falling), 0, None)
    return np.asarray(bank / bank.sum(axis=1, keepdims=True))


def _audible(samples: NDArray[np.float32], native: int, rate: int) -> tuple[NDArray[np.float32], str]:
    """Bring numbers of any scale to a peak of 0.9 around their mean; say what was done."""
    centred = samples - samples.mean(dtype=np.float64)
    peak = float(np.abs(centred).max())
    scale = 0.9 / peak if peak > 0 else 1.0
    heard = f" and from {native} to {rate} Hz" if native != rate else ""
    told = f"a signal, made audible: its mean removed, scaled by {scale:.3g} to a peak of 0.9{heard}"
    return (centred * scale).astype(np.float32), told


def native_rate(path: Path, signal: Signal = PLAIN) -> int:
    """Read the sampling rate of a recording, Hz; 8000 of one that cannot be opened."""
    try:
        with opened(path, signal) as (file, _):
            return int(file.samplerate)
    except AsdError:
        return RATES[0]  # reading it will say what is wrong


def _encode(samples: NDArray[np.float32], rate: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(
        buffer, samples, rate, format="MP3", subtype="MPEG_LAYER_III",
        compression_level=_QUALITY, bitrate_mode="VARIABLE",
    )  # fmt: skip
    return buffer.getvalue()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
