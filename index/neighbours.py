"""Distance to a domain as the mean distance to its k nearest memories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache.base.options import option
from cache.table import DOMAINS
from index.domains import DomainScorer, Memory, TrainingSet
from index.knn import Nearest, NearestNeighbours
from index.space import Metric


@dataclass
class NeighbourScorer(DomainScorer):
    """A `DomainScorer` of distances to nearest neighbours.

    d is the mean distance to the k nearest vectors remembered of a domain, to all of them where
    there are fewer.
    """

    metric: Metric = option("euclidean", "distance between embeddings")
    k: int = option(1, "nearest neighbours averaged, per domain", least=1)

    def learn(self, training: TrainingSet) -> None:
        """Nothing: the memories are all it needs."""

    def distances(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Mean distances to the k nearest of each domain; see `DomainScorer.distances`."""
        return self._distances(self._memories, vectors)[0]

    def distances_and_nearest(
        self, vectors: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], dict[str, Nearest]]:
        """Both from one search; see `DomainScorer.distances_and_nearest`."""
        return self._distances(self._memories, vectors)

    def leave_one_out(self, training: TrainingSet, domain: str) -> NDArray[np.float64]:
        """Leave out whatever is made of a clip; see `DomainScorer.leave_one_out`."""
        rows = training.left_out(domain)
        distances = np.full((len(rows), len(DOMAINS)), np.inf)
        for name, memory in self._memories.items():
            excluded = _made_of(memory, rows)
            left = len(memory.neighbours) - (excluded >= 0).sum(axis=1)
            for count in np.unique(np.minimum(left, self.k)):  # one k a call
                some = np.flatnonzero(np.minimum(left, self.k) == count)
                if count:
                    found = memory.neighbours.search(training.vectors[rows[some]], int(count), excluded[some])
                    mean = self._space.distance(found.distances).mean(axis=1)
                    distances[some, DOMAINS.index(name)] = mean
        return distances

    def cross_fit(self, training: TrainingSet, rows: NDArray[np.intp], folds: int) -> NDArray[np.float64]:
        """(n, 2) distances of rows to memories made without them, in interleaved folds."""
        distances = np.full((len(rows), len(DOMAINS)), np.inf)
        for fold in range(min(folds, len(rows))):
            some = rows[fold::folds]
            memories = self.memories(training.without(some))
            distances[fold::folds] = self._distances(memories, training.vectors[some])[0]
        return distances

    def _neighbours(self, vectors: NDArray[np.float32]) -> NearestNeighbours:
        return NearestNeighbours(vectors, self.search, self.recall)

    def _distances(
        self, memories: dict[str, Memory], vectors: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], dict[str, Nearest]]:
        distances = np.full((len(vectors), len(DOMAINS)), np.inf)
        every = {}
        for domain, memory in memories.items():
            found = memory.neighbours.search(vectors, min(self.k, len(memory.neighbours)))
            mean = self._space.distance(found.distances).mean(axis=1)
            distances[:, DOMAINS.index(domain)] = mean
            every[domain] = found
        return distances, every


def _made_of(memory: Memory, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """(n, E) memory rows that have each training row for a parent, padded with -1."""
    order = np.argsort(memory.parents, axis=None, kind="stable")
    parents = memory.parents.ravel()[order]
    first, last = np.searchsorted(parents, rows, "left"), np.searchsorted(parents, rows, "right")
    made = np.full((len(rows), max(1, int((last - first).max(initial=0)))), -1)
    width = memory.parents.shape[1]
    for place, (start, stop) in enumerate(zip(first, last, strict=True)):
        made[place, : stop - start] = order[start:stop] // width
    return made
