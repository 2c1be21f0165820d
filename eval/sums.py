"""``SHA256SUMS``: digests of the files of a results folder that are read again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from cache.atomic import write_atomic
from cache.errors import AsdError

_FILE = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  ([^/\\]+)")  # what `sha256sum` prints and `-c` reads


def write_sums(paths: Iterable[Path]) -> None:
    """Record what files of one folder hold, beside what is recorded of others there.

    Parameters
    ----------
    paths
        At least one.
    """
    listed = list(paths)
    folder = listed[0].parent
    try:
        known = _read(folder)
    except AsdError:  # a damaged one says nothing of other files either
        known = {}
    kept = {name: digest for name, digest in known.items() if (folder / name).is_file()}
    kept |= {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in listed}
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(kept.items()))
    write_atomic(folder / _FILE, text.encode())


def sum_faults(paths: Iterable[Path]) -> list[str]:
    """Tell which files are not as they were written.

    Parameters
    ----------
    paths
        Files, which may lie in several folders; one without ``SHA256SUMS`` has no faults, as those
        of other systems.
    """
    return [fault for path in paths for fault in _fault(path)]


def _fault(path: Path) -> list[str]:
    if not (path.parent / _FILE).exists() or not path.is_file():
        return []
    try:
        expected = _read(path.parent).get(path.name)
    except AsdError as error:
        return [str(error)]
    if hashlib.sha256(path.read_bytes()).hexdigest() == expected:
        return []
    remedy = f"score again, or delete {_FILE} if you changed it yourself"
    return [f"{path.name} is not what {_FILE} says was written: {remedy}"]


def _read(folder: Path) -> Mapping[str, str]:
    path = folder / _FILE
    if not path.exists():
        return {}
    found = path.stat()
    return _parsed(path, (found.st_ino, found.st_mtime_ns, found.st_size))


@lru_cache(maxsize=8)
def _parsed(path: Path, version: tuple[int, ...]) -> Mapping[str, str]:  # noqa: ARG001 (the key)
    """Read the file once and not for each of the thousands of files that it may list."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise AsdError(f"{path} is damaged ({error!r}); score again, or delete it") from error
    matches = [_LINE.fullmatch(line) for line in lines]
    if None in matches:
        raise AsdError(f"{path} is damaged (line {matches.index(None) + 1}); score again")
    return {match[2]: match[1] for match in matches if match}
