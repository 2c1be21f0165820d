"""Decoded clips in batches of equal length, decoded ahead of the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tempfile import SpooledTemporaryFile
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import REMEDIES, AsdError
from cache.heard import AVERAGE, LONGEST, PLAIN, Signal, Span
from extractors.audio.decode import Decoding, Recording, decode_file, resampled
from extractors.clips.listing import Clip

_Key = tuple[Path, Span | None, Signal]


class Recordings:
    """A reader of audio files that remembers what it read.

    Parameters
    ----------
    budget
        Bytes of waveforms kept at most; 0 keeps none. What does not fit is read again.
    longest
        Seconds that a file may last which is read whole.
    """

    def __init__(self, budget: int, longest: float = LONGEST) -> None:
        self._budget = budget
        self._longest = longest
        self._kept: dict[_Key, Decoding] = {}
        self._lock = Lock()

    def read(
        self,
        path: Path,
        sample_rate: int,
        span: Span | None = None,
        channel: str = AVERAGE,
        signal: Signal = PLAIN,
    ) -> Recording:
        """Read a file as `extractors.audio.decode.read_audio` does; safe to call from several threads."""
        key = (path, span, signal)
        decoding = self._kept.get(key)
        if decoding is None:
            decoding = decode_file(path, span, self._longest, signal)
            with self._lock:
                if key not in self._kept and decoding.samples.nbytes <= self._budget:
                    self._kept[key] = decoding
                    self._budget -= decoding.samples.nbytes
        return resampled(decoding, sample_rate, channel)

    def forget(self) -> None:
        """Drop everything kept."""
        with self._lock:
            self._budget += sum(each.samples.nbytes for each in self._kept.values())
            self._kept.clear()


_WAITING_BATCHES = 4  # batches' worth of clips that may wait for others of their length


@dataclass(frozen=True)
class DecodedClip:
    """A clip and its waveform."""

    clip: Clip
    recording: Recording


@dataclass(frozen=True)
class Refusal:
    """A clip that cannot be used, and why."""

    clip: Clip
    reason: str


@dataclass(frozen=True)
class Decoder:
    """Reads clips in a pool of threads, ahead of who uses them.

    Attributes
    ----------
    recordings
        What reads a file.
    pool
        Its threads read; the caller's never waits for a file that is not next.
    ahead
        Clips held at most.
    """

    recordings: Recordings
    pool: Executor
    ahead: int

    def decoded(
        self, clips: Sequence[Clip], sample_rate: int, channel: str = AVERAGE
    ) -> Iterator[DecodedClip | Refusal]:
        """Read a channel of clips at a rate in Hz.

        Yields
        ------
        Decoded or Refused
            In the order of `clips`.
        """
        queue: deque[tuple[Clip, Future[Recording]]] = deque()
        waiting = iter(clips)
        read = self.recordings.read
        try:
            while True:
                while len(queue) < self.ahead and (clip := next(waiting, None)) is not None:
                    reading = self.pool.submit(read, clip.path, sample_rate, clip.span, channel, clip.signal)
                    queue.append((clip, reading))
                if not queue:
                    return
                clip, reading = queue.popleft()
                found: DecodedClip | Refusal
                try:
                    found = DecodedClip(clip, reading.result())
                except AsdError as error:
                    found = Refusal(clip, str(error))
                yield found
        finally:
            for _, future in queue:
                future.cancel()


def equal_lengths(items: Iterable[DecodedClip], size: int) -> Iterator[list[DecodedClip]]:
    """Group clips of equal length, so that no model sees padding.

    Parameters
    ----------
    items
        Decoded clips of any length.
    size
        Clips a batch at most.

    Yields
    ------
    list of Decoded
        1 to `size` clips of one length. Where many lengths compete, a batch goes out before it is
        full, so that memory stays bounded.
    """
    groups: dict[int, list[DecodedClip]] = {}
    for item in items:
        length = item.recording.samples.shape[-1]
        groups.setdefault(length, []).append(item)
        if len(groups[length]) == size:
            yield groups.pop(length)
        elif sum(map(len, groups.values())) >= _WAITING_BATCHES * size:
            yield groups.pop(max(groups, key=lambda samples: len(groups[samples])))
    yield from groups.values()


@dataclass(frozen=True)
class RaggedArray:
    """Arrays one after another.

    Attributes
    ----------
    values
        (N, ...) float32; memory-mapped where it is larger than the budget.
    bounds
        (C + 1,) int64: array i has the rows ``bounds[i]`` to ``bounds[i + 1]``.
    """

    values: NDArray[np.float32]
    bounds: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """Array `index`."""
        return np.asarray(self.values[self.bounds[index] : self.bounds[index + 1]])


def hold(
    arrays: Iterable[NDArray[np.float32]], width: tuple[int, ...], budget: int, folder: Path
) -> RaggedArray:
    """Hold arrays.

    Parameters
    ----------
    arrays
        (T, *width) each, taken one by one.
    width
        The shape of a row, ``()`` of a waveform.
    budget
        Bytes held in memory, for a moment twice; more goes to a file.
    folder
        Where that file lies. It has no name and is gone when the process is, however it ends.

    Raises
    ------
    AsdError
        If the file system does not take the file.
    """
    lengths = [0]
    with suppress(OSError):  # needed only where memory does not hold them
        folder.mkdir(parents=True, exist_ok=True)
    with SpooledTemporaryFile(max_size=budget, dir=str(folder)) as file:
        for array in arrays:
            try:
                file.write(np.ascontiguousarray(array).tobytes())
                file.flush()
            except OSError as error:
                remedy = REMEDIES.get(error.errno or 0, "choose another --cache-dir")
                raise AsdError(
                    f"{folder}: cannot hold there what is beyond --memory: {error.strerror}; {remedy}, or "
                    "raise --memory"
                ) from error
            lengths.append(len(array))
        bounds = np.cumsum(lengths, dtype=np.int64)
        shape = (int(bounds[-1]), *width)
        if 4 * prod(shape) > budget:
            return RaggedArray(np.asarray(np.memmap(file, np.float32, "r", shape=shape)), bounds)
        values = np.empty(shape, np.float32)
        file.seek(0)
        file.readinto(values.reshape(-1).data.cast("B"))
        return RaggedArray(values, bounds)
