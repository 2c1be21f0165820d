"""What a sound file is, its sound apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from cache.facts import Facts
from extractors.audio.decode import mono
from extractors.audio.files import blocks, check_length, opened, sha256_of
from extractors.audio.inspection import Ear, decoder_of

_BLOCK = 2**18  # frames decoded at once


@dataclass(frozen=True)
class Probe:
    """What a file is, its sound apart.

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
    """

    sample_rate: int
    channels: int
    seconds: float
    content_sha256: str
    facts: Facts


def probe(path: Path) -> Probe:
    """Decode a file block by block, keep nothing, refuse what `extractors.audio.decode` refuses.

    Raises
    ------
    AsdError
        If it is refused.
    """
    with opened(path) as (file, raw):
        rate, channels, frames = int(file.samplerate), int(file.channels), int(file.frames)
        check_length(file, min(frames, _BLOCK), math.inf)
        sha256 = sha256_of(raw, path)
        ear = Ear(rate)
        for block in blocks(file, 0, frames, _BLOCK):
            ear.hear(block, mono(block))
        facts = ear.facts(file.measure.remark, decoder_of(str(file.subtype)))
        ear.check_mix()
    return Probe(rate, channels, frames / rate, sha256, facts)
