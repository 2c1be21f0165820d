"""Facts of a recording without its samples: rate, channels, length, hash."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cache.facts import Facts
from cache.heard import PLAIN, Signal
from extractors.audio.decode import mono
from extractors.audio.files import blocks, check_length, marked, opened, sha256_of
from extractors.audio.inspection import Ear, decoder_of
from extractors.audio.signals import SignalFile

_BLOCK = 2**18  # frames decoded at once


@dataclass(frozen=True)
class Probe:
    """Facts of a recording without its samples.

    Attributes
    ----------
    sample_rate
        Hz.
    channels
        How many.
    seconds
        Length.
    content_sha256
        Hexadecimal SHA-256 of the file's bytes.
    facts
        What it turned out to be.
    columns
        Of a file of numbers, with units where told; empty of sound.
    peak
        Largest value there is, in its own scale.
    """

    sample_rate: int
    channels: int
    seconds: float
    content_sha256: str
    facts: Facts
    columns: str = ""
    peak: float = field(default=0.0, compare=False)


def probe(path: Path, signal: Signal = PLAIN) -> Probe:
    """Decode a file block by block, keep nothing, refuse what `extractors.audio.decode` refuses.

    Raises
    ------
    AsdError
        If it is refused.
    """
    with opened(path, signal) as (file, raw):
        rate, channels, frames = int(file.samplerate), int(file.channels), int(file.frames)
        check_length(file, min(frames, _BLOCK), math.inf)
        sha256 = marked(sha256_of(raw, path), signal)
        numbers = isinstance(file, SignalFile)
        ear, peak = Ear(rate, sound=not numbers), 0.0
        for block in blocks(file, 0, frames, _BLOCK):
            peak = max(peak, float(np.abs(block).max()))
            ear.hear(block, mono(block))
        facts = ear.facts(file.measure.remark, decoder_of(str(file.subtype)))
        ear.check_mix()
        columns = ", ".join(
            f"{name} [{unit}]" if unit and unit not in name else name
            for name, unit in zip(file.names, file.units, strict=True)
        ) if isinstance(file, SignalFile) else ""  # fmt: skip
    return Probe(rate, channels, frames / rate, sha256, facts, columns, peak)
