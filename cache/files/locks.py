"""One writer at a time in a folder."""

from __future__ import annotations

import errno
import logging
import math
import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from cache.base.errors import REMEDIES, AsdError
from cache.files.places import is_remote

WAIT = "ASD_LOCK_WAIT"  # environment variable: seconds after which waiting for a lock is given up

_LOG = logging.getLogger(__name__)
_TOLD_AFTER = 3.0  # seconds of waiting before it is said who is waited for
_TRIES = 10  # a folder may be removed each time between making it and locking it
# What file systems say that have no locks.
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
_HOLDER = re.compile(r"(?P<process>\d{1,9})\n(?P<host>[\w.-]{1,255})\b")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other writers out of a folder; readers need no lock.

    Object storage has no locks: there, nothing is kept out.

    The lock is the operating system's and ends with the process, however it ends. On a file system
    without locks it is the file ``.softlock``, which a killed process leaves; on the same computer
    the next one removes it.

    After a few seconds of waiting it is logged who is waited for. ``ASD_LOCK_WAIT`` sets after how
    many seconds waiting ends in an error; it has no end otherwise.

    Parameters
    ----------
    folder
        Made where it does not exist; a file ``.lock`` stays in it, empty when nobody holds it.

    Raises
    ------
    AsdError
        If the file system refuses, or another process holds the lock for too long, with the
        remedy.
    """
    if is_remote(folder):
        yield
        return
    lock = _acquired(folder, _patience())
    path = Path(lock.lock_file)
    if not isinstance(lock, SoftFileLock):  # which tells it by itself, in the same form
        with suppress(OSError):
            path.write_text(f"{os.getpid()}\n{platform.node()}\n", "utf-8")
    try:
        yield
    finally:
        if not isinstance(lock, SoftFileLock):
            with suppress(OSError):
                os.truncate(path, 0)
        lock.release()


def holder(path: Path) -> str:
    """Tell what a lock's file says of the process that holds it.

    Returns
    -------
    str
        Its number, computer and since when, and whether it is stopped, as far as is known.
    """
    try:
        found = _HOLDER.match(path.read_text("utf-8", errors="replace"))
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(path.stat().st_mtime))
    except OSError:
        found = None
    if found is None:
        return "another process"
    process, host = found["process"], found["host"]
    return f"process {process} on {host}{_stopped(process, host)}, since {since}"


def _stopped(process: str, host: str) -> str:
    """Say so of a process of this computer that is stopped, as Ctrl-Z does it."""
    if host != platform.node():
        return ""
    try:
        told = Path(f"/proc/{process}/stat").read_text("utf-8", errors="replace")
    except OSError:
        return ""
    state = told.rpartition(")")[2].split()[:1]
    return f", which is stopped (`kill -CONT {process}` lets it go on)" if state == ["T"] else ""


def _patience() -> float:
    text = os.environ.get(WAIT, "")
    try:
        seconds = float(text or "inf")
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise AsdError(f"{WAIT}={text}: expected seconds from 0")
    return seconds


def _acquired(folder: Path, patience: float) -> BaseFileLock:
    """Wait for a folder's lock; of the kind that its file system has."""
    lock: BaseFileLock = FileLock(folder / ".lock", fallback_to_soft=False)
    for _ in range(_TRIES):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _wait(lock, patience)
        except FileNotFoundError:
            continue  # another process has removed the folder
        except OSError as error:
            if error.errno in _NO_LOCKS and not isinstance(lock, SoftFileLock):
                _LOG.info("%s: no locks there (%s); a file serves", folder, error.strerror)
                lock = SoftFileLock(folder / ".softlock")
                continue
            remedy = REMEDIES.get(error.errno or 0, "write to another folder")
            raise AsdError(f"cannot write below {folder}: {error.strerror}; {remedy}") from error
        return lock
    raise AsdError(f"cannot write below {folder}: it is removed again and again; see who does it")


def _wait(lock: BaseFileLock, patience: float) -> None:
    path = Path(lock.lock_file)
    with suppress(Timeout):
        lock.acquire(timeout=min(_TOLD_AFTER, patience))
        return
    rest = patience - _TOLD_AFTER
    if rest > 0:
        _LOG.warning(
            "waiting for %s, who has locked %s; set %s to the seconds after which to give up",
            *(holder(path), path.parent, WAIT),
        )
        with suppress(Timeout):
            lock.acquire(timeout=-1 if math.isinf(rest) else rest)
            return
    remedy = "let it end, or end it"
    if isinstance(lock, SoftFileLock):
        remedy += f" (should it be gone, delete {path})"
    raise AsdError(
        f"{path.parent} is locked by {holder(path)}: waited {patience:g} s ({WAIT}); {remedy}, "
        "then run the same command again"
    )
