"""Downloads of files: whole, checked and under their name, or not there at all."""

from __future__ import annotations

import errno
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from cache.base.errors import AsdError
from cache.base.text import parse_json
from cache.files.atomic import atomic_path, file_hash, write_atomic
from extractors.fetching.http import PartialFile, SourceError, Transfer

_LOG = logging.getLogger(__name__)

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Remote:
    """A file that lies elsewhere.

    Attributes
    ----------
    name
        Under which it is to lie here.
    urls
        Addresses of the same bytes, tried in order.
    known_hash
        ``ALGORITHM:HEX`` of those bytes, any algorithm of hashlib; ``None`` where it is not known.
    size
        Bytes; ``None`` where it is not known.
    """

    name: str
    urls: tuple[str, ...]
    known_hash: str | None = None
    size: int | None = None


def download(remote: Remote, folder: Path, halt: Event | None = None) -> str:
    """Bring a file into a folder; what a cut or killed download left is continued.

    It takes its name in one step, after its hash was checked. Of several processes that want the
    same file one brings it and the others wait.

    Parameters
    ----------
    remote
        What to bring. Where a file of that name is in the folder already, nothing is done.
    folder
        Where to; it is made.
    halt
        Set by another thread to stop.

    Returns
    -------
    str
        The address that gave it; empty where it was there.

    Raises
    ------
    AsdError
        If no address gives the right bytes (each is named with the reason), or they cannot be
        written.
    """
    final = folder / remote.name
    part = PartialFile(folder / f".{remote.name}.part", checked=remote.known_hash is not None)
    try:
        with alone(folder, remote.name):
            if final.exists():
                return ""
            room = partial(require_room, folder, what=remote.name)
            transfer = Transfer(part, remote.name, remote.size, room, halt)
            return _from_any(remote, transfer, final)
    except OSError as error:
        kept = ""
        if error.errno in _FULL and part.size():
            kept = f" ({part.size():,} bytes are kept for the next try in {part.path})"
        raise AsdError(
            f"cannot write {final}: {error.strerror or error}{kept}; free space, or choose another folder"
        ) from error


def matches(path: Path, known_hash: str) -> bool:
    """Tell whether a file has a hash, given as ``ALGORITHM:HEX``."""
    algorithm, _, expected = known_hash.partition(":")
    return file_hash(path, algorithm) == expected.lower()


def record_of(path: Path) -> Path:
    """Path of the record of a first download: its hash and size."""
    return path.with_name(f"{path.name}.json")


def read_record(path: Path, remedy: str = "delete it") -> dict[str, Any]:
    """Read an object in JSON; empty where there is no such file.

    Raises
    ------
    AsdError
        If it is damaged, with the remedy.
    """
    try:
        return dict(parse_json(path.read_text("utf-8"))) if path.is_file() else {}
    except (OSError, ValueError, TypeError) as error:
        raise AsdError(f"{path} is damaged ({error}); {remedy}") from error


def write_record(path: Path, facts: Mapping[str, object]) -> None:
    """Write what `read_record` reads."""
    write_atomic(path, (json.dumps(facts, indent=1) + "\n").encode())


@contextmanager
def alone(folder: Path, name: str, *, quietly: bool = False) -> Iterator[None]:
    """Let one process at a time do something under a name; the lock of one that dies is released.

    Parameters
    ----------
    folder
        Where the lock file lies; it is made.
    name
        What it is about.
    quietly
        Say nothing of waiting: it is short.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 (for fetching only)

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f".{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not quietly:
            _LOG.info("%s: another process is at it; waiting", name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _from_any(remote: Remote, transfer: Transfer, final: Path) -> str:
    faults = []
    for url in remote.urls:
        try:
            _from(url, remote, transfer)
        except SourceError as error:
            faults.append(str(error))
            continue
        with atomic_path(final) as temporary:
            transfer.part.path.replace(temporary)
        transfer.part.drop()
        return url
    told = "".join(f"\n  {fault}" for fault in faults)
    raise AsdError(
        f"{remote.name} could not be fetched:{told}\ntry again later (what has come is kept and "
        f"continued), or bring the file from elsewhere to {final}"
    )


def _from(url: str, remote: Remote, transfer: Transfer) -> None:
    """Download the rest and check it; again from the start where an older beginning was wrong."""
    part = transfer.part
    continued = transfer.run(url)
    if remote.known_hash is None or matches(part.path, remote.known_hash):
        return
    algorithm, _, expected = remote.known_hash.partition(":")
    seen = file_hash(part.path, algorithm)
    part.drop()
    if continued:
        _from(url, remote, transfer)
        return
    raise SourceError(f"{url}: its {algorithm} is {seen} where {expected} is expected")


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
