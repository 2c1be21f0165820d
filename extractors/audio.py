"""One audio file to a mono waveform; whatever is not sound audio is refused with the reason."""

from __future__ import annotations

import hashlib
import io
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
import soxr
from numpy.typing import NDArray

from cache import places
from cache.errors import AsdError
from cache.heard import AVERAGE, CANCEL, CHANNELS, RESIDUAL, read_channel
from cache.windows import Span
from extractors.canceller import cancelled
from extractors.soundfiles import (
    LONGEST,
    check_length,
    check_samples,
    check_whole,
    content_sha256,
    decoder,
    opened,
    read_whole,
)

# HQ: -99 dB of leakage beside a task whose machines differ by less than torchaudio's -47 dB.
RESAMPLER = f"soxr-{soxr.__version__}-hq"
_HASHING = Lock()


@dataclass(frozen=True)
class Recording:
    """A decoded clip.

    Attributes
    ----------
    samples
        (T,) float32, nominally in [-1, 1], finite, T >= 1; (2, T), near and far, of ``residual``.
    content_sha256
        Hexadecimal SHA-256 of the file's bytes.
    energy
        Of ``cancel``: sums of squares at the file's own rate, before and after.
    """

    samples: NDArray[np.float32]
    content_sha256: str
    energy: tuple[float, float] | None = None


@dataclass(frozen=True)
class Decoding:
    """A file's sound at its own rate.

    Attributes
    ----------
    samples
        (T, C) float32, a column a channel, finite.
    sample_rate
        Hz.
    content_sha256
        Hexadecimal SHA-256 of the file's bytes.
    """

    samples: NDArray[np.float32]
    sample_rate: int
    content_sha256: str


def decode_file(path: Path, span: Span | None = None, longest: float = LONGEST) -> Decoding:
    """Read a file, or a span of it and nothing else, at its own rate; see `read_audio`.

    A whole file may last `longest` seconds; of what is longer, nothing is read.
    """
    if span is not None:
        return _decode_span(path, span)
    data = read_whole(path)
    with decoder(io.BytesIO(data)) as file:
        expected, rate = file.frames, int(file.samplerate)
        check_length(file, expected, longest)
        samples = file.read(dtype="float32", always_2d=True)
    check_whole(io.BytesIO(data), len(samples), expected)
    check_samples(samples)
    return Decoding(samples, rate, hashlib.sha256(data).hexdigest())


def resampled(decoding: Decoding, sample_rate: int, channel: str = AVERAGE) -> Recording:
    """Bring one channel of a decoded file, or their average, to a rate in Hz; see `read_audio`."""
    name, energy = channel.partition(":")[0], None
    if name == RESIDUAL:
        both = [resampled(decoding, sample_rate, each).samples for each in CHANNELS]
        return Recording(np.stack(both), decoding.content_sha256)
    if name == CANCEL:
        near, far = (_mono(decoding.samples, each) for each in CHANNELS)
        samples = cancelled(near, far)
        energy = _energy(near), _energy(samples)
    else:
        samples = _mono(decoding.samples, channel)
    if decoding.sample_rate != sample_rate:
        samples = soxr.resample(samples, decoding.sample_rate, sample_rate, quality="HQ")
    if not samples.size:
        raise AsdError("too short: nothing is left after resampling")
    return Recording(np.ascontiguousarray(samples), decoding.content_sha256, energy)


def read_audio(
    path: Path, sample_rate: int, span: Span | None = None, channel: str = AVERAGE
) -> Recording:
    """Read a file as mono at a given rate.

    Parameters
    ----------
    path
        WAV, FLAC, OGG or MP3 of any width, rate and number of channels.
    sample_rate
        Rate wanted, Hz; the file is resampled where it differs.
    span
        What to read of it, s; ``None`` for all.
    channel
        ``average`` of all, ``near``, ``far``, a channel's number from 0; ``cancel``: near less what
        far hears too, see `extractors.canceller`; ``residual:W``: near and far, two rows.

    Returns
    -------
    Recording
        Of the span; the hash is the whole file's.

    Raises
    ------
    AsdError
        If the file cannot be read, is empty, longer than an hour, cut short, not audio, holds NaN
        or infinity, or has no such channel.
    """
    return resampled(decode_file(path, span), sample_rate, channel)


def channel_number(channel: str) -> int | None:
    """Find the number of a channel by its name; ``None`` where it is made of several.

    Raises
    ------
    AsdError
        If it is no name of one.
    """
    name = read_channel(channel)
    if name in CHANNELS:
        return CHANNELS[name]
    return int(name) if name.isdigit() else None


def seconds_of(path: Path) -> float:
    """Length of a file by its header, s.

    Raises
    ------
    AsdError
        If it cannot be read or is not audio.
    """
    with opened(path) as (file, _):
        return float(file.frames / file.samplerate)


def _decode_span(path: Path, span: Span) -> Decoding:
    with opened(path) as (file, raw):
        rate = int(file.samplerate)
        start, stop = (round(second * rate) for second in span)
        check_length(file, stop - start, math.inf)
        file.seek(min(start, file.frames))
        samples = file.read(stop - start, dtype="float32", always_2d=True)
        check_whole(raw, len(samples), min(stop, file.frames) - min(start, file.frames))
    check_samples(samples)
    return Decoding(samples, rate, hash_once(path))


def hash_once(path: Path) -> str:
    """Hash a long file once for all its spans, while it stays as it is; see `content_sha256`."""
    try:
        state = places.version(path)
    except OSError as error:
        raise AsdError(f"cannot be read: {error.strerror}") from error
    with _HASHING:  # two threads with spans of one file hash it once
        return _hash(path, state)


@lru_cache(maxsize=256)
def _hash(path: Path, _state: str) -> str:
    return content_sha256(path)


def _energy(samples: NDArray[np.float32]) -> float:
    return float(np.square(samples, dtype=np.float64).sum())


def _mono(samples: NDArray[np.float32], channel: str) -> NDArray[np.float32]:
    number, there = channel_number(channel), samples.shape[1]
    if number is None:
        return samples.mean(axis=1, dtype=np.float32) if there > 1 else samples[:, 0]
    if number >= there:
        raise AsdError(f"no channel {channel}: it has {there}; --channel {AVERAGE} takes any file")
    return samples[:, number]
