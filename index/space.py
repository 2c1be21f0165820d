"""The space distances are measured in: centred, standardised, on the unit sphere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cache.errors import AsdError

Metric = Literal["euclidean", "cosine"]


@dataclass(frozen=True)
class Space:
    """A transform of embeddings fitted on training clips.

    Attributes
    ----------
    metric
        ``cosine`` puts every vector on the unit sphere (the zero vector stays where it is).
    centre, scale
        (D,) float64: ``(x - centre) / scale`` comes first.
    """

    metric: Metric
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]

    def apply(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Transform (N, D) embeddings.

        Raises
        ------
        AsdError
            If they have another width than the training clips.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != len(self.centre):
            raise AsdError(
                f"embeddings of shape {embeddings.shape} against training clips of "
                f"{len(self.centre)} values; extract both with one recipe"
            )
        moved = (embeddings.astype(np.float64) - self.centre) / self.scale
        if self.metric == "cosine":
            length = np.sqrt(np.square(moved).sum(axis=1, keepdims=True))
            moved /= np.where(length > 0, length, 1.0)
        return moved.astype(np.float32)

    def distance(self, euclidean: NDArray[np.float64]) -> NDArray[np.float64]:
        """Euclidean distance between transformed vectors to this space's own distance.

        The cosine distance ``1 - cos(x, y)`` of unit vectors is ``|x - y|^2 / 2``.
        """
        return euclidean**2 / 2 if self.metric == "cosine" else euclidean


def fit_space(reference: NDArray[np.float32], metric: Metric, *, standardise: bool) -> Space:
    """Fit a space to the training clips of a section.

    Parameters
    ----------
    reference
        (N, D) float32, N >= 1.
    metric
        ``euclidean`` or ``cosine``.
    standardise
        Divide each value by its standard deviation over the training clips, about their mean; a
        value that never changes is only centred.

    Returns
    -------
    Space
        Centred for Euclidean distances in any case, which changes none of them but spares float32
        the digits of a common offset; not centred for the plain cosine.
    """
    width = reference.shape[1]
    mean = reference.mean(axis=0, dtype=np.float64)
    if not standardise:
        return Space(metric, np.zeros(width) if metric == "cosine" else mean, np.ones(width))
    deviation = reference.std(axis=0, dtype=np.float64)
    # A constant float32 column has a rounding error for a deviation, not a spread.
    constant = deviation <= 1e-6 * np.abs(mean)
    return Space(metric, mean, np.where(constant, 1.0, deviation))
