"""Opening sound files, and refusing what is empty, cut short or not sound, with the reason."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import SEEK_SET, BufferedReader
from pathlib import Path
from threading import Lock
from typing import BinaryIO, cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.files import objects, places
from cache.heard import PLAIN, SIGNAL_SUFFIXES, Signal
from extractors.audio.containers import PatchedFile, measured
from extractors.audio.signals import SignalFile
from extractors.audio.streams import Measure

# What a header may claim before anything is allocated: 2 GiB of float32, an hour of 8 channels at
# 16 kHz. A FLAC of silence holds that in kilobytes.
_MOST_VALUES = 2**29
_MOST_BYTES = 2**32  # of a file that is read whole
_RATES = (100, 2_000_000)  # Hz; beyond vibration and ultrasound a header is damaged
# Samples that a byte can stand for at most: a frame of FLAC that is silent has 11 bytes for 65535.
_MOST_A_BYTE = 8192
_SLACK = 4 * 1152  # samples that an MP3's encoder and decoder add or take away at its ends
_FETCHING, _HASHING = Lock(), Lock()
_HASHES: dict[tuple[Path, tuple[int, ...]], str] = {}  # of files as they were last seen
_REMEMBERED = 256
_MOMENT = 2 * 10**9  # ns; the coarsest times that a file system tells


def marked(sha256: str, signal: Signal) -> str:
    """Join a file's hash with what a manifest tells of it as a file of numbers."""
    return hashlib.sha256((sha256 + signal.mark).encode()).hexdigest() if signal.mark else sha256


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


def hash_once(path: Path) -> str:
    """Hash a long file once for all its spans, while it stays as it is; see `content_sha256`."""
    try:
        with _raw(path) as raw:
            return sha256_of(raw, path)
    except OSError as error:
        raise AsdError(f"cannot be read: {error.strerror}") from error


def sha256_of(raw: BinaryIO, path: Path) -> str:
    """Hash an opened file, once while it stays as it is; its position stays.

    Parameters
    ----------
    raw
        What `opened` gave: the very file that is decoded.
    path
        Where it is.
    """
    if isinstance(raw, _Object):
        return raw.sha256
    told = os.fstat(raw.fileno())
    state = (told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns)
    key, position = (path, state), raw.tell()
    with _HASHING:  # two threads with spans of one file hash it once
        if key not in _HASHES:
            raw.seek(0)
            sha256 = hashlib.file_digest(cast(BufferedReader, raw), "sha256").hexdigest()
            raw.seek(position)
            # A file written a moment ago may be written again without its times telling.
            if time.time_ns() - max(told.st_mtime_ns, told.st_ctime_ns) < _MOMENT:
                return sha256
            while len(_HASHES) >= _REMEMBERED:
                _HASHES.pop(next(iter(_HASHES)))
            _HASHES[key] = sha256
        return _HASHES[key]


class _Object(io.BytesIO):
    """An object of a store, read whole, with its hash."""

    def __init__(self, data: bytes, sha256: str) -> None:
        super().__init__(data)
        self.sha256 = sha256


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
            raise AsdError(f"{size / 2**30:.1f} GiB are too much to read at once; use --window")
        return places.read_bytes(path)
    except OSError as error:
        raise AsdError(f"cannot be read: {error.strerror or 'no such file'}") from error


def check_length(file: AudioFile | SignalFile, frames: int, longest: float) -> None:
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


class AudioFile(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """An opened sound file.

    Parameters
    ----------
    source
        Its bytes.
    measure
        What there is, and what of the header was put right.
    """

    def __init__(self, source: BinaryIO | PatchedFile, measure: Measure) -> None:
        self.measure = measure
        super().__init__(source)
        self._source, self._width, self._at = source, 2 * int(self.channels), 0
        begin, size = measure.sound or (0, -1)
        plain = self.subtype == "PCM_16" and size // self._width == self.frames
        self._begin = begin if plain else None

    @property
    def frames(self) -> int:
        """Samples of a channel; of an MP3 that does not tell, libsndfile only guesses."""
        told = int(self._info.frames)
        return told if self.measure.frames is None else min(told, self.measure.frames)

    def seek(self, frames: int, whence: int = SEEK_SET) -> int:
        """Go to a sample, as `soundfile.SoundFile.seek` does."""
        if self._begin is None:
            return int(super().seek(frames, whence))
        assert whence == SEEK_SET
        self._at = frames
        return frames

    def read(
        self, frames: int = -1, dtype: str = "float32", *, always_2d: bool = True
    ) -> NDArray[np.float32]:
        """Read the next samples, (n, C); of plain 16 bits the same numbers sooner than libsndfile does."""
        if self._begin is None:
            found: NDArray[np.float32] = super().read(frames, dtype=dtype, always_2d=always_2d)
            return found
        count = max(0, min(frames, self.frames - self._at))
        self._source.seek(self._begin + self._at * self._width)
        data = self._source.read(count * self._width) or b""
        values = np.frombuffer(data, "<i2", len(data) // self._width * int(self.channels))
        samples = values.reshape(-1, int(self.channels)).astype(np.float32)
        samples *= np.float32(2.0**-15)
        self._at += len(samples)
        return samples


@contextmanager
def opened(path: Path, signal: Signal = PLAIN) -> Iterator[tuple[AudioFile | SignalFile, BinaryIO]]:
    """Open a file for decoding; the decoder, and the bytes below it.

    The decoder's ``frames`` are what there is, whatever the header claims; see
    `extractors.audio.containers`. An object is read whole, and those read last are remembered: a
    recording is opened once a window.

    Raises
    ------
    AsdError
        If it cannot be read, is empty, cut short or not audio; also while it is decoded.
    """
    try:
        with _raw(path) as raw, decoder(raw, path, signal) as file:
            yield file, raw
    except OSError as error:
        raise AsdError(f"cannot be read: {error.strerror}") from error


def _raw(path: Path) -> BinaryIO:
    if not places.is_remote(path):
        return path.open("rb")
    with _FETCHING:  # two threads with windows of one recording fetch it once
        return _Object(*_fetched(path, objects.version(path)))


@lru_cache(maxsize=2)
def _fetched(path: Path, _version: str) -> tuple[bytes, str]:
    data = read_whole(path)
    return data, hashlib.sha256(data).hexdigest()


@contextmanager
def decoder(raw: BinaryIO, path: Path, signal: Signal = PLAIN) -> Iterator[AudioFile | SignalFile]:
    """Decode bytes of a file, numbers by its name's suffix; see `opened`."""
    if not raw.read(1):
        raise AsdError("an empty file of 0 bytes")
    try:
        if path.suffix.lower() in SIGNAL_SUFFIXES:
            numbers = SignalFile(raw, path.suffix, signal)
            _check_claim(numbers, raw)
            yield numbers
            return
        measure = measured(raw)
        source = PatchedFile(raw, measure.patches) if measure.patches else raw
        with AudioFile(source, measure) as file:
            _check_claim(file, raw)
            yield file
    except soundfile.SoundFileError as error:
        # The whole text names a buffer in memory, which tells nobody anything.
        reason = getattr(error, "error_string", str(error))
        raise AsdError(f"not audio, or damaged: {reason}") from error
    except (AsdError, OSError):
        raise
    except Exception as error:
        # Of any other kind, for codecs that few files have; it is this clip's fault, no one else's.
        reason = (str(error).splitlines() or [""])[0]
        raise AsdError(f"cannot be decoded: {type(error).__name__}: {reason}") from error


def _check_claim(file: AudioFile | SignalFile, raw: BinaryIO) -> None:
    """Refuse what no file of this size can hold, or what its own frames contradict."""
    position = raw.tell()
    size = raw.seek(0, io.SEEK_END)
    raw.seek(position)
    if file.frames > size * _MOST_A_BYTE:
        raise AsdError(
            f"damaged: its header claims {file.frames} samples, more than its {size} bytes can hold"
        )
    there = file.measure.frames
    if there is not None and there > file.frames + _SLACK:
        raise AsdError(
            f"its header tells of {file.frames} of {there} samples: write it anew, for instance "
            "with ffmpeg -i IN OUT"
        )


def blocks(file: AudioFile | SignalFile, start: int, frames: int, size: int) -> Iterator[NDArray[np.float32]]:
    """Decode part of a file; what every reader of sound files goes through.

    Parameters
    ----------
    file
        Opened by `opened` or `decoder`.
    start, frames
        First sample, and how many.
    size
        Samples a block at most.

    Yields
    ------
    ndarray
        (n, C) float32.

    Raises
    ------
    AsdError
        If there are none or fewer than that, or, behind the last block, some were not finite.
    """
    if start:
        file.seek(start)
    total = bad = values = 0
    pages, hole = getattr(file, "format", "") == "OGG", False
    whole_numbers = str(file.subtype).startswith("PCM_")  # which are all finite
    while total < frames:
        # Named, since a codec that cannot be wound does not know how many are left.
        asked = min(size, frames - total)
        block = file.read(asked, dtype="float32", always_2d=True)
        if not len(block):
            break
        if hole:
            raise AsdError(
                f"damaged: sound is missing before sample {start + total}; what is left of it can be kept "
                "with ffmpeg -i IN OUT"
            )
        hole = pages and len(block) < asked  # the decoder skips a page that is damaged, and goes on
        total += len(block)
        values += block.size
        bad += 0 if whole_numbers else int(block.size - np.isfinite(block).sum())
        yield block
    if not total:
        raise AsdError("zero-length audio: a header without samples")
    if bad:
        raise AsdError(f"{bad} of {values} samples are NaN or infinite")
    if total < frames:
        raise AsdError(f"cut short: its header promises {frames - total} samples more than there are")
