"""Ids of windows: a long file is cut, and each piece is a clip of its own.

``pump/new/monday.wav#t=10-20`` is what that file holds from 10 s to 20 s.
"""

from __future__ import annotations

import re

Span = tuple[float, float]  # start and end in a file, s

_ID = re.compile(r"(?P<file>.+)#t=(?P<start>[0-9]+(?:\.[0-9]+)?)-(?P<stop>[0-9]+(?:\.[0-9]+)?)", re.DOTALL)


def window_id(file_id: str, span: Span) -> str:
    """Name a window of a file; times to the millisecond."""
    start, stop = (f"{second:.3f}".rstrip("0").rstrip(".") for second in span)
    return f"{file_id}#t={start}-{stop}"


def split_id(clip_id: str) -> tuple[str, Span | None]:
    """Tell a clip's file and which span of it the clip is; ``None`` for a whole file."""
    match = _ID.fullmatch(clip_id)
    if match is None:
        return clip_id, None
    return match["file"], (float(match["start"]), float(match["stop"]))
