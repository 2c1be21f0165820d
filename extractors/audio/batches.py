"""Decoded clips in batches of equal length, decoded ahead of the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from cache.base.errors import AsdError
from cache.heard import AVERAGE, PLAIN, Signal, Span
from extractors.audio.decode import Decoding, Recording, decode_file, resampled
from extractors.audio.files import LONGEST
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
            self._keep(key, decoding)
        return resampled(decoding, sample_rate, channel)

    def forget(self) -> None:
        """Drop everything kept."""
        with self._lock:
            self._budget += sum(each.samples.nbytes for each in self._kept.values())
            self._kept.clear()

    def _keep(self, key: _Key, decoding: Decoding) -> None:
        with self._lock:
            if key not in self._kept and decoding.samples.nbytes <= self._budget:
                self._kept[key] = decoding
                self._budget -= decoding.samples.nbytes


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
                yield _result(*queue.popleft())
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


def _result(clip: Clip, future: Future[Recording]) -> DecodedClip | Refusal:
    try:
        return DecodedClip(clip, future.result())
    except AsdError as error:
        return Refusal(clip, str(error))
