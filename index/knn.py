"""Nearest neighbours: FAISS proposes a few candidates, float64 decides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError

SearchKind = Literal["auto", "exact", "inverted"]

_SPARE = 4  # candidates beyond k: room for what float32 puts in the wrong order
_CHUNK = 1 << 17  # float64 values (1 MiB, a core's cache) of distances computed again at once
_COSTS = 1 << 24  # float32 costs (64 MiB) held at once where a gain goes with every reference
# Float32 error of |q|^2 + |r|^2 - 2 q.r, relative to |q|^2 + |r|^2: 2^-24 times a dot product's
# error growth of about sqrt(D), D <= 10^4.
_TOLERANCE = 1e-5
EXACT_UP_TO = 200_000  # vectors; an exact search of 200 clips among them takes about a second
_READING = Lock()


@cache
def _faiss() -> Any:
    """Load FAISS where an index is made or read: a help page needs none, an exported bank has none."""
    import faiss  # noqa: PLC0415

    return faiss


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
    search
        ``exact``, ``inverted`` (an inverted-file index proposes, see `build_inverted`), or
        ``auto``: exact up to 200,000 vectors.
    recall
        Least recall@1 of an inverted-file index.

    Notes
    -----
    Memory is 4 D bytes a vector, 8 D + 8 with an inverted file; an exact search makes D
    multiplications a vector and query and holds a few MiB beside.

    Raises
    ------
    AsdError
        If the reference is empty or not finite, or an inverted file does not reach the recall.
    """

    def __init__(
        self,
        reference: NDArray[np.float32],
        search: SearchKind = "exact",
        recall: float = 0.99,
    ) -> None:
        if reference.ndim != 2 or 0 in reference.shape:
            raise AsdError(f"a reference of shape {reference.shape}: nothing to be near to")
        check_finite(reference, "reference")
        reference = np.ascontiguousarray(reference, dtype=np.float32)
        self._index: Any = _faiss().IndexFlatL2(reference.shape[1])
        self.recall = 1.0
        if search == "inverted" or (search == "auto" and len(reference) > EXACT_UP_TO):
            from index.approximate import build_inverted  # noqa: PLC0415 (FAISS)

            built = build_inverted(reference, recall)
            self._index, self.recall = built.index, built.recall
        else:
            self._index.add(reference)
        self._set_vectors()

    @classmethod
    def of_vectors(cls, vectors: NDArray[np.float32]) -> NearestNeighbours:
        """Search (N, D) float32 vectors exactly, by NumPy alone."""
        made = cls.__new__(cls)
        made._index, made.recall, made.vectors = None, 1.0, vectors  # noqa: SLF001 (an alternative constructor)
        made._measure()  # noqa: SLF001
        return made

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def is_exact(self) -> bool:
        """Whether the nearest vector is found for certain."""
        return self._index is None or isinstance(self._index, _faiss().IndexFlat)

    @property
    def width(self) -> int:
        """Values a vector, D."""
        return int(self.vectors.shape[1])

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        excluded: NDArray[np.intp] | None = None,
        gains: NDArray[np.float64] | None = None,
    ) -> Nearest:
        """Find the k nearest reference vectors of each query.

        Parameters
        ----------
        queries
            (Q, D) float32, finite.
        k
            From 1 to N, less by the rows excluded.
        excluded
            (Q, E) reference rows that each query must not find, padded with -1: the leave-one-out
            search.
        gains
            (N,) positive factors: nearest is then where ``gain * distance`` is smallest.

        Returns
        -------
        Nearest
            Distances, without gain, and rows, (Q, k).

        Raises
        ------
        AsdError
            If k is larger than the reference allows, a query is not finite or has another width.
        """
        excluded = np.full((len(queries), 1), -1) if excluded is None else excluded
        needed = k + int((excluded >= 0).sum(axis=1).max(initial=0))
        if needed > len(self):
            raise AsdError(f"{needed} neighbours asked of a reference of {len(self)}; lower k")
        if queries.ndim != 2 or queries.shape[1] != self.width:
            raise AsdError(f"queries of shape {queries.shape} against a reference of {self.width} values")
        check_finite(queries, "query")
        if not len(queries):
            return Nearest(np.empty((0, k)), np.empty((0, k), dtype=np.intp))
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        weights = np.ones(len(self)) if gains is None else np.square(gains)
        count = min(len(self), k + excluded.shape[1] + _SPARE)
        bound, rows = self._propose(queries, count, None if gains is None else weights)
        costs, found = self._smallest(queries, rows, weights, (excluded, k))
        if count < len(self):
            doubt = np.isinf(costs[:, -1])  # an inverted file's cells may hold too few
            if self.is_exact or gains is not None:
                lengths = np.einsum("qd,qd->q", queries, queries, dtype=np.float64)
                error = _TOLERANCE * (lengths + self._largest)
                # The last proposal bounds what was not proposed, up to float32's error.
                doubt |= costs[:, -1] + error * weights.max() >= bound
            for query in np.flatnonzero(doubt):
                one, every = slice(query, query + 1), np.arange(len(self))[None]
                rest = (excluded[one], k)
                costs[one], found[one] = self._smallest(queries[one], every, weights, rest)
        return Nearest(np.sqrt(costs / weights[found]), found)

    def to_bytes(self) -> bytes:
        """Serialise as a FAISS index file, readable by ``faiss.read_index``."""
        return bytes(_faiss().serialize_index(self._index).tobytes())

    @classmethod
    def from_bytes(cls, data: bytes, recall: float = 1.0) -> NearestNeighbours:
        """Read what `to_bytes` wrote, whose recall is known.

        Raises
        ------
        AsdError
            If it is not an index of `to_bytes`.
        """
        faiss = _faiss()
        try:
            with _bounded(len(data)):  # no part of a file is longer than the file, whatever it claims
                index = faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
        except RuntimeError as error:
            raise AsdError(f"not a FAISS index: {str(error).splitlines()[0]}") from error
        known = isinstance(index, faiss.IndexFlat | faiss.IndexIVFFlat)
        if not known or index.metric_type != faiss.METRIC_L2:
            raise AsdError(f"a {type(index).__name__} where a flat Euclidean index is expected")
        lists: Any = getattr(index, "invlists", None)
        if lists is not None and lists.compute_ntotal() != index.ntotal:
            raise AsdError(f"a FAISS index of {lists.compute_ntotal()} vectors that claims {index.ntotal}")
        made = cls.__new__(cls)
        made._index = index  # noqa: SLF001 (an alternative constructor)
        made.recall = recall
        made._set_vectors()  # noqa: SLF001
        return made

    def _set_vectors(self) -> None:
        faiss, index = _faiss(), self._index
        if isinstance(index, faiss.IndexFlat):
            flat = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d)
            self.vectors: NDArray[np.float32] = flat.reshape(index.ntotal, -1)  # a view, not a copy
        elif isinstance(index, faiss.IndexIVFFlat):
            index.make_direct_map()
            self.vectors = index.reconstruct_n(0, index.ntotal)
        self._measure()

    def _measure(self) -> None:
        self._largest = float(np.einsum("nd,nd->n", self.vectors, self.vectors).max())

    def _propose(
        self, queries: NDArray[np.float32], count: int, weights: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Cost of the last candidate (Q,) and candidates (Q, C), in float32's order."""
        if weights is None and self._index is not None:
            squared, proposed = self._index.search(queries, count)
            last = np.asarray(squared[:, -1], dtype=np.float64)
            return last, np.asarray(proposed, dtype=np.intp)
        bounds: list[NDArray[np.float32]] = []
        candidates: list[NDArray[np.intp]] = []
        lengths = np.einsum("nd,nd->n", self.vectors, self.vectors)
        step = max(1, _COSTS // len(self))
        for start in range(0, len(queries), step):
            part = queries[start : start + step]
            costs = np.einsum("qd,qd->q", part, part)[:, None] + lengths
            costs -= 2 * part @ self.vectors.T
            if weights is not None:
                costs *= weights
            best = np.argpartition(costs, count - 1, axis=1)[:, :count]
            bounds.append(np.take_along_axis(costs, best[:, -1:], axis=1)[:, 0])
            candidates.append(best)
        costs_of_last = np.asarray(np.concatenate(bounds), dtype=np.float64)
        return costs_of_last, np.concatenate(candidates)

    def _smallest(
        self,
        queries: NDArray[np.float32],
        rows: NDArray[np.intp],
        weights: NDArray[np.float64],
        wanted: tuple[NDArray[np.intp], int],
    ) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Weighted squared distances, in float64, and rows of the k best candidates, (Q, k)."""
        excluded, k = wanted
        costs = self._squared(queries, rows) * weights[rows]
        rows = np.broadcast_to(rows, costs.shape)
        costs[rows < 0] = np.inf  # how FAISS fills up
        for column in excluded.T:
            costs[rows == column[:, None]] = np.inf
        order = np.lexsort((rows, costs), axis=-1)[:, :k]
        return np.take_along_axis(costs, order, axis=1), np.take_along_axis(rows, order, axis=1)

    def _squared(self, queries: NDArray[np.float32], rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """(Q, C) squared distances to the rows proposed for each query, or to the same for all."""
        squared = np.empty((len(queries), rows.shape[1]))
        columns = max(1, _CHUNK // self.width)
        step = max(1, columns // rows.shape[1])
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            for first in range(0, rows.shape[1], columns):
                block = slice(first, first + columns)
                near, query = self.vectors[rows[part, block]], queries[part, None, :]
                difference = np.subtract(near, query, dtype=np.float64)  # (q, C, D)
                squared[part, block] = np.square(difference, out=difference).sum(axis=-1)
        return squared


@contextmanager
def _bounded(size: int) -> Iterator[None]:
    """Let FAISS read nothing longer than `size`; its limits are the process's, so one read at a time."""
    faiss = _faiss()
    with _READING:
        limits = {
            faiss.set_deserialization_vector_byte_limit: faiss.get_deserialization_vector_byte_limit(),
            faiss.set_deserialization_loop_limit: faiss.get_deserialization_loop_limit(),
        }
        try:
            for set_limit in limits:
                set_limit(size)
            yield
        finally:
            for set_limit, before in limits.items():
                set_limit(before)


def check_finite(vectors: NDArray[np.float32], what: str) -> None:
    """Refuse (Q, D) vectors that hold NaN or infinity, which no distance is known of.

    Raises
    ------
    AsdError
        Naming the first by `what` they are and its row.
    """
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        raise AsdError(f"{what} {bad[0]} and {bad.size - 1} more hold NaN or infinity")
