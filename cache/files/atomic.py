"""Whole files or none: every artefact reaches its final name in one step."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from cache.base.errors import REMEDIES, AsdError
from cache.files import objects, places

_STALE_SECONDS = 86_400.0  # a temporary file of another computer is taken for dead after a day
_NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.EROFS}
_OURS = re.compile(r"\..+\.(?P<host>[0-9a-f]{8})-(?P<process>\d+)\.[0-9a-f]{8}\.tmp")
_SCRATCH = re.compile(r"asd-(?P<host>[0-9a-f]{8})-(?P<process>\d+)-\w+")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what was written there takes its name at the end.

    What killed runs left in that folder is removed the first time that a process writes there.

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
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _tidy(path.parent.absolute())
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "nothing was changed under that name")
        raise AsdError(f"cannot write {path}: {error.strerror or error}; {remedy}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """Give a new name beside `path`, by which a killed run's file is known, see `leftovers`."""
    return path.parent / f".{path.name}.{_writer()}.{secrets.token_hex(4)}.tmp"


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
        Of an object: the version it may replace, see `cache.files.objects.put`. On this machine a lock
        keeps others away meanwhile.

    Raises
    ------
    AsdError
        If the file system refuses, with the reason and the remedy.
    cache.files.objects.WriteConflict
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
        remedy = REMEDIES.get(error.errno or 0, "it is still there")
        raise AsdError(f"cannot move {path}: {error.strerror or error}; {remedy}") from error


def leftovers(root: Path) -> list[Path]:
    """Temporary files below `root` whose writer is gone: what a killed run left.

    Parameters
    ----------
    root
        Any folder; one that does not exist has none. In object storage, where a write needs no
        temporary file, only what lies in the folder itself is looked at.
    """
    found = places.matching(root, ".*.tmp") if places.is_remote(root) else root.rglob(".*.tmp")
    return sorted(path for path in found if is_left(path))


def is_left(path: Path) -> bool:
    """Whether a temporary file's writer is gone; of another computer's file its age tells."""
    return _is_orphan(path) or (not places.is_remote(path) and _is_stale(path))


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a temporary folder, removed at the end; those that killed runs left are removed first.

    Yields
    ------
    Path
        A new folder in the system's folder for temporary files.
    """
    for left in Path(gettempdir()).glob("asd-*"):
        if _is_orphan(left, _SCRATCH):
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=f"asd-{_writer()}-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@cache
def _tidy(folder: Path) -> None:
    """Remove what killed runs of this computer left; once a process, a folder may be long."""
    with suppress(OSError):
        for path in [each for each in folder.glob(".*.tmp") if _is_orphan(each)]:
            path.unlink(missing_ok=True)


def _writer() -> str:
    return f"{_host()}-{os.getpid()}"


@cache
def _host() -> str:
    """Where a process's number means this process: the computer and, on Linux, its container."""
    try:
        space = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        space = ""
    return f"{zlib.crc32(f'{platform.node()} {space}'.encode()):08x}"


def _is_orphan(path: Path, pattern: re.Pattern[str] = _OURS) -> bool:
    """Whether its name says that a process of this computer wrote it which is no more."""
    match = pattern.fullmatch(path.name)
    return match is not None and match["host"] == _host() and not _is_alive(int(match["process"]))


def _is_stale(path: Path) -> bool:
    """Whether it is of another computer, and old."""
    match = _OURS.fullmatch(path.name)
    if match is None or match["host"] == _host():
        return False
    with suppress(OSError):  # gone meanwhile: its writer is alive
        return time.time() - path.stat().st_mtime > _STALE_SECONDS
    return False


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk, where its file system can tell."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:
        if path.is_dir():
            return  # may be written to, not listed
        raise
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems and FUSE have no fsync, more of them none of a folder.
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)


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
