"""Clips to log-mel frames, held in memory up to a budget and beyond it in a file without a name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cache.base.errors import AsdError
from extractors.audio.batches import RaggedArray, hold
from extractors.audio.decode import read_audio
from extractors.clips.listing import Clip, Fault
from extractors.nets.melspectrogram import LogMel

# Dohi et al. 2023, section 4: windows of 64 ms, half of them new, 128 mel bands, 5 frames a vector.
SAMPLE_RATE = 16_000  # Hz
N_FFT, HOP, BANDS, STACK = 1024, 512, 128, 5
MIN_SAMPLES = (STACK - 1) * HOP  # what gives one vector


@dataclass(frozen=True)
class Frames(RaggedArray):
    """The frames of several clips, (T, 128) float32 each, dB, T five or more.

    Attributes
    ----------
    clips
        C clips.
    hashes
        SHA-256 of each clip's file.
    faults
        Clips left out, each with the reason.
    """

    clips: tuple[Clip, ...]
    hashes: tuple[str, ...]
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
    clips: Sequence[Clip], refuse: Callable[[Fault], object]
) -> Iterator[tuple[Clip, str, NDArray[np.float32]]]:
    """Compute the frames of clips one by one.

    Parameters
    ----------
    clips
        What to read.
    refuse
        Told of every clip left out.

    Yields
    ------
    clip, content_sha256, frames
        Frames (T, 128) float32, T >= 5.
    """
    front_end = FrameExtractor()
    for clip in clips:
        try:
            recording = read_audio(clip.path, SAMPLE_RATE, signal=clip.signal)
            frames = front_end(recording.samples)
        except AsdError as error:
            refuse(Fault(clip.path, str(error)))
        else:
            yield clip, recording.content_sha256, frames


def read_frames(clips: Sequence[Clip], budget: int, folder: Path) -> Frames:
    """Compute the frames of clips and hold them all.

    Parameters
    ----------
    clips
        Of one machine.
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
    kept: list[Clip] = []
    hashes: list[str] = []

    def read() -> Iterator[NDArray[np.float32]]:
        for clip, sha, frames in clip_frames(clips, faults.append):
            kept.append(clip)
            hashes.append(sha)
            yield frames

    held = hold(read(), (BANDS,), budget, folder)
    if not kept:
        raise AsdError(_none_left(clips, faults))
    return Frames(held.values, held.bounds, tuple(kept), tuple(hashes), tuple(faults))


def _none_left(clips: Sequence[Clip], faults: Sequence[Fault]) -> str:
    machine = clips[0].section.machine_type if clips else "the machine"
    reasons = "".join(f"\n  {fault}" for fault in faults[:5])
    return f"{machine}: no training clip that can be used{reasons}"
