"""Opening sound files, and refusing what is empty, cut short or not sound, with the reason."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from cache import objects, places
from cache.errors import AsdError

LONGEST = 3600.0  # s; a recording that is read whole may have, unless told otherwise
# What a header may claim before anything is allocated: 2 GiB of float32, an hour of 8 channels at
# 16 kHz. A FLAC of silence holds that in kilobytes.
_MOST_VALUES = 2**29
_MOST_BYTES = 2**32  # of a file that is read whole
_RATES = (100, 2_000_000)  # Hz; beyond vibration and ultrasound a header is damaged
_UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # what a program that writes to a pipe leaves in a RIFF header
_FETCHING = Lock()


def content_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes.

    Raises
    ------
    AsdError
        If the file cannot be read.
    """
    if places.is_remote(path):
        return hashlib.sha256(read_whole(path)).hexdigest()
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AsdError(f"cannot be read: {error.strerror}") from error


def read_whole(path: Path) -> bytes:
    """Bytes of a file.

    Raises
    ------
    AsdError
        If it cannot be read, or is larger than 4 GiB.
    """
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise AsdError(f"{size / 2**30:.1f} GiB are too many to read at once; use --window")
        return places.read_bytes(path)
    except OSError as error:
        raise AsdError(f"cannot be read: {error.strerror or 'no such file'}") from error


def check_length(file: soundfile.SoundFile, frames: int, longest: float) -> None:
    """Refuse what a header claims before memory is taken for it.

    Parameters
    ----------
    file
        Opened.
    frames
        How many are to be read.
    longest
        Seconds they may last.
    """
    low, high = _RATES
    rate, channels = int(file.samplerate), int(file.channels)
    if not low <= rate <= high:
        raise AsdError(f"a sample rate of {rate} Hz; expected {low} to {high}")
    if frames > longest * rate:
        raise AsdError(
            f"{frames / rate:.0f} s by its header, longer than {longest:g} s: cut it into windows "
            "with --window, or raise --longest of extractors.run"
        )
    if frames * channels > _MOST_VALUES:
        raise AsdError(
            f"{frames} samples of {channels} channels by its header, more than {_MOST_VALUES} "
            "values at once: cut it into windows with --window"
        )


@contextmanager
def opened(path: Path) -> Iterator[tuple[soundfile.SoundFile, BinaryIO]]:
    """Open a file for decoding; the decoder, and the bytes below it.

    An object is read whole, and those read last are remembered: a recording is opened once a
    window.

    Raises
    ------
    AsdError
        If it cannot be read, is empty or is not audio; also while it is decoded.
    """
    try:
        with _raw(path) as raw, decoder(raw) as file:
            yield file, raw
    except OSError as error:
        raise AsdError(f"cannot be read: {error.strerror}") from error


def _raw(path: Path) -> BinaryIO:
    if not places.is_remote(path):
        return path.open("rb")
    with _FETCHING:  # two threads with windows of one recording fetch it once
        return io.BytesIO(_fetched(path, objects.version(path)))


@lru_cache(maxsize=2)
def _fetched(path: Path, _version: str) -> bytes:
    return read_whole(path)


@contextmanager
def decoder(raw: BinaryIO) -> Iterator[soundfile.SoundFile]:
    """Decode bytes; see `opened`."""
    if not raw.read(1):
        raise AsdError("an empty file of 0 bytes")
    raw.seek(0)
    try:
        with soundfile.SoundFile(raw) as file:
            yield file
    except soundfile.SoundFileError as error:
        # The whole text names a buffer in memory, which tells nobody anything.
        reason = getattr(error, "error_string", str(error))
        raise AsdError(f"not audio, or damaged: {reason}") from error


def check_whole(raw: BinaryIO, decoded: int, expected: int) -> None:
    """Refuse a file that was cut short.

    Parameters
    ----------
    raw
        Its bytes.
    decoded, expected
        How many frames there were, and should have been.
    """
    missing = _missing_bytes(raw)
    if missing > 0 or decoded < expected:
        lost = f"{missing} bytes" if missing > 0 else f"{expected - decoded} samples"
        raise AsdError(f"cut short: its header promises {lost} more than there are")


def _missing_bytes(raw: BinaryIO) -> int:
    """How many bytes a WAV's data chunk lacks; libsndfile reads a truncated one silently."""
    total = raw.seek(0, io.SEEK_END)
    raw.seek(0)
    position = 12 if raw.read(4) == b"RIFF" else total
    while position + 8 <= total:
        raw.seek(position)
        name, size = struct.unpack("<4sI", raw.read(8))
        if name == b"data":
            return 0 if size in _UNKNOWN_SIZES else position + 8 + size - total
        position += 8 + size + size % 2
    return 0


def check_samples(samples: NDArray[np.float32]) -> None:
    """Refuse samples that are none, or not finite."""
    if not samples.size:
        raise AsdError("zero-length audio: a header without samples")
    bad = int(samples.size - np.isfinite(samples).sum())
    if bad:
        raise AsdError(f"{bad} of {samples.size} samples are NaN or infinite")
