"""The recordings behind clips: found by id or by name, played and seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from cache.base.text import composed
from cache.heard import PLAIN, Signal
from cache.table import Section
from cache.windows import split_id
from extractors.audio.hearing import Hearing
from extractors.clips.listing import SUPPLEMENTS, Clip, list_clips


class Recordings:
    """Clips of data roots, where there are any.

    Parameters
    ----------
    roots
        Data roots; none, and nothing can be heard.
    signal
        How files of numbers were read.
    """

    def __init__(self, roots: Sequence[Path], signal: Signal = PLAIN) -> None:
        clips = Hearing(signal=signal).cut(list_clips(roots, SUPPLEMENTS)).clips if roots else ()
        self._by_id = {clip.clip_id: clip for clip in clips}
        # Another system's files name test clips without their folder.
        self._by_name = {
            (clip.section, composed(PurePosixPath(clip.clip_id).stem)): clip
            for clip in clips
            if clip.split == "test"
        }

    def by_id(self, clip_id: str) -> Clip | None:
        """Find a clip by its path below the data root; a window of one, too."""
        file_id, span = split_id(clip_id)
        clip = self._by_id.get(file_id)
        return clip if clip is None or span is None else replace(clip, clip_id=clip_id, span=span)

    def by_name(self, section: Section, name: str) -> Clip | None:
        """Find a test clip by its base name, with or without suffix."""
        stem = composed(PurePosixPath(name).name)
        known = self._by_name.get((section, stem))
        return known or self._by_name.get((section, PurePosixPath(stem).stem))
