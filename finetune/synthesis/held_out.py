"""Clips by domain, in random order, and those that are held out of training."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from cache.base.errors import AsdError
from cache.table import DOMAINS
from extractors.audio.files import content_sha256
from extractors.clips.listing import Clip

Members = Sequence[Clip]


def hold_out(clips: Members, share: float, seed: int) -> list[Clip]:
    """Choose the clips of a section that test a proxy.

    Parameters
    ----------
    clips
        Training clips of one section.
    share
        Of each domain's clips, between 0 and 1: at least one clip, and never all.
    seed
        Of the choice.

    Returns
    -------
    list of Clip
        In the order given. Copies of one recording, by content, are all there or none is.

    Raises
    ------
    AsdError
        If there are too few clips, or one cannot be read.
    """
    section = clips[0].section
    # The last number is none of a turn's: its order of clips would be this one's.
    rng = np.random.default_rng((seed, zlib.crc32(str(section).encode()), 2**31))
    contents = {clip.clip_id: _content(clip) for clip in clips}
    chosen = set()
    for _, members in sorted(by_domain(clips).items()):
        count = min(max(1, round(share * len(members))), len(members) - 1)
        chosen |= {contents[clip.clip_id] for clip in shuffled(members, rng)[:count]}
    tested = [clip for clip in clips if contents[clip.clip_id] in chosen]
    if not tested or len(tested) == len(clips):
        raise AsdError(f"{len(clips)} training clips are too few to hold some out")
    return tested


def _content(clip: Clip) -> str:
    try:
        return content_sha256(clip.path)
    except AsdError as error:
        raise AsdError(f"{clip.path} {error}") from error


def by_domain(clips: Members) -> dict[str, list[Clip]]:
    """Domain to its clips, only domains that have some."""
    found = {name: [clip for clip in clips if domain_of(clip) == name] for name in DOMAINS}
    return {name: members for name, members in found.items() if members}


def domain_of(clip: Clip) -> str:
    """Give a clip's domain; unknown counts as source, as the scorers have it."""
    return clip.domain or "source"


def shuffled(clips: Members, rng: Generator) -> list[Clip]:
    """Give the clips in a random order."""
    return [clips[row] for row in rng.permutation(len(clips))]
