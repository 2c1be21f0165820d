"""Bytes damaged at random."""

from __future__ import annotations

import numpy as np

_LONGEST = 64  # bytes of a damaged region


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip a bit, overwrite or clear a region, or cut the end off."""
    start = int(rng.integers(len(data)))
    stop = min(len(data), start + int(rng.integers(1, _LONGEST)))
    match int(rng.integers(4)):
        case 0:
            changed = bytes([data[start] ^ 1 << int(rng.integers(8))])
            return data[:start] + changed + data[start + 1 :]
        case 1:
            return data[:start] + rng.bytes(stop - start) + data[stop:]
        case 2:
            return data[:start] + bytes(stop - start) + data[stop:]
        case _:
            return data[:start]
