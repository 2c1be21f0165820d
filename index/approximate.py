"""An inverted-file index for more vectors than an exact search is comfortable with."""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError

_SAMPLE = 512  # reference vectors that recall is measured with
_TRAINING = 64  # vectors a cell that k-means sees, of the 39 to 256 that FAISS advises


@dataclass(frozen=True)
class InvertedIndex:
    """A built index.

    Attributes
    ----------
    index
        Cells of vectors, of which ``index.nprobe`` are searched.
    recall
        Measured recall@1 against the exact search.
    """

    index: faiss.IndexIVFFlat
    recall: float


def build_inverted(vectors: NDArray[np.float32], least_recall: float) -> InvertedIndex:
    """Build an inverted-file index (Jegou et al. 2011) and search as many cells as recall takes.

    Memory is 4 D + 8 bytes a vector beside the vectors themselves; building takes about
    2 x 10 x 64 x cells^2 x D operations, cells = 4 sqrt(N).

    Parameters
    ----------
    vectors
        (N, D) float32.
    least_recall
        In (0, 1]: how many of evenly spaced reference vectors must find their nearest other one.

    Returns
    -------
    Inverted
        With the smallest power of two of cells searched that reaches the recall.

    Raises
    ------
    AsdError
        If a quarter of the cells does not reach it: an exact search is as fast then.
    """
    count, width = vectors.shape
    cells = max(1, min(int(4 * np.sqrt(count)), count // 39))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, cells, faiss.METRIC_L2)
    seen = np.linspace(0, count - 1, min(count, _TRAINING * cells)).astype(np.int64)
    index.train(vectors[seen])
    index.add(vectors)
    sample = np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.int64)
    flat = faiss.IndexFlatL2(width)
    flat.add(vectors)
    exact = _nearest_other(flat, vectors, sample)
    recall, index.nprobe = 0.0, 1
    while index.nprobe <= max(1, cells // 4):
        recall = float((_nearest_other(index, vectors, sample) <= exact * (1 + 1e-5)).mean())
        if recall >= least_recall:
            return InvertedIndex(index, recall)
        index.nprobe *= 2
    raise AsdError(
        f"the inverted-file index of {count} vectors reaches a recall@1 of {recall:.3f} only, "
        f"below {least_recall}; use --search exact, or accept it with --recall {recall:.2f}"
    )


def _nearest_other(
    index: faiss.Index, vectors: NDArray[np.float32], sample: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(n,) squared distance of sampled vectors to the nearest that is not themselves."""
    squared, rows = index.search(vectors[sample], 2)
    return np.asarray(np.where(rows[:, 0] == sample, squared[:, 1], squared[:, 0]))
