"""What a sound file is, its sound apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extractors.soundfiles import check_samples, check_whole, content_sha256, opened

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
        rate, channels, total = int(file.samplerate), int(file.channels), 0
        if not file.frames:
            check_samples(np.zeros(0, np.float32))
        for block in file.blocks(_BLOCK, dtype="float32", always_2d=True):
            total += len(block)
            check_samples(block)
        check_whole(raw, total, file.frames)
    return Probe(rate, channels, total / rate, content_sha256(path))
