"""Where files lie: folders of this machine, or object storage named by a URL.

A URL of any store that fsspec knows (``s3://``, ``gs://`` ...) becomes an object that behaves as a
`pathlib.Path`, so all else takes either. What pathlib cannot say of both is here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from cache.base.errors import AsdError
from cache.files import objects

if TYPE_CHECKING:
    from upath import UPath

OFFLINE = "ASD_OFFLINE"  # the environment variable that forbids asking any address
_NO = ("", "0", "false", "no", "off")
_HERE = ("file", "local", "memory")  # protocols that ask nobody
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}  # protocol to extra of ours


def place(text: str) -> Path:
    """Read a folder or file of this machine, or a URL of object storage, from a command line.

    Returns
    -------
    Path
        For a URL, an object with the methods of one.

    Raises
    ------
    AsdError
        If nothing here speaks the URL's protocol.
    """
    return Path(text) if "://" not in text else _remote(text, use_listings_cache=False)


def here(text: str) -> Path:
    """Read a folder or file of this machine from a command line.

    Raises
    ------
    AsdError
        If it is a URL.
    """
    if "://" in text:
        raise AsdError(f"{text}: expected a path of this machine, not a URL")
    return Path(text)


def is_offline() -> bool:
    """Tell whether asking any address is forbidden, by ``--offline`` or by the environment."""
    return os.environ.get(OFFLINE, "").lower() not in _NO


def check_reachable(path: Path) -> None:
    """Refuse a place that would have to be asked over a network where that is forbidden.

    Raises
    ------
    AsdError
        If it is one.
    """
    if is_remote(path):
        _check_protocol(str(path))


def check_same_store(text: str, path: Path) -> None:
    """Refuse a URL that reaches another store than the one that a file lies in.

    Whoever wrote a table does not thereby choose which servers are asked.

    Raises
    ------
    AsdError
        If it does, or brings a user or a password of its own.
    """
    wanted, own = urlsplit(text), urlsplit(str(path))
    store = own.netloc.rpartition("@")[2]
    if not is_remote(path) or (wanted.scheme, wanted.netloc) != (own.scheme, store):
        where = f"{own.scheme}://{store}" if is_remote(path) else "this machine"
        raise AsdError(
            f"{text!r} is not on {where} as {path.name} is; put the table beside its recordings, "
            "with their paths relative to it, and name it there"
        )


def is_remote(path: Path) -> bool:
    """Whether a path is in object storage."""
    return not isinstance(path, Path)


def exists(path: Path) -> bool:
    """Whether a file is there.

    Raises
    ------
    objects.Unreachable
        If a store does not answer.
    """
    return objects.information(path) is not None if is_remote(path) else path.exists()


def version(path: Path) -> str:
    """Tell one state of a file from another without reading it; empty where there is none."""
    if is_remote(path):
        return objects.version(path)
    try:
        told = path.stat()
    except FileNotFoundError:
        return ""
    return f"{told.st_mtime_ns}-{told.st_size}"


def read_bytes(path: Path) -> bytes:
    """Read a file whole.

    Raises
    ------
    OSError
        If a file of this machine cannot be read, or there is none.
    objects.Unreachable
        If a store does not answer.
    """
    return objects.fetch(path) if is_remote(path) else path.read_bytes()


def matching(root: Path, pattern: str) -> Iterator[Path]:
    """Find files below a root by a pattern of folders and a name, e.g. ``*/section_*/*.parquet``.

    A store is asked for all names below the pattern's fixed part, a thousand a call, and for
    nothing a file.
    """
    if not is_remote(root):
        yield from root.glob(pattern)
        return
    parts = pattern.split("/")
    fixed = next(i for i, part in enumerate(parts) if "*" in part or "[" in part)
    top = root.joinpath(*parts[:fixed])
    for path in _below(top):
        names = path.relative_to(top).parts
        if len(names) == len(parts) - fixed and all(map(fnmatchcase, names, parts[fixed:])):
            yield path


def remove(path: Path) -> None:
    """Delete a file, or a folder with all below; none there is no failure."""
    if is_remote(path):
        objects.remove(path)
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_tree(folder: Path) -> None:
    """Delete all below a folder."""
    if is_remote(folder):
        objects.remove(folder, recursive=True)
    else:
        shutil.rmtree(folder)


def real(path: Path) -> str:
    """Name a folder the same by whatever link it was reached."""
    return str(path) if is_remote(path) else os.path.realpath(path)


def listed(root: Path) -> Path:
    """Read all names below a root at once, a thousand a call.

    Returns
    -------
    Path
        The same place; what it and the paths below it tell of folders, files and sizes is what
        was there now. Unchanged where it is on this machine, which needs no such thing.

    Raises
    ------
    objects.Unreachable
        If a store does not answer.
    """
    if not is_remote(root):
        return root
    path = _remote(str(root), use_listings_cache=True)
    with objects.reaching(root):
        cast("UPath", path).fs.invalidate_cache()
        for _ in _below(path):
            break
    return path


def with_siblings(path: Path) -> Path:
    """Read the names of a file's folder at once; for many files of it the store is asked once.

    Returns
    -------
    Path
        The same place, as of `listed`; unchanged where it is on this machine.
    """
    if not is_remote(path):
        return path
    known = _remote(str(path), use_listings_cache=True)
    with objects.reaching(path), suppress(FileNotFoundError):
        cast("UPath", known).fs.ls(cast("UPath", known.parent).path)
    return known


def _remote(text: str, *, use_listings_cache: bool) -> Path:
    from upath import UPath  # noqa: PLC0415 - fsspec takes a moment, and most paths are local

    protocol = text.partition("://")[0]
    _check_protocol(text)
    if "::" in protocol:
        raise AsdError(f"{text}: expected one URL, not a chain of them; name the last of the chain")
    try:
        path = UPath(text, use_listings_cache=use_listings_cache)
        _ = path.fs
    except (ValueError, ImportError, TypeError) as error:
        extra = _EXTRAS.get(protocol)
        remedy = f"pip install 'machine-asd[{extra}]'" if extra else "fsspec lists what there is"
        raise AsdError(f"{text}: nothing here speaks {protocol}:// ({error}); {remedy}") from error
    return cast("Path", path)


def _check_protocol(text: str) -> None:
    if is_offline() and text.partition("://")[0] not in _HERE:
        raise AsdError(
            f"{text}: offline no address is asked; copy what is there to this machine and name its "
            f"folder, or leave out --offline and unset {OFFLINE}"
        )


def _below(root: Path) -> Iterator[Path]:
    at = cast("UPath", root)
    found: list[str] = []
    with objects.reaching(root), suppress(FileNotFoundError):  # no such bucket holds nothing
        found = at.fs.find(at.path)
    prefix = at.path.rstrip("/") + "/"
    for key in found:
        yield root / key.removeprefix(prefix)
