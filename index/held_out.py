"""Scores of training windows by scorers that never heard their file."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cache.table import EmbeddingTable
from cache.windows import split_id
from index.scorer import Scorer

_FOLDS = 5


def held_out_scores(make: Callable[[], Scorer], reference: EmbeddingTable) -> NDArray[np.float64]:
    """Score training clips in folds of whole files, each by a scorer fitted to the other folds.

    Windows of one file are so alike that a window left out alone scores far lower than an unseen
    recording would: the threshold would call nearly every new file anomalous.

    Parameters
    ----------
    make
        Gives a scorer that is not fitted.
    reference
        (N, D) training clips, some of them windows.

    Returns
    -------
    ndarray
        (N,) finite scores; empty where there are no windows, or windows of one file only, and
        leaving out clip by clip is all that can be done.
    """
    parts = [split_id(clip_id) for clip_id in reference.clip_ids]
    files = list(dict.fromkeys(file for file, _ in parts))
    if len(files) < 2 or all(span is None for _, span in parts):
        return np.empty(0)
    number = {file: i % _FOLDS for i, file in enumerate(files)}
    fold = np.array([number[file] for file, _ in parts])
    scores = np.empty(len(reference))
    for held in np.unique(fold):
        scorer = make()
        scorer.fit(reference.select(np.flatnonzero(fold != held)))
        scores[fold == held] = scorer.score(reference.embeddings[fold == held])
    return scores[np.isfinite(scores)]
