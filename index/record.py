"""A bank section's record: the JSON file that says how it was made and which files belong to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cache.base.errors import AsdError
from cache.base.text import parse_json
from cache.files import places

RECORD = "record.json"
FORMAT = 2  # 1 had no digest of the record itself
REMEDY = "build it with `python -m index.run`"
_DIGEST = "sha256"  # of all else that the record says


def record_bytes(told: Mapping[str, Any]) -> bytes:
    """Write what a record says, with its digest, as JSON."""
    text = json.dumps({**told, _DIGEST: digest(told)}, indent=2, allow_nan=False)
    return text.encode()


def read_record(path: Path) -> dict[str, Any]:
    """Read a record.

    Raises
    ------
    AsdError
        If it is not one, is of another format, or does not match its digest.
    """
    try:
        record: dict[str, Any] = parse_json(places.read_bytes(path))
        known = record["format"] == FORMAT
        told = {name: value for name, value in record.items() if name != _DIGEST}
        intact = not known or record[_DIGEST] == digest(told)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AsdError(f"{path} is not a bank record ({error!r}); {REMEDY}") from error
    if not known:
        raise AsdError(f"{path} has format {record['format']!r}, known is {FORMAT}; {REMEDY}")
    if not intact:
        raise AsdError(f"{path} is damaged: what it says does not match its SHA-256; {REMEDY}")
    return record


def unnamed(record: Path, told: Mapping[str, Any]) -> list[Path]:
    """Files beside a record that it does not name."""
    named = {entry["file"] for entry in told["files"].values()} | {RECORD}
    files = places.matching(record.parent, "*")
    return [path for path in files if path.name not in named and not path.name.startswith(".")]


def digest(told: Mapping[str, Any]) -> str:
    """SHA-256 of what a record says, however it is laid out."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
