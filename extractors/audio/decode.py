"""One audio file to a mono waveform; whatever is not sound audio is refused with the reason."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.facts import Facts
from cache.heard import AVERAGE, CANCEL, CHANNELS, LONGEST, PLAIN, RESIDUAL, Signal, Span, read_channel
from extractors.audio.files import (
    blocks,
    check_length,
    decoder,
    marked,
    opened,
    read_whole,
    sha256_of,
)
from extractors.audio.inspection import Ear, decoder_of
from extractors.audio.signals import SignalFile

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
    padded = [
        np.pad(channel.astype(np.float64) / scale, WINDOW // 2, mode="reflect") for channel in (near, far)
    ]  # with mirrored ends
    frames = [np.lib.stride_tricks.sliding_window_view(each, WINDOW)[::HOP] for each in padded]
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


def _spectra(frames: list[Floats], window: Floats) -> Iterator[tuple[int, Spectra, Spectra]]:
    """Yield the number of a block's first frame, and its near and far spectra, (n, 513)."""
    for first in range(0, len(frames[0]), _FRAMES):
        near, far = (np.fft.rfft(each[first : first + _FRAMES] * window, axis=1) for each in frames)
        yield first, near, far


# HQ: -99 dB of leakage beside a task whose machines differ by less than torchaudio's -47 dB.
RESAMPLER = f"soxr-{soxr.__version__}-hq"


@dataclass(frozen=True)
class Recording:
    """A decoded clip.

    Attributes
    ----------
    samples
        (T,) float32, nominally in [-1, 1], finite, T >= 1; (2, T), near and far, of ``residual``.
    content_sha256
        Hexadecimal SHA-256 of the file's bytes.
    facts
        What the recording turned out to be.
    """

    samples: NDArray[np.float32]
    content_sha256: str
    facts: Facts | None = None


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
    remark
        What of its header was put right; empty where nothing was.
    decoder
        See `extractors.audio.inspection.decoder_of`.
    sound
        Whether 1 is full scale; of a file of numbers nothing is.
    """

    samples: NDArray[np.float32]
    sample_rate: int
    content_sha256: str
    remark: str = ""
    decoder: str = ""
    sound: bool = True


def decode_file(
    path: Path, span: Span | None = None, longest: float = LONGEST, signal: Signal = PLAIN
) -> Decoding:
    """Read a file, or a span of it and nothing else, at its own rate; see `read_audio`.

    A whole file may last `longest` seconds; of what is longer, nothing is read. The hash is that of
    the very bytes that were decoded.
    """
    if span is not None:
        with opened(path, signal) as (file, raw):
            rate, there = int(file.samplerate), int(file.frames)
            start, stop = (min(round(second * rate), there) for second in span)
            check_length(file, stop - start, math.inf)
            sha256 = sha256_of(raw, path)
            samples = _joined(blocks(file, start, stop - start, max(1, stop - start)), signal)
            if sha256_of(raw, path) != sha256:
                raise AsdError("changed while it was read: run the same command again")
            told = file.measure.remark, decoder_of(str(file.subtype)), not isinstance(file, SignalFile)
        return Decoding(samples, rate, marked(sha256, signal), *told)
    data = read_whole(path)
    with decoder(io.BytesIO(data), path, signal) as file:
        frames, rate = int(file.frames), int(file.samplerate)
        check_length(file, frames, longest)
        samples = _joined(blocks(file, 0, frames, max(1, frames)), signal)
        told = file.measure.remark, decoder_of(str(file.subtype)), not isinstance(file, SignalFile)
    return Decoding(samples, rate, marked(hashlib.sha256(data).hexdigest(), signal), *told)


def _joined(parts: Iterator[NDArray[np.float32]], signal: Signal) -> NDArray[np.float32]:
    found = list(parts)
    samples = found[0] if len(found) == 1 else np.concatenate(found)
    if signal.remove_dc:
        samples = (samples - samples.mean(axis=0, dtype=np.float64)).astype(np.float32)
    return samples


def resampled(decoding: Decoding, sample_rate: int, channel: str = AVERAGE) -> Recording:
    """Bring one channel of a decoded file, or their average, to a rate in Hz; see `read_audio`."""
    name, energy, left = channel.partition(":")[0], None, None
    if name == RESIDUAL:
        near_, far_ = (resampled(decoding, sample_rate, each) for each in CHANNELS)
        both = np.stack([near_.samples, far_.samples])
        return Recording(both, decoding.content_sha256, facts=near_.facts)
    ear = Ear(decoding.sample_rate, sound=decoding.sound)
    if name == CANCEL:
        near, far = (mono(decoding.samples, each) for each in CHANNELS)
        ear.hear(decoding.samples, near)
        samples = cancelled(near, far)
        energy, left = _energy(near), _energy(samples)
    else:
        samples = mono(decoding.samples, channel)
        ear.hear(decoding.samples, samples)
        if name == AVERAGE:
            ear.check_mix()
    if decoding.sample_rate != sample_rate:
        try:
            samples = soxr.resample(samples, decoding.sample_rate, sample_rate, quality="HQ")
        except (ValueError, RuntimeError, MemoryError) as error:
            raise AsdError(
                f"{decoding.sample_rate} Hz cannot be brought to {sample_rate} Hz: {error}"
            ) from error
    if not samples.size:
        raise AsdError("too short: nothing is left after resampling")
    facts = replace(ear.facts(decoding.remark, decoding.decoder), near=energy, left=left)
    return Recording(np.ascontiguousarray(samples), decoding.content_sha256, facts)


def read_audio(
    path: Path,
    sample_rate: int,
    span: Span | None = None,
    channel: str = AVERAGE,
    signal: Signal = PLAIN,
) -> Recording:
    """Read a file as mono at a given rate.

    Parameters
    ----------
    path
        WAV, FLAC, OGG or MP3 of any width, rate and number of channels; or a file of numbers, see
        `extractors.audio.signals`, whose columns are channels.
    sample_rate
        Rate wanted, Hz; the file is resampled where it differs.
    span
        What to read of it, s; ``None`` for all.
    channel
        ``average`` of all, ``near``, ``far``, a channel's number from 0; ``cancel``: near less what
        far hears too, see `extractors.audio.decode`; ``residual:W``: near and far, two rows.
    signal
        What is told of it beside what it tells itself.

    Returns
    -------
    Recording
        Of the span; the hash is the whole file's.

    Raises
    ------
    AsdError
        If the file cannot be read, is empty, longer than an hour, cut short, not audio, holds NaN
        or infinity, has no such channel, or its channels cancel each other in the average.
    """
    return resampled(decode_file(path, span, signal=signal), sample_rate, channel)


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


def seconds_of(path: Path, signal: Signal = PLAIN) -> float:
    """Length of a file by its header, s.

    Raises
    ------
    AsdError
        If it cannot be read or is not audio.
    """
    with opened(path, signal) as (file, _):
        return float(file.frames / file.samplerate)


def channels_in(path: Path, signal: Signal = PLAIN) -> int:
    """Count the channels of a file by its header; raises as `seconds_of`."""
    with opened(path, signal) as (file, _):
        return int(file.channels)


def _energy(samples: NDArray[np.float32]) -> float:
    return float(np.square(samples, dtype=np.float64).sum())


def mono(samples: NDArray[np.float32], channel: str = AVERAGE) -> NDArray[np.float32]:
    """Take a channel of (T, C) samples, or their average; see `read_audio`."""
    number, there = channel_number(channel), samples.shape[1]
    if number is None:
        return samples.mean(axis=1, dtype=np.float32) if there > 1 else samples[:, 0]
    if number >= there:
        raise AsdError(f"no channel {channel}: it has {there}; --channel {AVERAGE} takes any file")
    return samples[:, number]
