"""Which weights file a backbone is given, fetched where it is a known one that is not here."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from cache.base.errors import AsdError
from extractors.backbone import Source
from extractors.weights.loading import WeightsFile, read_weights
from extractors.weights.published import Checkpoint, find, published, usual
from extractors.weights.store import expected_hash, fetch


def needed(source: Source, backbone: str, known: Sequence[Checkpoint]) -> WeightsFile:
    """Find the weights file that a backbone is to load, and read it, once.

    Parameters
    ----------
    source
        What the user said: a file, the name of a published checkpoint, or nothing, which stands
        for the usual one of the variant.
    backbone
        Its name, for messages.
    known
        The published files that would do, the usual one first.

    Raises
    ------
    AsdError
        If it is not there and cannot be fetched, is another backbone's, or has the name of a
        published file and not its content, unless its SHA-256 is among ``source.accepted``.
    """
    if source.weights is None:
        return _intact(fetch(usual(backbone, source.variant, known), backbone), source)
    checkpoint = find(str(source.weights))
    if source.weights.exists() or checkpoint is None:
        return _intact(source.weights, source)
    if checkpoint not in known:
        raise AsdError(
            f"{checkpoint.name} is a checkpoint of {checkpoint.backbone}, no {backbone}; known are "
            f"{', '.join(each.name for each in known)}"
        )
    return _intact(fetch(checkpoint, backbone), source)


def _intact(path: Path, source: Source) -> WeightsFile:
    """Hold a file against what is published under its name; tell where nothing is."""
    file, checkpoint = read_weights(path), find(path.name)
    if file.sha256 in source.accepted:
        return file
    expected = None if checkpoint is None else expected_hash(checkpoint)
    if checkpoint is not None and expected is not None:
        algorithm, _, digest = expected.partition(":")
        if hashlib.new(algorithm, file.data, usedforsecurity=False).hexdigest() == digest.lower():
            return file
        raise AsdError(
            f"{path} has SHA-256 {file.sha256}, and the published {checkpoint.file} {expected}: "
            "it is damaged or another file; delete it and run "
            f"python -m extractors.weights fetch {checkpoint.file}, or, if you mean this very "
            f"file, add --accept-weights {file.sha256}"
        )
    if published(file.sha256) is None:
        logging.getLogger(__name__).info(
            "%s (SHA-256 %s) is no published checkpoint known here; what it holds is checked, where "
            "it comes from is not", path, file.sha256,
        )  # fmt: skip
    return file
