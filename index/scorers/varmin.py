"""Distances less the part that local density explains (VarMin), in logarithms or as they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache.base.options import option
from cache.table import DOMAINS
from index.covariance import row_products
from index.densities import Densities
from index.domains import DomainScorer, TrainingSet
from index.knn import check_finite
from index.scorer import State
from index.space import Metric

Floats = NDArray[np.float64]
_LEAST = 1e-12  # variance of densities below which they explain nothing, as in BEAM's public code
_COSTS = 1 << 23  # distances held at once


@dataclass
class VarMin(DomainScorer):
    """``min_y (D(x, y) - alpha b_y)``, b_y the local density of training clip y.

    b_y is the mean distance of y to its K nearest other training clips, ``alpha = Cov(u, v) /
    Var(v)`` over the training clips: u the distance of each to its nearest other clip, v the
    density of that clip; 0 where ``Var(v) <= 1e-12``. This alpha leaves the training scores the
    least variance (Matsumoto et al., DCASE workshop 2025). Source and target clips are pooled: no
    domain label matters.

    With `log`, the default, D and b are logarithms: log-LDN with VarMin (arXiv 2603.04605).
    Without, and inside `beam` with the cosine metric and K = 4, it is BEAM with VarMin per band.
    Distances of 0 then count as a thousandth of the smallest density above 0, densities of 0 as
    that density; training scores leave a clip out of the densities as well.
    """

    metric: Metric = option("euclidean", "distance between embeddings")
    density_k: int = option(1, "nearest other training clips that make a density, K", least=1)
    log: bool = option(True, "take logarithms of distances and densities")

    def learn(self, training: TrainingSet) -> None:
        """Measure the density around every training clip and choose alpha."""
        self._densities = Densities(training, self.density_k, self._space, self.search)
        self._floor = 1e-3 * self._densities.smallest
        distance, density = map(self._scaled, self._densities.nearest_pairs())
        centred = density - density.mean() if density.size else density
        variance = float(np.mean(centred**2)) if density.size else 0.0
        explained = variance > _LEAST
        self._alpha = float(np.mean(distance * centred)) / variance if explained else 0.0
        by_domain = self._densities.by_domain
        self._offsets = {d: self._alpha * self._scaled(b) for d, b in by_domain.items()}

    def distances(self, vectors: NDArray[np.float32]) -> Floats:
        """Smallest differences by domain; see `DomainScorer.distances`."""
        values = np.full((len(vectors), len(DOMAINS)), np.inf)
        for domain, memory in self._memories.items():
            for rows, distances in self._pairs(vectors, memory.neighbours.vectors):
                least = (self._scaled(distances) - self._offsets[domain]).min(axis=1)
                values[rows, DOMAINS.index(domain)] = least
        return values

    def leave_one_out(self, training: TrainingSet, domain: str) -> Floats:
        """Leave a clip out of the references and of the densities of its neighbours."""
        left_out = training.left_out(domain)
        values = np.full((len(left_out), len(DOMAINS)), np.inf)
        if len(training.vectors) == 1:
            return values
        density = np.empty(len(training.vectors))
        for name, members in training.rows.items():
            density[members] = self._densities.by_domain[name]
        offsets = self._alpha * self._scaled(density)
        place, clip, without = self._densities.without(left_out)
        changed = self._alpha * self._scaled(without)
        for rows, distances in self._pairs(training.vectors[left_out], training.vectors):
            costs = self._scaled(distances)
            costs[np.arange(len(costs)), left_out[rows]] = np.inf
            here = (place >= rows.start) & (place < rows.stop)
            at = (place[here] - rows.start, clip[here])
            corrected = costs[at] - changed[here]
            costs -= offsets
            costs[at] = corrected
            for name, members in training.rows.items():
                values[rows, DOMAINS.index(name)] = costs[:, members].min(axis=1)
        return values

    def state(self) -> State:
        """Add what is subtracted; see `Scorer.state`."""
        offsets = {f"{d}.offsets": offsets for d, offsets in self._offsets.items()}
        return super().state() | offsets | {"floor": np.array(self._floor)}

    def restore(self, state: State) -> None:
        """Take back what `state` gave."""
        super().restore(state)
        self._floor = float(np.asarray(state["floor"]))
        self._offsets = {d: np.asarray(state[f"{d}.offsets"]) for d in self._memories}

    def _scaled(self, distances: Floats) -> Floats:
        """Logarithms where they are asked for."""
        return np.log(np.maximum(distances, self._floor)) if self.log else distances

    def _pairs(
        self, vectors: NDArray[np.float32], others: NDArray[np.float32]
    ) -> Iterator[tuple[slice, Floats]]:
        """Distances of a few vectors at a time to all others, (q, N)."""
        check_finite(vectors, "query")
        lengths = np.einsum("nd,nd->n", others, others, dtype=np.float64)
        step, columns = max(1, _COSTS // len(others)), max(1, _COSTS // others.shape[1])
        for start in range(0, len(vectors), step):
            part = vectors[start : start + step].astype(np.float64)
            squares = np.einsum("qd,qd->q", part, part)[:, None] + lengths
            for first in range(0, len(others), columns):
                block = slice(first, first + columns)
                squares[:, block] -= 2 * row_products(part, others[block].astype(np.float64))
            rows = slice(start, start + len(part))
            yield rows, self._space.distance(np.sqrt(np.maximum(squares, 0)))


SCORER = VarMin
