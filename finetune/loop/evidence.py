"""What the training clips alone tell about an embedding: no test clip, no anomaly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cache.table import DOMAINS, Section
from extractors.clips.listing import Clip


def neighbour_statistics(
    embeddings: NDArray[np.float32], clips: Sequence[Clip], classes: NDArray[np.int64]
) -> dict[str, float]:
    """Measure how normal clips lie among each other, each left out in turn.

    Parameters
    ----------
    embeddings
        (N, D) of the clips.
    clips
        The clips.
    classes
        (N,) their classes.

    Returns
    -------
    dict
        ``same_class``: share of clips whose nearest other clip of the same section, by cosine, is
        of their class; ``distance_source``, ``distance_target``: mean cosine distance of a clip to
        the nearest other one of its section, whose score it is when left out. What no clip can
        tell, for want of another one, is missing.
    """
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    sections: dict[Section, list[int]] = defaultdict(list)
    for row, clip in enumerate(clips):
        sections[clip.section].append(row)
    nearest = np.full(len(clips), -1)
    distance = np.full(len(clips), np.nan)
    for rows in sections.values():
        if len(rows) > 1:
            cosine = unit[rows] @ unit[rows].T
            np.fill_diagonal(cosine, -np.inf)
            best = cosine.argmax(1)
            nearest[rows] = np.array(rows)[best]
            distance[rows] = 1 - cosine[np.arange(len(rows)), best]
    found = {}
    known = nearest >= 0
    if known.any():
        found["same_class"] = float((classes[nearest[known]] == classes[known]).mean())
    for domain in DOMAINS:
        of = known & np.array([clip.domain == domain for clip in clips])
        if of.any():
            found[f"distance_{domain}"] = float(distance[of].mean())
    return found


def hold_out(
    classes: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide clips into those trained on and those held out, class by class.

    Parameters
    ----------
    classes
        (N,).
    share
        Of each class, rounded; a class always keeps two clips to train on.
    seed
        Of the choice.

    Returns
    -------
    trained, held
        Rows, ascending.
    """
    random = np.random.default_rng(seed)
    held: list[int] = []
    for number in np.unique(classes):
        rows = np.flatnonzero(classes == number)
        count = min(round(share * len(rows)), len(rows) - 2)
        if count > 0:
            held += random.choice(rows, count, replace=False).tolist()
    chosen = np.zeros(len(classes), bool)
    chosen[held] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)
