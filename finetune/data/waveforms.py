"""Training clips as waveforms of one length, decoded once for all epochs."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache.base.errors import reasons
from cache.base.processors import cores
from cache.base.progress import Progress, Steps, unseen
from extractors.audio.batches import Decoder, RaggedArray, Recordings, Refusal, hold
from extractors.audio.hearing import Hearing
from extractors.clips.listing import Clip, Fault
from finetune.data.signals import fitted

_AHEAD = 16


@dataclass(frozen=True)
class Waveforms:
    """Decoded training clips.

    Attributes
    ----------
    held
        N waveforms, float32 in [-1, 1].
    clips
        N clips.
    hashes
        SHA-256 of each clip's file.
    faults
        Clips left out, each with the reason.
    sample_rate
        Hz.
    """

    held: RaggedArray
    clips: tuple[Clip, ...]
    hashes: tuple[str, ...]
    faults: tuple[Fault, ...]
    sample_rate: int

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what is learnt from: ids, contents, domains, conditions and attributes."""
        rows = [
            [clip.clip_id, sha256, clip.domain, clip.condition, sorted(clip.attributes.items())]
            for clip, sha256 in zip(self.clips, self.hashes, strict=True)
        ]
        return hashlib.sha256(json.dumps(sorted(rows, key=str)).encode()).hexdigest()

    def usual_length(self, longest: int) -> int:
        """Return the most common length in samples, the longer of two; at most `longest`."""
        counts: Counter[int] = Counter(np.diff(self.held.bounds).tolist())
        usual = max(counts, key=lambda length: (counts[length], length))
        return min(longest, usual)

    def batch(self, rows: Sequence[int], samples: int, generator: torch.Generator) -> Tensor:
        """Take clips as (B, samples) float32: see `finetune.data.signals.fitted`."""
        cut = [fitted(self.held[row].copy(), samples, generator) for row in rows]
        return torch.cat(cut)


@dataclass(frozen=True)
class MemoryRoom:
    """Where decoded clips are held.

    Attributes
    ----------
    budget
        Bytes held in memory; more go to a file without a name.
    folder
        Where that file lies.
    """

    budget: int
    folder: Path


def read_waveforms(
    clips: Sequence[Clip],
    sample_rate: int,
    room: MemoryRoom,
    hearing: Hearing | None = None,
    told: Progress = unseen,
) -> Waveforms:
    """Decode clips.

    Parameters
    ----------
    clips
        Training clips.
    sample_rate
        Wanted, Hz.
    room
        Where they are held.
    hearing
        Which channel is heard and how long; all there is by default.
    told
        How many clips are decoded.

    Raises
    ------
    AsdError
        If none can be used.
    """
    kept: list[Clip] = []
    hashes: list[str] = []
    faults: list[Fault] = []

    how = hearing or Hearing()

    def decoded() -> Iterator[NDArray[np.float32]]:
        steps = Steps(len(clips), told)
        with ThreadPoolExecutor(cores(), "decode") as pool:
            decoder = Decoder(Recordings(0), pool, _AHEAD)
            for item in decoder.decoded(clips, sample_rate, how.channel):
                steps.update(1)
                if isinstance(item, Refusal):
                    faults.append(Fault(item.clip.path, item.reason))
                else:
                    kept.append(item.clip)
                    hashes.append(item.recording.content_sha256)
                    yield how.fit(item.recording.samples, sample_rate)

    held = hold(decoded(), (), room.budget, room.folder)
    if not kept:
        raise reasons("no training clip that can be used", faults)
    return Waveforms(held, tuple(kept), tuple(hashes), tuple(faults), sample_rate)
