"""Local density normalisation: a distance counts for less where training clips lie far apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache.base.options import option
from cache.table import DOMAINS
from index.densities import Densities
from index.domains import DomainScorer, TrainingSet
from index.scorer import State
from index.space import Metric


@dataclass
class Ldn(DomainScorer):
    """``min_y D(x, y) / b_y``, b_y the mean distance of y to its K nearest other training clips.

    Wilkinghoff et al. 2025 (arXiv 2509.10951), K = 1. Source and target clips are pooled: no domain
    label matters. A density of 0 (duplicate clips) becomes the smallest one above 0, and 1 where
    there is none or a single clip. K is cut to the number of other clips.
    """

    metric: Metric = option("euclidean", "distance between embeddings")
    density_k: int = option(1, "nearest other training clips that make a density, K", least=1)

    def learn(self, training: TrainingSet) -> None:
        """Measure the density around every training clip."""
        self._densities = Densities(training, self.density_k, self._space, self.search)
        self.prepare(self._densities)
        self._gains = {d: self.gain(b) for d, b in self._densities.by_domain.items()}

    def prepare(self, densities: Densities) -> None:
        """Learn what `gain` needs from the densities: nothing here."""

    def gain(self, density: NDArray[np.float64]) -> NDArray[np.float64]:
        """Factor of the distance to a training clip of this density."""
        return np.asarray(1 / density)

    def distances(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Smallest normalised distances; see `DomainScorer.distances`."""
        distances = np.full((len(vectors), len(DOMAINS)), np.inf)
        for domain, memory in self._memories.items():
            gains = self._gains[domain]
            found = memory.neighbours.search(vectors, 1, gains=self._roots(gains))
            plain = self._space.distance(found.distances[:, 0])
            distances[:, DOMAINS.index(domain)] = plain * gains[found.rows[:, 0]]
        return distances

    def leave_one_out(self, training: TrainingSet, domain: str) -> NDArray[np.float64]:
        """Leave a clip out of the references and of the densities of its neighbours."""
        rows = training.left_out(domain)
        return self._densities.leave_one_out(self._memories, rows, self.gain)

    def state(self) -> State:
        """Add the densities; see `Scorer.state`."""
        return super().state() | {f"{d}.gains": gains for d, gains in self._gains.items()}

    def restore(self, state: State) -> None:
        """Take back what `state` gave."""
        super().restore(state)
        self._gains = {domain: np.asarray(state[f"{domain}.gains"]) for domain in self._memories}

    def _roots(self, gains: NDArray[np.float64]) -> NDArray[np.float64]:
        """Gains of the Euclidean distance that order as the gains of the metric's own do."""
        return np.sqrt(gains) if self.metric == "cosine" else gains


SCORER = Ldn
