"""A source memory of k-means centres beside all target clips (Wilkinghoff)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache.base.options import option
from index.domains import Memory, TrainingSet, remember
from index.knn import NearestNeighbours
from index.neighbours import NeighbourScorer
from index.space import Metric

_FOLDS = 10


@dataclass
class KMeans(NeighbourScorer):
    """``min(d_s, d_t)``, d_s to the nearest of 16 k-means centres of the source clips.

    Except with the Euclidean metric, clips and centres are of unit length. Where the source has no more clips
    than centres, the clips stand for themselves. Source clips are left out in ten interleaved folds
    instead of one by one. A centre is explained by the source clip nearest to it.
    """

    standardise: bool = option(
        False, "divide each value by its standard deviation over the section's training clips"
    )
    metric: Metric = option("cosine", "distance between embeddings")
    centres: int = option(16, "k-means centres of the source clips", least=1)
    seed: int = option(0, "of the starting centres", least=0)

    def memories(self, training: TrainingSet) -> dict[str, Memory]:
        """Remember the source's centres and the target's clips."""
        plain = super().memories(training)
        source = training.rows.get("source", np.empty(0, np.intp))
        clips = training.vectors[source]
        if len(np.unique(clips, axis=0)) <= self.centres:
            return plain
        from sklearn.cluster import KMeans as Clustering  # noqa: PLC0415 -- heavy, for fitting

        clustering = Clustering(self.centres, n_init=1, random_state=self.seed)
        centres = clustering.fit(clips.astype(np.float64)).cluster_centers_
        if self.metric != "euclidean":
            centres = centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-30)
        centres = centres.astype(np.float32)
        nearest = remember(training, source).neighbours.search(centres, 1).rows[:, 0]
        nobody = np.full((len(centres), 1), -1, dtype=np.intp)
        memory = Memory(NearestNeighbours(centres), training.clip_ids[source[nearest]], nobody)
        return plain | {"source": memory}

    def leave_one_out(self, training: TrainingSet, domain: str) -> NDArray[np.float64]:
        """Cluster anew without each tenth of the source clips."""
        if domain == "target" or len(training.rows["source"]) <= self.centres:
            return super().leave_one_out(training, domain)
        return self.cross_fit(training, training.left_out(domain), _FOLDS)


SCORER = KMeans
