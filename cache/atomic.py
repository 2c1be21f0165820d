"""Whole files or none: every artefact reaches its final name in one step."""

from __future__ import annotations

import errno
import os
import platform
import secrets
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cache import objects, places
from cache.errors import AsdError

_STALE_SECONDS = 86_400.0  # a temporary file of another computer is taken for dead after a day
_REMEDIES = {
    errno.ENOSPC: "the disk is full: free space or write to another folder",
    errno.EDQUOT: "the disk quota is used up: free space or write to another folder",
    errno.EROFS: "the file system is read-only: write to another folder",
    errno.EACCES: "no permission to write there: write to another folder",
    errno.EPERM: "no permission to write there: write to another folder",
}


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what was written there takes its name at the end.

    Parameters
    ----------
    path
        The final name; its folder is made.

    Yields
    ------
    Path
        Where to write. After an exception it is removed and `path` is as it was.

    Raises
    ------
    AsdError
        If the file system refuses, with the reason and the remedy.
    """
    temporary = path.parent / f".{path.name}.{_writer()}.{secrets.token_hex(4)}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "nothing was changed under that name")
        raise AsdError(f"cannot write {path}: {error.strerror or error}; {remedy}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes, over: str | None = None) -> None:
    """Write `data` to `path`, whole or not at all.

    Parameters
    ----------
    path
        The final name; its folder is made. May be in object storage, where a write is whole by
        itself.
    data
        The file's bytes.
    over
        Of an object: the version it may replace, see `cache.objects.put`. On this machine a lock
        keeps others away meanwhile.

    Raises
    ------
    AsdError
        If the file system refuses, with the reason and the remedy.
    cache.objects.Overtaken
        If an object is no longer of that version.
    """
    if places.is_remote(path):
        objects.put(path, data, over)
        return
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def move(path: Path, target: Path) -> None:
    """Rename a file in one step; the folder of its new name is made.

    An object is copied, then deleted: killed between the two, it is in both places.

    Raises
    ------
    AsdError
        If the file system refuses, with the reason and the remedy.
    """
    if places.is_remote(path):
        objects.put(target, objects.fetch(path))
        objects.remove(path)
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        _sync(target.parent)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "it is still there")
        raise AsdError(f"cannot move {path}: {error.strerror or error}; {remedy}") from error


def leftovers(root: Path) -> list[Path]:
    """Temporary files below `root` whose writer is gone: what a killed run left.

    Parameters
    ----------
    root
        Any folder; one that does not exist has none, and a place in object storage never has.
    """
    if places.is_remote(root):
        return []
    return sorted(path for path in root.rglob(".*.tmp") if _is_stale(path))


def _writer() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}-{os.getpid()}"


def _is_stale(path: Path) -> bool:
    host, _, process = path.name.split(".")[-3].partition("-")
    if host == _writer().partition("-")[0] and process.isdigit():
        return not _is_alive(int(process))
    return time.time() - path.stat().st_mtime > _STALE_SECONDS


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
