"""Data roots to a list of clips; whatever does not fit is named.

How recordings may lie is known to the files beside this one, one a concern: the task's names, its
attribute files, a machine's folders, manifests.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path

from cache.base.errors import AsdError
from extractors.clips.attributes import parse_tail
from extractors.clips.clip import AUDIO_SUFFIXES, Clip, Fault, Listing, joined
from extractors.clips.machine import SUPPLEMENTS, parse_name
from extractors.clips.names import Name
from extractors.clips.roots import read_root

__all__ = [
    "AUDIO_SUFFIXES",
    "SUPPLEMENTS",
    "Clip",
    "Fault",
    "Listing",
    "Name",
    "list_clips",
    "parse_name",
    "parse_tail",
]


def list_clips(roots: Sequence[Path], supplements: Collection[str] = ()) -> Listing:
    """List the clips of data roots.

    Parameters
    ----------
    roots
        One or several: folders of machines as the task of 2020 to 2026 lays them out, e.g.
        ``dev_data`` and ``eval_data``; folders of one's own machines; a machine's own folder;
        manifests.
    supplements
        Which supplemental clips (2025) to take as normal training clips: of `SUPPLEMENTS`.

    Returns
    -------
    Listing
        Clips by id, the files left out and how the folders were read.

    Raises
    ------
    AsdError
        If a root is missing or holds no clip, or two clips have one id.
    """
    found = joined([read_root(root, supplements) for root in roots])
    clips = sorted(found.clips, key=lambda clip: clip.clip_id)
    for before, clip in pairwise(clips):
        if before.clip_id == clip.clip_id:
            raise AsdError(
                f"two clips with one id {clip.clip_id!r}: {before.path} and {clip.path}; take one data "
                "root at a time, each with a cache folder of its own (--cache-dir)"
            )
    return Listing(tuple(clips), found.faults, found.notes)
