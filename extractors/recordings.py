"""Decoded clips, kept while they fit, so that several backbones share one decoding."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from extractors.audio import Decoding, Recording, decode_file, resampled


class Recordings:
    """A reader of audio files that remembers what it read.

    Parameters
    ----------
    budget
        Bytes of waveforms kept at most; 0 keeps none. What does not fit is read again.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._kept: dict[Path, Decoding] = {}
        self._lock = Lock()

    def read(self, path: Path, sample_rate: int) -> Recording:
        """Read a file as `extractors.audio.read_audio` does; safe to call from several threads."""
        decoding = self._kept.get(path)
        if decoding is None:
            decoding = decode_file(path)
            self._keep(path, decoding)
        return resampled(decoding, sample_rate)

    def forget(self) -> None:
        """Drop everything kept."""
        with self._lock:
            self._budget += sum(each.samples.nbytes for each in self._kept.values())
            self._kept.clear()

    def _keep(self, path: Path, decoding: Decoding) -> None:
        with self._lock:
            if path not in self._kept and decoding.samples.nbytes <= self._budget:
                self._kept[path] = decoding
                self._budget -= decoding.samples.nbytes
