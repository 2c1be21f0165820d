"""Nearest neighbours with the target oversampled by SMOTE (ASDKit)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache.base.options import option
from index.domains import Memory, TrainingSet, remember
from index.neighbours import NeighbourScorer
from index.space import Metric

_FOLDS = 64  # up to 64 target clips are left out one by one, more in as many folds


@dataclass
class KnnSmote(NeighbourScorer):
    """``min(d_s, d_t)`` with synthetic target vectors between neighbouring target clips.

    SMOTE (Chawla et al. 2002) draws points on the lines from target clips to their
    `smote_neighbours` nearest target clips until the target has `ratio` times as many vectors as
    the source. Except with the Euclidean metric, vectors are of unit length before and after.
    Nothing is drawn where the target is large enough already or has no more clips than
    `smote_neighbours`. A synthetic vector is explained by the target clip nearest to it.
    """

    standardise: bool = option(
        False, "divide each value by its standard deviation over the section's training clips"
    )
    metric: Metric = option("cosine", "distance between embeddings")
    ratio: float = option(0.2, "target vectors for each source clip", least=0.0, most=1.0)
    smote_neighbours: int = option(2, "target clips that a target clip is mixed with", least=1)
    seed: int = option(0, "of the random draws", least=0)

    def memories(self, training: TrainingSet) -> dict[str, Memory]:
        """Remember clips, and synthetic vectors beside the target's."""
        plain = super().memories(training)
        source, target = (training.rows.get(d, np.empty(0, np.intp)) for d in ("source", "target"))
        large_enough = len(target) >= int(self.ratio * len(source))
        if large_enough or len(target) <= self.smote_neighbours:
            return plain
        return plain | {"target": self._oversampled(training, source, target)}

    def leave_one_out(self, training: TrainingSet, domain: str) -> NDArray[np.float64]:
        """Draw anew without each target clip left out; more than 64 in interleaved folds."""
        if domain == "source":
            return super().leave_one_out(training, domain)
        return self.cross_fit(training, training.left_out(domain), _FOLDS)

    def _oversampled(
        self, training: TrainingSet, source: NDArray[np.intp], target: NDArray[np.intp]
    ) -> Memory:
        from imblearn.over_sampling import SMOTE  # noqa: PLC0415 -- heavy, for fitting only

        rows = np.concatenate([source, target])
        labels = np.repeat([0, 1], [len(source), len(target)])
        smote = SMOTE(sampling_strategy=self.ratio, k_neighbors=self.smote_neighbours, random_state=self.seed)
        vectors, found = smote.fit_resample(training.vectors[rows].astype(np.float64), labels)
        every = vectors[found == 1]
        if self.metric != "euclidean":
            every = every / np.maximum(np.linalg.norm(every, axis=1, keepdims=True), 1e-30)
        every = every.astype(np.float32)
        every[: len(target)] = training.vectors[target]
        nearest = remember(training, target).neighbours.search(every, 1).rows[:, 0]
        parents = np.full((len(every), 1), -1, dtype=np.intp)
        parents[: len(target), 0] = target
        return Memory(self._neighbours(every), training.clip_ids[target[nearest]], parents)


SCORER = KnnSmote
