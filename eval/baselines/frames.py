"""Clips to log-mel frames, and frames to batches of vectors.

Frames are held in memory up to a budget and beyond it in a file without a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache.base.errors import AsdError, reasons
from cache.table import ClipKey, EmbeddingTable, Section
from extractors.audio.batches import RaggedArray, hold
from extractors.audio.decode import read_audio
from extractors.audio.hearing import Hearing
from extractors.clips.listing import Clip, Fault
from extractors.nets.melspectrogram import LogMel

# Dohi et al. 2023, section 4: windows of 64 ms, half of them new, 128 mel bands, 5 frames a vector.
SAMPLE_RATE = 16_000  # Hz
N_FFT, HOP, BANDS, STACK = 1024, 512, 128, 5
BATCH = 256  # vectors
MIN_SAMPLES = (STACK - 1) * HOP  # what gives one vector


@dataclass(frozen=True)
class Frames(RaggedArray):
    """The frames of several clips, (T, 128) float32 each, dB, T five or more.

    Attributes
    ----------
    clips, keys
        C clips, and what their tables would hold of them.
    faults
        Clips left out, each with the reason.
    """

    clips: tuple[Clip, ...]
    keys: tuple[ClipKey, ...]
    faults: tuple[Fault, ...] = ()


@dataclass
class FrameExtractor:
    """Log-mel frames centred on every 512th sample, the clip mirrored at both ends.

    Centred frames give the published 313 frames, hence 309 vectors, of a clip of 10 s. Mirrored
    ends are as loud as the rest of the clip; zeros there would make its first and last frame a
    sound of their own.
    """

    _log_mel: LogMel = field(default_factory=lambda: LogMel(SAMPLE_RATE, N_FFT, HOP, BANDS))

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute (1 + T // 512, 128) float32, dB, of (T,) samples in [-1, 1].

        Raises
        ------
        AsdError
            If there are fewer samples than give one vector, 2048.
        """
        if len(samples) < MIN_SAMPLES:
            seconds, least = len(samples) / SAMPLE_RATE, MIN_SAMPLES / SAMPLE_RATE
            raise AsdError(f"{seconds:.3f} s is too short; {least:.3f} s make one vector")
        with torch.inference_mode():
            wave = torch.from_numpy(samples)[None]
            half = N_FFT // 2
            mirrored = torch.nn.functional.pad(wave, (half, half), mode="reflect")
            frames: NDArray[np.float32] = self._log_mel(mirrored)[0].numpy()
        return frames


def clip_frames(
    clips: Sequence[Clip], hearing: Hearing, refuse: Callable[[Fault], object]
) -> Iterator[tuple[Clip, ClipKey, NDArray[np.float32]]]:
    """Compute the frames of clips one by one.

    Parameters
    ----------
    clips
        What to read.
    hearing
        Channel and length; windows are clips already.
    refuse
        Told of every clip left out.

    Yields
    ------
    clip, key, frames
        Frames (T, 128) float32, T >= 5.
    """
    front_end = FrameExtractor()
    for clip in clips:
        try:
            heard = read_audio(clip.path, SAMPLE_RATE, clip.span, hearing.channel, clip.signal)
            frames = front_end(hearing.fit(heard.samples, SAMPLE_RATE))
        except AsdError as error:
            refuse(Fault(clip.path, str(error)))
        else:
            known = clip.domain, clip.condition, clip.attributes, heard.facts
            yield clip, ClipKey(clip.clip_id, heard.content_sha256, *known), frames


def mean_frame(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average a clip's (T, 128) frames: by that vector clips are told alike and laid out on a map."""
    return np.asarray(frames.mean(axis=0, dtype=np.float64), dtype=np.float32)


def frame_table(
    section: Section, split: str, keys: Sequence[ClipKey], means: Sequence[NDArray[np.float32]]
) -> EmbeddingTable:
    """Put the `mean_frame` of every clip of a section and split in a table, sorted by clip."""
    return EmbeddingTable(section, split, tuple(keys), np.array(means), {"logmel": (0, BANDS)})


def read_frames(clips: Sequence[Clip], hearing: Hearing, budget: int, folder: Path) -> Frames:
    """Compute the frames of clips and hold them all.

    Parameters
    ----------
    clips
        Of one machine.
    hearing
        Channel and length.
    budget
        Bytes held in memory, for a moment twice; more goes to a file.
    folder
        Where that file lies. It has no name and is gone when the process is, however it ends.

    Returns
    -------
    Frames
        Of the clips that can be used, and the faults of the others.

    Raises
    ------
    AsdError
        If no clip is left.
    """
    faults: list[Fault] = []
    kept: list[tuple[Clip, ClipKey]] = []

    def read() -> Iterator[NDArray[np.float32]]:
        for clip, key, frames in clip_frames(clips, hearing, faults.append):
            kept.append((clip, key))
            yield frames

    held = hold(read(), (BANDS,), budget, folder)
    if not kept:
        machine = clips[0].section.machine_type if clips else "the machine"
        raise reasons(f"{machine}: no training clip that can be used", list(map(str, faults)))
    used, keys = zip(*kept, strict=True)
    return Frames(held.values, held.bounds, used, keys, tuple(faults))


@dataclass(frozen=True)
class FrameBatches:
    """Vectors of clips in random order, every one once an epoch.

    Attributes
    ----------
    frames
        Where they are taken from.
    rows
        Which of its clips.
    budget
        Bytes of frames held at a time. Where the clips need more, their order is random, as many as
        fit are loaded, and vectors are mixed among these alone.
    device
        Where batches go.
    """

    frames: Frames
    rows: Sequence[int]
    budget: int
    device: torch.device

    def epoch(self, rng: torch.Generator) -> Iterator[Tensor]:
        """Yield (B, 640) batches, 2 <= B <= 257: a single vector left over joins the one before."""
        for values, starts in self._blocks(rng):
            block = torch.from_numpy(values).to(self.device)
            # Row i is frames i to i + 4: a view, copied only where a batch gathers from it.
            vectors = block.as_strided((len(block) - STACK + 1, STACK * BANDS), (BANDS, 1))
            order = torch.from_numpy(starts)[torch.randperm(len(starts), generator=rng)]
            parts = list(torch.split(order.to(self.device), BATCH))
            if len(parts) > 1 and len(parts[-1]) == 1:  # batch normalisation cannot train on one vector
                parts[-2:] = [torch.cat(parts[-2:])]
            yield from (vectors[picked] for picked in parts)

    @property
    def count(self) -> int:
        """Vectors an epoch."""
        lengths = np.diff(self.frames.bounds)[list(self.rows)]
        return int((lengths - STACK + 1).sum())

    def _blocks(self, rng: torch.Generator) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Frames (n, 128) and the first frame of each vector (m,), m >= 2."""
        values, bounds = self.frames.values, self.frames.bounds
        if values.nbytes <= self.budget:
            yield values, vector_starts(bounds[:-1][list(self.rows)], bounds[1:][list(self.rows)])
            return
        order = [self.rows[i] for i in torch.randperm(len(self.rows), generator=rng).tolist()]
        for group in _groups(order, np.diff(bounds) * BANDS * 4, self.budget):
            ends = np.cumsum([bounds[i + 1] - bounds[i] for i in group])
            starts = vector_starts(np.concatenate([[0], ends[:-1]]), ends)
            yield np.concatenate([self.frames[i] for i in group]), starts


def vector_starts(first: NDArray[np.int64], after: NDArray[np.int64]) -> NDArray[np.int64]:
    """First frame of every vector that lies within one clip.

    Parameters
    ----------
    first, after
        (C,) a clip's first frame and the frame after its last.

    Returns
    -------
    ndarray
        (m,) ascending within a clip.
    """
    counts = after - first - STACK + 1
    shift = first - np.concatenate([[0], np.cumsum(counts)[:-1]])
    return np.asarray(np.arange(counts.sum()) + np.repeat(shift, counts), dtype=np.int64)


def _groups(order: Sequence[int], sizes: NDArray[np.int64], budget: int) -> Iterator[list[int]]:
    """Cut clips into groups of at most `budget` bytes; a clip larger than that stands alone.

    The last clip is put into the group before it where it would stand alone: it may be one vector.
    """
    group: list[int] = []
    held = 0
    for clip in order:
        if group and held + sizes[clip] > budget and clip != order[-1]:
            yield group
            group, held = [], 0
        group.append(clip)
        held += int(sizes[clip])
    if group:
        yield group
