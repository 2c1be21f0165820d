"""Files told apart by what is in them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cache.base.errors import AsdError


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file; see `file_hash`."""
    return file_hash(path, "sha256")


def file_hash(path: Path, algorithm: str) -> str:
    """Hexadecimal hash of a file.

    Raises
    ------
    AsdError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise AsdError(f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def unchanged(name: str, files: Callable[[], Sequence[Path]]) -> Iterator[None]:
    """See that what is read inside stays what it was: no file is changed or replaced meanwhile.

    Parameters
    ----------
    name
        For the message.
    files
        Lists them; one that is not there counts as such.

    Raises
    ------
    AsdError
        If one is.
    """
    before = _states(files())
    yield
    if _states(files()) != before:
        raise AsdError(f"{name} changed while it was read: run the same command again once it stays as it is")


def _states(files: Sequence[Path]) -> list[tuple[Path, tuple[int, ...]]]:
    there = [(path, path.stat()) for path in files if path.exists()]
    return [(p, (s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)) for p, s in there]
