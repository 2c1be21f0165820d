"""Files told apart by what is in them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cache.errors import AsdError


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file.

    Raises
    ------
    AsdError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AsdError(f"{path} cannot be read: {error.strerror}") from error
