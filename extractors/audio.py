"""One audio file to a mono waveform; whatever is not sound audio is refused with the reason."""

from __future__ import annotations

import hashlib
import io
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from cache.errors import AsdError

# HQ: -99 dB of leakage beside a task whose machines differ by less than torchaudio's -47 dB.
RESAMPLER = f"soxr-{soxr.__version__}-hq"
_UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # what a program that writes to a pipe leaves in a RIFF header


@dataclass(frozen=True)
class Recording:
    """A decoded clip.

    Attributes
    ----------
    samples
        (T,) float32, nominally in [-1, 1], finite, T >= 1.
    content_sha256
        Hexadecimal SHA-256 of the file's bytes.
    """

    samples: NDArray[np.float32]
    content_sha256: str


@dataclass(frozen=True)
class Decoding:
    """A file's sound at its own rate.

    Attributes
    ----------
    samples
        (T,) float32, channels averaged, finite.
    sample_rate
        Hz.
    content_sha256
        Hexadecimal SHA-256 of the file's bytes.
    """

    samples: NDArray[np.float32]
    sample_rate: int
    content_sha256: str


def decode_file(path: Path) -> Decoding:
    """Read a file as mono at its own rate; see `read_audio`."""
    data = _bytes(path)
    samples, rate = _decode(data)
    _check_samples(samples)
    mono = samples.mean(axis=1, dtype=np.float32) if samples.shape[1] > 1 else samples[:, 0]
    return Decoding(np.ascontiguousarray(mono), rate, hashlib.sha256(data).hexdigest())


def resampled(decoding: Decoding, sample_rate: int) -> Recording:
    """Bring a decoded file to a rate in Hz; see `read_audio`."""
    samples = decoding.samples
    if decoding.sample_rate != sample_rate:
        samples = soxr.resample(samples, decoding.sample_rate, sample_rate, quality="HQ")
    if not samples.size:
        raise AsdError("too short: nothing is left after resampling")
    return Recording(np.ascontiguousarray(samples), decoding.content_sha256)


def read_audio(path: Path, sample_rate: int) -> Recording:
    """Read a file as mono at a given rate.

    Parameters
    ----------
    path
        WAV, FLAC, OGG or MP3 of any width, rate and number of channels.
    sample_rate
        Rate wanted, Hz; the file is resampled where it differs.

    Returns
    -------
    Recording
        Channels averaged.

    Raises
    ------
    AsdError
        If the file cannot be read, is empty, cut short, not audio, or holds NaN or infinity.
    """
    return resampled(decode_file(path), sample_rate)


def content_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes.

    Raises
    ------
    AsdError
        If the file cannot be read.
    """
    return hashlib.sha256(_bytes(path)).hexdigest()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AsdError(f"cannot be read: {error.strerror}") from error


def _decode(data: bytes) -> tuple[NDArray[np.float32], int]:
    if not data:
        raise AsdError("an empty file of 0 bytes")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            expected = file.frames
            samples = file.read(dtype="float32", always_2d=True)
            rate = int(file.samplerate)
    except soundfile.SoundFileError as error:
        # The whole text names a buffer in memory, which tells nobody anything.
        reason = getattr(error, "error_string", str(error))
        raise AsdError(f"not audio, or damaged: {reason}") from error
    missing = _missing_bytes(data)
    if missing > 0 or len(samples) < expected:
        lost = f"{missing} bytes" if missing > 0 else f"{expected - len(samples)} samples"
        raise AsdError(f"cut short: its header promises {lost} more than there are")
    return samples, rate


def _missing_bytes(data: bytes) -> int:
    """How many bytes a WAV's data chunk lacks; libsndfile reads a truncated one silently."""
    position = 12
    while data[:4] == b"RIFF" and position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        if name == b"data":
            return 0 if size in _UNKNOWN_SIZES else position + 8 + size - len(data)
        position += 8 + size + size % 2
    return 0


def _check_samples(samples: NDArray[np.float32]) -> None:
    if not samples.size:
        raise AsdError("zero-length audio: a header without samples")
    bad = int(samples.size - np.isfinite(samples).sum())
    if bad:
        raise AsdError(f"{bad} of {samples.size} samples are NaN or infinite")
