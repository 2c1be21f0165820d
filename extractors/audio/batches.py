"""Decoded clips in batches of equal length, decoded ahead of the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from cache.base.errors import AsdError
from cache.heard import AVERAGE
from extractors.audio.decode import Recording
from extractors.audio.recordings import Recordings
from extractors.clips.listing import Clip

_WAITING_BATCHES = 4  # batches' worth of clips that may wait for others of their length


@dataclass(frozen=True)
class Decoded:
    """A clip and its waveform."""

    clip: Clip
    recording: Recording


@dataclass(frozen=True)
class Refused:
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
    ) -> Iterator[Decoded | Refused]:
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


def equal_lengths(items: Iterable[Decoded], size: int) -> Iterator[list[Decoded]]:
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
    groups: dict[int, list[Decoded]] = {}
    for item in items:
        length = item.recording.samples.shape[-1]
        groups.setdefault(length, []).append(item)
        if len(groups[length]) == size:
            yield groups.pop(length)
        elif sum(map(len, groups.values())) >= _WAITING_BATCHES * size:
            yield groups.pop(max(groups, key=lambda samples: len(groups[samples])))
    yield from groups.values()


def _result(clip: Clip, future: Future[Recording]) -> Decoded | Refused:
    try:
        return Decoded(clip, future.result())
    except AsdError as error:
        return Refused(clip, str(error))
