"""Test clips that no microphone recorded: told from recordings, never mixed with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from cache.base.errors import AsdError
from cache.table import SYNTHETIC, Section
from extractors.clips.listing import parse_name, parse_tail

PROXY = "proxy: synthetic anomalies"  # what stands wherever a figure is of made-up anomalies


def all_synthetic(section: Section, flags: Sequence[bool]) -> bool:
    """Whether a section's test clips are made, not recorded.

    Parameters
    ----------
    section
        Whose.
    flags
        One a test clip, at least one.

    Raises
    ------
    AsdError
        If some are and some are not: no figure over both says anything of the recordings.
    """
    if any(flags) and not all(flags):
        raise AsdError(
            f"{section}: {sum(flags)} of {len(flags)} test clips are synthetic; made-up anomalies "
            "and recordings are not evaluated together: keep the proxy in a data root and a cache "
            "folder of its own"
        )
    return bool(flags) and flags[0]


def is_named_synthetic(name: str) -> bool:
    """Whether a test clip's name, with its suffix, tells that it is made."""
    if SYNTHETIC not in name:  # spares thousands of clips the parsing
        return False
    try:
        return SYNTHETIC in parse_tail(parse_name(PurePosixPath(name).stem, "test").tail)
    except AsdError:
        return False
