"""One writer at a time in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from cache.errors import REMEDIES, AsdError
from cache.places import is_remote


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other writers out of a folder; readers need no lock.

    Object storage has no locks: there, nothing is kept out.

    The lock is the operating system's and ends with the process, however it ends.

    Parameters
    ----------
    folder
        Made where it does not exist; an empty file ``.lock`` stays in it.

    Raises
    ------
    AsdError
        If the file system refuses, with the reason and the remedy.
    """
    if is_remote(folder):
        yield
        return
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "write to another folder")
        raise AsdError(f"cannot write below {folder}: {error.strerror}; {remedy}") from error
    try:
        yield
    finally:
        lock.release()
