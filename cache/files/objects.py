"""Bytes in object storage: read whole or in ranges, and published whole without a rename."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from cache.base.errors import AsdError

_T = TypeVar("_T")
# How a store is told to replace one version of an object and no other: the option of `pipe_file`.
# S3 has conditional writes since November 2024.
_REPLACING = {"s3": "IfMatch", "s3a": "IfMatch"}
_AT_ONCE = 2**24  # bytes of an object that are copied at once: of less, the waiting for each tells


class Unreachable(AsdError):  # noqa: N818 - a state of the store, as the message says
    """A store does not answer or refuses; says nothing of the object's contents."""


class WriteConflict(Exception):  # noqa: N818 - no error: the caller reads again and goes on
    """Another process has written the object since it was read."""


@contextmanager
def reaching(path: Path) -> Iterator[None]:
    """Say of whatever a store's client raises what could not be reached.

    Raises
    ------
    FileNotFoundError
        As it was: what is not there is no failure of the store.
    Unreachable
        For every other failure.
    """
    try:
        yield
    except (FileNotFoundError, AsdError, WriteConflict):
        raise
    except Exception as error:  # each client has a family of exceptions of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Unreachable(
            f"{path}: the store does not answer as it should ({reason}); see to the network, the "
            "credentials and the address, and run the same command again"
        ) from error


def information(path: Path) -> dict[str, Any] | None:
    """Give what a store tells of an object without its contents; ``None`` where there is none."""
    with reaching(path):
        try:
            return dict(_system(path).info(_key(path)))
        except FileNotFoundError:
            return None


def fetch(path: Path) -> bytes:
    """Read an object whole.

    Raises
    ------
    FileNotFoundError
        If there is none.
    Unreachable
        If the store fails; its client has tried several times by then.
    """
    with reaching(path):
        return bytes(_system(path).cat_file(_key(path)))


def put(path: Path, data: bytes, over: str | None = None) -> None:
    """Publish an object: readers see the one before or this one, whole.

    Parameters
    ----------
    path
        Its URL.
    data
        All of it.
    over
        The version that it may replace, see `version`; empty where there must be none; ``None`` to
        replace whatever is there.

    Raises
    ------
    WriteConflict
        If another version is there; found out by stores that can (S3).
    Unreachable
        If the store refuses.
    """
    with reaching(path):
        try:
            _system(path).pipe_file(_key(path), data, **_condition(path, over))
        except FileNotFoundError as error:
            raise Unreachable(f"{path}: no such bucket; make it first") from error
        except FileExistsError as error:
            raise WriteConflict(str(path)) from error
        except OSError as error:
            if over and version(path) != over:
                raise WriteConflict(str(path)) from error
            raise


def version(path: Path) -> str:
    """Tell one state of an object from another; empty where there is none."""
    return _version(information(path))


def _version(told: dict[str, Any] | None) -> str:
    if told is None:
        return ""
    return str(told.get("ETag") or f"{told.get('created', told.get('mtime'))}-{told['size']}")


def in_ranges(path: Path, read: Callable[[Ranges], _T]) -> _T:
    """Read an object in ranges, all of one version: again where another was written meanwhile.

    Parameters
    ----------
    path
        Its URL.
    read
        Takes the object as a file; may be called again.

    Raises
    ------
    FileNotFoundError
        If there is none.
    Unreachable
        If the store fails.
    """
    while True:
        with Ranges(path) as source:
            try:
                found = read(source)
                if source.reads < 2 or source.is_current():
                    return found
            except Exception:  # of whatever ranges of two versions make
                if source.is_current():
                    raise


def copy(path: Path, target: Path) -> None:
    """Copy an object to a file of this machine, a part at a time; see `in_ranges`.

    Raises
    ------
    OSError
        If the file cannot be written.
    """

    def read(source: Ranges) -> None:
        with target.open("wb") as file:
            while part := source.read(_AT_ONCE):
                file.write(part)

    in_ranges(path, read)


def remove(path: Path, *, recursive: bool = False) -> None:
    """Delete an object, or all below a prefix; none there is no failure."""
    with reaching(path):
        try:
            _system(path).rm(_key(path), recursive=recursive)
        except FileNotFoundError:
            return


class Ranges(io.RawIOBase):
    """An object as a file of which only the ranges asked for are read.

    Parameters
    ----------
    path
        Its URL.

    Attributes
    ----------
    reads
        How many ranges were read.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """

    def __init__(self, path: Path) -> None:
        told = information(path)
        if told is None:
            raise FileNotFoundError(str(path))
        self._path, self._size, self._at = path, int(told["size"]), 0
        self._version, self.reads = _version(told), 0

    def is_current(self) -> bool:
        """Whether no other version was written since: else ranges may be of both."""
        return version(self._path) == self._version

    def size(self) -> int:
        """Bytes of the object."""
        return self._size

    def readable(self) -> bool:  # noqa: D102 - of io.RawIOBase
        return True

    def seekable(self) -> bool:  # noqa: D102
        return True

    def tell(self) -> int:  # noqa: D102
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:  # noqa: D102
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:  # noqa: D102
        wanted = self._size - self._at if size is None or size < 0 else size
        start, stop = self._at, min(self._at + wanted, self._size)
        if stop <= start:
            return b""
        self.reads += 1
        with reaching(self._path):
            data = bytes(_system(self._path).cat_file(_key(self._path), start=start, end=stop))
        self._at += len(data)
        return data


def _condition(path: Path, over: str | None) -> dict[str, str]:
    if over is None:
        return {}
    if not over:
        return {"mode": "create"}
    option = _REPLACING.get(str(path).partition("://")[0])
    return {option: over} if option else {}


# Paths of `cache.files.places.place` have these beside what pathlib knows.
def _system(path: Path) -> Any:
    return path.fs  # type: ignore[attr-defined]


def _key(path: Path) -> str:
    return str(path.path)  # type: ignore[attr-defined]
