"""How densely training clips lie: the mean distance of each to its nearest others."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from cache.table import DOMAINS
from index.domains import Memory, TrainingSet
from index.knn import NearestNeighbours, SearchKind
from index.space import Space

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
