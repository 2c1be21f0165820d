"""``SHA256SUMS``: digests of the files of a results folder, in the form of ``sha256sum``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from cache.base.errors import AsdError

SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  ([^\\]+)")  # what `sha256sum` prints and `-c` reads


def read_sums(folder: Path) -> Mapping[str, str] | None:
    """Read a folder's digests by file name; ``None`` where it has none.

    Raises
    ------
    AsdError
        If the file is damaged.
    """
    path = folder / SUMS
    try:
        found = path.stat()
    except OSError:
        return None
    return _parsed(path, (found.st_ino, found.st_mtime_ns, found.st_size))


def sums_bytes(digests: Mapping[str, str]) -> bytes:
    """Write digests by file name as `read_sums` reads them."""
    lines = (f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return "".join(lines).encode()


def sum_faults(paths: Iterable[Path]) -> list[str]:
    """Tell which files are not as they were written.

    Parameters
    ----------
    paths
        Files, which may lie in several folders; one without ``SHA256SUMS`` has no faults, as those
        of other systems.
    """
    faults = []
    for path in paths:
        try:
            check_sum(path.name, path.read_bytes(), read_sums(path.parent))
        except FileNotFoundError:
            continue
        except AsdError as error:
            faults.append(str(error))
    return faults


def check_sum(name: str, data: bytes, digests: Mapping[str, str] | None) -> None:
    """Hold what was read of a file against the digests of its folder.

    Raises
    ------
    AsdError
        If the file is another, or not listed.
    """
    if digests is None or hashlib.sha256(data).hexdigest() == digests.get(name):
        return
    remedy = f"score again, or delete {SUMS} if you changed it yourself"
    raise AsdError(f"{name} is not what {SUMS} says was written: {remedy}")


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
