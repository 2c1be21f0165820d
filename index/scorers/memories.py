"""Memories other than the clips themselves: mixtures, SMOTE, k-means centres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache.base.options import option
from index.domains import Memory, NeighbourScorer, TrainingSet, remember
from index.knn import NearestNeighbours
from index.scorers.domain_distances import DomainZTest
from index.space import Metric


@dataclass
class MemMixup(NeighbourScorer):
    """``min(d_s, d_t)`` with ``share * t + (1 - share) * s`` added to the target memory.

    Every target clip t is mixed with each of its `mixes` nearest source clips s (with all where
    there are fewer); without source or target clips nothing is added. A left-out clip takes its
    mixtures with it. A mixture is explained by its target clip.
    """

    mixes: int = option(990, "source clips mixed with each target clip, K_s", least=0)
    share: float = option(0.9, "of the target clip in a mixture, lambda", least=0.0, most=1.0)

    def memories(self, training: TrainingSet) -> dict[str, Memory]:
        """Remember clips, and mixtures beside the target's."""
        plain = super().memories(training)
        count = min(self.mixes, len(training.rows.get("source", ())))
        if not count or "target" not in plain:
            return plain
        source, target = training.rows["source"], training.rows["target"]
        vectors = training.vectors
        near = source[NearestNeighbours(vectors[source]).search(vectors[target], count).rows]
        made = self.share * vectors[target][:, None] + (1 - self.share) * vectors[near]  # (t, K, D)
        parents = np.stack([np.broadcast_to(target[:, None], near.shape), near], axis=-1)
        parents = parents.reshape(-1, 2)
        own = np.column_stack([target, np.full(len(target), -1)])
        every = np.concatenate([vectors[target], made.reshape(len(parents), -1)])
        together = np.concatenate([own, parents])
        clip_ids = training.clip_ids[together[:, 0]]
        return plain | {"target": Memory(self._neighbours(every.astype(np.float32)), clip_ids, together)}


@dataclass
class GenRep(MemMixup, DomainZTest):
    """MemMixup (990 mixtures of 0.9) scored by `DomainZTest`.

    GenRep keeps the bands of BEATs apart: extract with ``--bands keep``. Transductive, and refuses
    to score a single clip.
    """


_SMOTE_FOLDS = 64  # up to 64 target clips are left out one by one, more in as many folds


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
        return self.cross_fit(training, training.left_out(domain), _SMOTE_FOLDS)

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


_CLUSTERING_FOLDS = 10


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
        return self.cross_fit(training, training.left_out(domain), _CLUSTERING_FOLDS)


CHOICES = {"genrep": GenRep, "kmeans": KMeans, "knn-smote": KnnSmote, "memmixup": MemMixup}
