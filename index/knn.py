"""Exact nearest neighbours: FAISS proposes a few candidates, float64 decides."""

from __future__ import annotations

from typing import NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from cache.errors import AsdError

_SPARE = 4  # candidates beyond k: room for what float32 puts in the wrong order
_CHUNK = 1 << 17  # float64 values (1 MiB, a core's cache) of distances computed again at once
# Float32 error of |q|^2 + |r|^2 - 2 q.r, relative to |q|^2 + |r|^2: 2^-24 times a dot product's
# error growth of about sqrt(D), D <= 10^4.
_TOLERANCE = 1e-5


class Nearest(NamedTuple):
    """Neighbours of Q queries.

    Attributes
    ----------
    distances
        (Q, k) float64, Euclidean, ascending.
    rows
        (Q, k) rows of the reference; equal distances by ascending row.
    """

    distances: NDArray[np.float64]
    rows: NDArray[np.intp]


class NearestNeighbours:
    """A searchable set of reference vectors.

    Distances are computed in float64 from the vectors themselves and do not depend, to the last
    bit, on the other queries of a call (FAISS's own do: it changes its formula with their number).

    Parameters
    ----------
    reference
        (N, D) float32, finite, N >= 1. Centre or normalise it first: float32 proposals suffer from
        a large common offset.

    Raises
    ------
    AsdError
        If the reference is empty or not finite.
    """

    def __init__(self, reference: NDArray[np.float32]) -> None:
        if reference.ndim != 2 or 0 in reference.shape:
            raise AsdError(f"a reference of shape {reference.shape}: nothing to be near to")
        _check_finite(reference, "reference")
        self._index: faiss.IndexFlat = faiss.IndexFlatL2(reference.shape[1])
        self._index.add(np.ascontiguousarray(reference, dtype=np.float32))
        self._set_vectors()

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def width(self) -> int:
        """Values a vector, D."""
        return int(self._index.d)

    def search(
        self, queries: NDArray[np.float32], k: int, own_rows: NDArray[np.intp] | None = None
    ) -> Nearest:
        """Find the k nearest reference vectors of each query.

        Parameters
        ----------
        queries
            (Q, D) float32, finite.
        k
            From 1 to N, or to N - 1 with `own_rows`.
        own_rows
            (Q,) reference row that each query is itself and must not find, -1 for none: the
            leave-one-out search.

        Returns
        -------
        Nearest
            Distances and rows, (Q, k).

        Raises
        ------
        AsdError
            If k is larger than the reference allows, a query is not finite or has another width.
        """
        self._check(queries, k + (own_rows is not None))
        if not len(queries):
            return Nearest(np.empty((0, k)), np.empty((0, k), dtype=np.intp))
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        own = np.full(len(queries), -1) if own_rows is None else own_rows
        count = min(len(self), k + 1 + _SPARE)
        proposed, rows = self._index.search(queries, count)
        squared = self._squared(queries, rows)
        found = _smallest(squared, rows, own, k)
        if count < len(self):
            # The last proposal bounds what was not proposed, up to float32's error.
            doubt = found.distances[:, -1] ** 2 + self._error(queries) >= proposed[:, -1]
            for query in np.flatnonzero(doubt):
                one = slice(query, query + 1)
                every = np.arange(len(self))[None]
                exact = _smallest(self._squared(queries[one], every), every, own[one], k)
                found.distances[query], found.rows[query] = exact.distances[0], exact.rows[0]
        return found

    def to_bytes(self) -> bytes:
        """Serialise as a FAISS index file, readable by ``faiss.read_index``."""
        return bytes(faiss.serialize_index(self._index).tobytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> NearestNeighbours:
        """Read what `to_bytes` wrote.

        Raises
        ------
        AsdError
            If it is not a flat Euclidean FAISS index.
        """
        try:
            index = faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
        except RuntimeError as error:
            raise AsdError(f"not a FAISS index: {str(error).splitlines()[0]}") from error
        if not isinstance(index, faiss.IndexFlat) or index.metric_type != faiss.METRIC_L2:
            raise AsdError(f"a {type(index).__name__} where a flat Euclidean index is expected")
        made = cls.__new__(cls)
        made._index = index  # noqa: SLF001 (an alternative constructor)
        made._set_vectors()  # noqa: SLF001
        return made

    def _set_vectors(self) -> None:
        flat = faiss.rev_swig_ptr(self._index.get_xb(), self._index.ntotal * self._index.d)
        self.vectors: NDArray[np.float32] = flat.reshape(len(self), -1)  # a view, not a copy
        self._largest = float(np.einsum("nd,nd->n", self.vectors, self.vectors).max())

    def _check(self, queries: NDArray[np.float32], needed: int) -> None:
        if needed > len(self):
            raise AsdError(f"{needed} neighbours asked of a reference of {len(self)}; lower k")
        if queries.ndim != 2 or queries.shape[1] != self.width:
            raise AsdError(
                f"queries of shape {queries.shape} against a reference of {self.width} values"
            )
        _check_finite(queries, "query")

    def _squared(self, queries: NDArray[np.float32], rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """(Q, C) squared distances to the rows proposed for each query (or to the same for all)."""
        squared = np.empty((len(queries), rows.shape[1]))
        step = max(1, _CHUNK // (rows.shape[1] * self.width))
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            near, query = self.vectors[rows[part]], queries[part, None, :]  # (q, C, D), (q, 1, D)
            difference = np.subtract(near, query, dtype=np.float64)
            squared[part] = np.square(difference, out=difference).sum(axis=-1)
        return squared

    def _error(self, queries: NDArray[np.float32]) -> NDArray[np.float64]:
        lengths = np.einsum("qd,qd->q", queries, queries, dtype=np.float64)
        return np.asarray(_TOLERANCE * (lengths + self._largest))


def _smallest(
    squared: NDArray[np.float64], rows: NDArray[np.intp], own: NDArray[np.intp], k: int
) -> Nearest:
    """Order candidates by distance, then row; leave each query's own row out."""
    squared = np.where(rows == own[:, None], np.inf, squared)
    order = np.lexsort((np.broadcast_to(rows, squared.shape), squared), axis=-1)[:, :k]
    picked = np.take_along_axis(np.broadcast_to(rows, squared.shape), order, axis=1)
    return Nearest(np.sqrt(np.take_along_axis(squared, order, axis=1)), picked)


def _check_finite(vectors: NDArray[np.float32], what: str) -> None:
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        raise AsdError(f"{what} {bad[0]} and {bad.size - 1} more hold NaN or infinity")
