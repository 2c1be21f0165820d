"""Where downloaded weights lie, and which file a name means."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from cache.base.errors import AsdError
from cache.files.digest import file_sha256
from cache.select import Selection
from extractors.fetching.offline import home
from extractors.weights.published import Checkpoint, find


def path_of(checkpoint: Checkpoint) -> Path:
    """Where a checkpoint lies once it is fetched."""
    return home() / "weights" / checkpoint.file


def with_hashes(wanted: Selection) -> Selection:
    """Name weights by their hashes, as recipes do, where a user named files.

    A name that is no file may be a checkpoint's, whose published hash is meant, or the beginning of
    a hash, as earlier versions took it.

    Raises
    ------
    AsdError
        If it is none of these.
    """
    return replace(wanted, weights=(), weights_hash=(*wanted.weights_hash, *map(_hash_of, wanted.weights)))


def _hash_of(text: str) -> str:
    path, checkpoint = located(text), find(text)
    if path.is_file():
        return file_sha256(path)
    if checkpoint is not None and checkpoint.sha256:
        return checkpoint.sha256
    if re.fullmatch("[0-9a-f]{4,64}|random", text):
        return text
    raise AsdError(
        f"--weights {text}: no such file and no known checkpoint; give the file, a name of "
        "`python -m extractors.weights list`, or --weights-hash"
    )


def located(text: str) -> Path:
    """Find the file meant by ``--weights``: a path, or else the place of a checkpoint so named."""
    path, checkpoint = Path(text), find(text)
    return path if checkpoint is None or path.exists() else path_of(checkpoint)
