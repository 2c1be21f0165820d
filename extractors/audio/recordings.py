"""Decoded clips, kept while they fit, so that several backbones share one decoding."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from cache.heard import AVERAGE, PLAIN, Signal
from cache.windows import Span
from extractors.audio.decode import Decoding, Recording, decode_file, resampled
from extractors.audio.files import LONGEST

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
