"""What a sound file is, its sound apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from extractors.soundfiles import blocks, check_length, opened, sha256_of

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
    """

    sample_rate: int
    channels: int
    seconds: float
    content_sha256: str


def probe(path: Path) -> Probe:
    """Decode a file block by block, keep nothing, refuse what `extractors.audio` refuses.

    Raises
    ------
    AsdError
        If it is refused.
    """
    with opened(path) as (file, raw):
        rate, channels, frames = int(file.samplerate), int(file.channels), int(file.frames)
        check_length(file, min(frames, _BLOCK), math.inf)
        sha256 = sha256_of(raw, path)
        for _ in blocks(file, 0, frames, _BLOCK):
            pass
    return Probe(rate, channels, frames / rate, sha256)
