"""What unseen normal clips would score: training clips, by scorers that never heard them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cache.table import EmbeddingTable
from index.groups import Groups
from index.scorer import Scorer

_FOLDS = 10  # at most: a scorer is fitted again for each


@dataclass(frozen=True, eq=False)
class Calibration:
    """How training clips were left out to learn a threshold, and what they scored.

    Attributes
    ----------
    grouping
        As the user named it, see `index.groups.group_clips`; empty where it is not known.
    told
        What was assumed, for a reader.
    count
        How many groups there are.
    scores
        (n,) float64, finite, by scorers fitted again without their group; empty where the scorer's
        own leave-one-out scores do.
    groups
        (n,) the group that each was left out with.
    """

    grouping: str = ""
    told: str = ""
    count: int = 0
    scores: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    groups: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, dtype=np.intp))


def calibrate(
    make: Callable[[], Scorer], reference: EmbeddingTable, groups: Groups, name: str
) -> Calibration:
    """Score training clips in folds of whole groups, each by a scorer fitted to the other folds.

    Clips recorded together are so alike that one left out alone scores far lower than an unseen
    recording would. Where every clip is its own group, or all are of one, the scorer's own
    leave-one-out scores are taken, which need no fitting; so they are of a transductive scorer
    where a fold is of one clip, which it cannot score.

    Parameters
    ----------
    make
        Gives a scorer that is not fitted.
    reference
        (N, D) training clips.
    groups
        Of the N clips.
    name
        The grouping's.
    """
    fold = folds_of(groups.numbers, np.array([key.domain == "target" for key in reference.keys]))
    too_small = make().transductive and np.bincount(fold).min() < 2
    if groups.count in (1, len(reference)) or too_small:
        return Calibration(name, groups.told, groups.count)
    scores = np.empty(len(reference))
    for held in np.unique(fold):
        scorer = make()
        scorer.fit(reference.select(np.flatnonzero(fold != held)))
        scores[fold == held] = scorer.score(reference.embeddings[fold == held])
    known = np.isfinite(scores)
    return Calibration(name, groups.told, groups.count, scores[known], groups.numbers[known])


def folds_of(groups: NDArray[np.intp], target: NDArray[np.bool_], folds: int = _FOLDS) -> NDArray[np.intp]:
    """Deal whole groups out to folds, (N,): groups with target clips first, the largest first.

    Each goes to the fold that has the fewest clips of its kind, so that no fold takes more than its
    share of the few target clips with it.

    Parameters
    ----------
    groups
        (N,) group of each clip, from 0.
    target
        (N,) whether it is of the target domain.
    folds
        How many, at most: not more than there are groups.
    """
    sizes, few = np.bincount(groups), np.bincount(groups, target)
    load = np.zeros((2, min(folds, int((sizes > 0).sum()))))  # target clips, all clips
    fold = np.zeros(len(sizes), dtype=np.intp)
    for group in np.lexsort((-sizes, -few)):
        kind = load if few[group] else load[::-1]
        fold[group] = np.lexsort((kind[1], kind[0]))[0]
        load[:, fold[group]] += few[group], sizes[group]
    return fold[groups]
