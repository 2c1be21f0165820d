"""Which training clips are left out together when a threshold is learnt."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cache.table import EmbeddingTable
from cache.windows import split_id

# Embeddings of one sound differ by rounding alone, relative to their length: float32 sums in
# another order for another batch (DESIGN: at most 1e-5).
_SAME = 1e-5
_PROJECTED = 8


def originals(table: EmbeddingTable) -> NDArray[np.intp]:
    """Row that first holds the sound of each row, (N,); a clip that is no copy gives its own.

    Copies are clips of one content (SHA-256 and span of the file), and clips whose embeddings
    differ by no more than rounding, as the same samples in two file formats do.

    Parameters
    ----------
    table
        (N, D) clips of one section.
    """
    first = np.arange(len(table))
    held: dict[tuple[str, object], int] = {}
    for row, key in enumerate(table.keys):
        if key.content_sha256:
            first[row] = held.setdefault((key.content_sha256, split_id(key.clip_id)[1]), row)
    pairs = np.column_stack([np.arange(len(table)), first])
    return _joined(len(table), np.concatenate([pairs, _equal_embeddings(table.embeddings)]))


def without_copies(table: EmbeddingTable) -> EmbeddingTable:
    """Return the table with one clip of each sound and domain, the first one."""
    first = originals(table)
    seen: set[tuple[int, str | None]] = set()
    rows = []
    for row, key in enumerate(table.keys):
        sound = int(first[row]), key.domain
        if sound not in seen:
            seen.add(sound)
            rows.append(row)
    return table if len(rows) == len(table) else table.select(rows)


def _equal_embeddings(embeddings: NDArray[np.float32]) -> NDArray[np.intp]:
    """(P, 2) pairs of rows that are equal up to rounding; each chain of them is whole."""
    held: dict[bytes, int] = {}
    first = [held.setdefault(vector.tobytes(), row) for row, vector in enumerate(embeddings)]
    exact = np.column_stack([np.arange(len(first)), first])
    rows = np.array(list(held.values()), dtype=np.intp)
    values = embeddings[rows].astype(np.float64)
    lengths = np.sqrt(np.square(values).sum(axis=1))
    # An orthonormal projection makes no distance longer, and a tree is fast in a few dimensions.
    few = min(_PROJECTED, values.shape[1])
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(values.shape[1], few)))[0]
    limit = _SAME * float(lengths.max(initial=0.0))
    near = cKDTree(values @ axes).query_pairs(limit, output_type="ndarray")
    apart = np.array([np.linalg.norm(values[a] - values[b]) for a, b in near.tolist()])
    same = apart <= _SAME * lengths[near].max(axis=1, initial=0.0)
    return np.concatenate([exact, rows[near[same]]])


def _joined(count: int, pairs: NDArray[np.intp]) -> NDArray[np.intp]:
    """Least row of each row's connected component, (count,)."""
    least = np.arange(count)
    for one, other in pairs.tolist():
        a, b = _root(least, one), _root(least, other)
        least[max(a, b)] = min(a, b)
    return np.array([_root(least, row) for row in range(count)], dtype=np.intp)


def _root(least: NDArray[np.intp], row: int) -> int:
    while least[row] != row:
        row = int(least[row])
    return row
