"""Bytes on disk: how many they are in words, and whether there is room for them."""

from __future__ import annotations

import shutil
from pathlib import Path

from cache.base.errors import AsdError

_RESERVE = 50_000_000  # bytes that are left for everything else


def megabytes(size: int) -> str:
    """Write a number of bytes in units of 10^6."""
    return f"{size / 1e6:.1f} MB" if size < 99.95e6 else f"{size / 1e6:,.0f} MB"


def free_space(folder: Path) -> int:
    """Bytes free where a folder is, or will be once it is made."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def require_room(folder: Path, size: int, what: str) -> None:
    """See that there is room before anything is written.

    Parameters
    ----------
    folder
        Where it goes.
    size
        Bytes to come.
    what
        What needs them, for the message.

    Raises
    ------
    AsdError
        If they do not fit, and 50 MB beside them.
    """
    free = free_space(folder)
    if size + _RESERVE > free:
        raise AsdError(
            f"{what} needs {megabytes(size)}, and {folder} has {megabytes(free)} free (50 MB of it "
            "are left alone): free space, or choose another folder"
        )
