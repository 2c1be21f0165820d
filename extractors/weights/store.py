"""Checkpoints: fetched on demand, and recognised by their content."""

from __future__ import annotations

import logging
from pathlib import Path

from cache.base.errors import AsdError
from cache.files.atomic import file_sha256
from extractors.fetching.download import Remote, download, matches, read_record, record_of, write_record
from extractors.fetching.offline import is_offline
from extractors.weights.published import Checkpoint, path_of, published

_LOG = logging.getLogger(__name__)


def fetch(checkpoint: Checkpoint, wanted_by: str = "") -> Path:
    """Bring a checkpoint to its place, unless it is there.

    Parameters
    ----------
    checkpoint
        Any with addresses. One that has no published hash is held against what its first download
        was.
    wanted_by
        Who needs it, for messages.

    Returns
    -------
    Path
        Where it is.

    Raises
    ------
    AsdError
        If it cannot be had, or offline; then the file to bring is named, and its place.
    """
    path = path_of(checkpoint)
    if path.is_file():
        return path
    if not checkpoint.urls:
        raise AsdError(f"{checkpoint.name} is a model of the hub, whose own client fetches it")
    if is_offline():
        wanted = f"{checkpoint.file} ({checkpoint.about})"
        lacking = f"{wanted_by} needs {wanted}" if wanted_by else f"{wanted} is not here"
        other = ", or name the file: --weights FILE" if wanted_by else ""
        raise AsdError(
            f"{lacking}, and offline nothing is fetched: bring it from {checkpoint.urls[0]} to {path}{other}"
        )
    _LOG.info(
        "fetching %s: %s; %s; published at %s; from %s to %s", checkpoint.file, checkpoint.about,
        checkpoint.paper, checkpoint.source, checkpoint.urls[0], path.parent,
    )  # fmt: skip
    known = checkpoint.known_hash or _recorded(path)
    url = download(Remote(checkpoint.file, checkpoint.urls, known, checkpoint.size), path.parent)
    if url and known is None:
        sha256 = file_sha256(path)
        record = {"file": path.name, "sha256": sha256, "size": path.stat().st_size, "url": url}
        write_record(record_of(path), record)
        _LOG.info(
            "no hash of %s is published; SHA-256 %s is recorded in %s, and later downloads must have it",
            path.name, sha256, record_of(path),
        )  # fmt: skip
    return path


def matching(path: Path) -> Checkpoint | None:
    """Find the published checkpoint with a file's content, whatever the file is called."""
    return published(file_sha256(path))


def expected_hash(checkpoint: Checkpoint) -> str | None:
    """Return the hash that a checkpoint must have: as published, else of its first download."""
    return checkpoint.known_hash or _recorded(path_of(checkpoint))


def is_intact(path: Path, checkpoint: Checkpoint) -> bool | None:
    """Tell whether a file is a checkpoint, ``None`` where nothing is known to compare it with."""
    expected = expected_hash(checkpoint)
    return None if expected is None else matches(path, expected)


def _recorded(path: Path) -> str | None:
    """Read the hash of the first download; ``None`` before it."""
    record = record_of(path)
    facts = read_record(record)
    if facts and "sha256" not in facts:
        raise AsdError(f"{record} is damaged: it names no sha256; delete it")
    return f"sha256:{facts['sha256']}" if facts else None
