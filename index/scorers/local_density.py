"""Distances less what local density explains: how far apart training clips lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache.base.options import option
from cache.table import DOMAINS
from index.covariance import row_products
from index.domains import DomainScorer, Memory, TrainingSet
from index.knn import NearestNeighbours, SearchKind, check_finite
from index.scorer import State
from index.space import Metric, Space

Floats = NDArray[np.float64]


class Densities:
    """Mean distance b_y of each training clip y to its K nearest other training clips.

    Parameters
    ----------
    training
        N clips of both domains, pooled.
    k
        K, cut to N - 1.
    space
        Says what a distance is.
    search
        How neighbours are found; see `NearestNeighbours`.

    Attributes
    ----------
    smallest
        The smallest density above 0, which stands in for 0; 1 where there is none.
    by_domain
        Domain to the densities of its clips, in the order of its rows.
    """

    def __init__(self, training: TrainingSet, k: int, space: Space, search: SearchKind = "exact") -> None:
        count = len(training.vectors)
        self._training, self._space = training, space
        self._k = min(k, count - 1)
        others = min(k + 1, count - 1)  # one more, to take the place of one left out
        self._near, self._rows = np.empty((count, 0)), np.empty((count, 0), dtype=np.intp)
        if others:
            own = np.arange(count)[:, None]
            pooled = NearestNeighbours(training.vectors, search)
            found = pooled.search(training.vectors, others, own)
            self._near, self._rows = space.distance(found.distances), found.rows
        plain = self._near[:, : self._k].mean(axis=1) if self._k else np.zeros(count)
        self.smallest = float(plain[plain > 0].min(initial=np.inf))
        if np.isinf(self.smallest):
            self.smallest = 1.0
        self._all = self._positive(plain)
        self.by_domain = {domain: self._all[rows] for domain, rows in training.rows.items()}

    def nearest_pairs(self) -> tuple[Floats, Floats]:
        """Distance of each clip to its nearest other one, and the density of that one.

        Returns
        -------
        distance, density
            (N,) each, positive; empty for a single clip.
        """
        if not self._k:
            return np.empty(0), np.empty(0)
        return self._positive(self._near[:, 0]), self._all[self._rows[:, 0]]

    def without(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
        """Leave clips out, one at a time: whose density that changes, and to what.

        Parameters
        ----------
        rows
            (n,) clips left out.

        Returns
        -------
        place, clip, density
            (P,) each: the place in `rows` of the clip left out, a clip that had it among its K
            nearest others, and the density of that clip without it.
        """
        y, near, place = self._around(rows)
        return place, y, self._without(y, near)

    def leave_one_out(
        self,
        memories: Mapping[str, Memory],
        rows: NDArray[np.intp],
        gains: Callable[[Floats], Floats],
    ) -> Floats:
        """Smallest ``gain(b_y) * D(x, y)`` of training clips x over all y but x itself.

        Parameters
        ----------
        memories
            The clips of each domain as they are.
        rows
            (n,) clips left out, one at a time: of the references and of their densities.
        gains
            Density to gain, falling.

        Returns
        -------
        ndarray
            (n, 2), source and target; infinite where no clip is left.
        """
        values = np.full((len(rows), len(DOMAINS)), np.inf)
        if self._near.shape[1] > self._k or not self._k:  # else all are neighbours of all
            for domain, memory in memories.items():
                column = DOMAINS.index(domain)
                values[:, column] = self._with_whole_densities(memory, domain, rows, gains)
        # Leaving x out changes b_y only where x is among y's neighbours. With a further one to
        # take its place b_y grows, so that the smaller of the two values is the right one.
        y, near, place = self._around(rows)
        corrected = self._near[y, near] * gains(self._without(y, near))
        targets = np.isin(y, self._training.rows.get("target", np.empty(0, np.intp)))
        np.minimum.at(values, (place, targets.astype(np.intp)), corrected)
        return values

    def _around(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """Clips that have one of `rows` among their K nearest, at which place, and which one."""
        y, near = np.nonzero(np.isin(self._rows[:, : self._k], rows))
        order = np.argsort(rows)
        return y, near, order[np.searchsorted(rows, self._rows[y, near], sorter=order)]

    def _with_whole_densities(
        self,
        memory: Memory,
        domain: str,
        rows: NDArray[np.intp],
        gains: Callable[[Floats], Floats],
    ) -> Floats:
        members = self._training.rows[domain]
        places = np.searchsorted(members, rows)
        own = np.where(members[places.clip(max=len(members) - 1)] == rows, places, -1)
        values = np.full(len(rows), np.inf)
        some = np.flatnonzero((own < 0) | (len(members) > 1))
        if some.size:
            factors = gains(self.by_domain[domain])
            roots = np.sqrt(factors) if self._space.metric == "cosine" else factors
            queries = self._training.vectors[rows[some]]
            found = memory.neighbours.search(queries, 1, own[some][:, None], roots)
            nearest = found.rows[:, 0]
            values[some] = self._space.distance(found.distances[:, 0]) * factors[nearest]
        return values

    def _without(self, y: NDArray[np.intp], place: NDArray[np.intp]) -> Floats:
        """Densities of clips y without their neighbour at a place."""
        near = self._near[y]
        if near.shape[1] == 1 and self._k == 1:
            return self._all[y]  # two clips in all: nothing is left to measure a density by
        rest = near.sum(axis=1) - near[np.arange(len(y)), place]
        return self._positive(rest / (near.shape[1] - 1))

    def _positive(self, values: Floats) -> Floats:
        return np.where(values > 0, values, self.smallest)


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
            # Of the Euclidean distance, so that they order as the gains of the metric's own do.
            roots = np.sqrt(gains) if self.metric == "cosine" else gains
            found = memory.neighbours.search(vectors, 1, gains=roots)
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


CHOICES = {"ldn": Ldn, "varmin": VarMin}
