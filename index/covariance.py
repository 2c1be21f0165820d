"""A shrunk covariance in its own axes, for more values than clips as for fewer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Covariance:
    """``(1 - a) S + a mu I`` about a mean, S the covariance of n clips of D values.

    Attributes
    ----------
    mean
        (D,).
    axes
        (r, D) orthonormal rows, r <= min(n, D): the directions in which the clips vary.
    variances
        (r,) of S along the axes.
    shrinkage
        a in [0, 1].
    level
        mu, the mean variance ``trace(S) / D``; 1 where the clips do not vary.
    count
        n.
    """

    mean: Floats
    axes: Floats
    variances: Floats
    shrinkage: float
    level: float
    count: int

    def squared(self, vectors: NDArray[np.float32]) -> Floats:
        """Squared Mahalanobis distance of (Q, D) vectors to the mean, (Q,).

        One vector at a time: the last bits of a matrix product depend on its number of rows.
        """
        return np.array([self._form(vector - self.mean, self.variances) for vector in vectors])

    def squared_left_out(self, vectors: NDArray[np.float32]) -> Floats:
        """Squared distance of (Q, D) clips that are among the n, each to the others, n >= 2.

        Shrinkage and level are kept. With delta the distance to the mean of all,
        ``A = (1 - a) n / (n - 1) S + a mu I`` and ``c = (1 - a) n / (n - 1)^2``, the covariance
        without the clip is ``A - c delta delta'``, and by Sherman and Morrison (1950) the distance
        is ``(n / (n - 1))^2 g / (1 - c g)``, ``g = delta' A^-1 delta``.
        """
        n = self.count
        variances = self.variances * n / (n - 1)
        g = np.array([self._form(vector - self.mean, variances) for vector in vectors])
        c = (1 - self.shrinkage) * n / (n - 1) ** 2
        return np.asarray((n / (n - 1)) ** 2 * g / np.maximum(1 - c * g, 1e-12))

    def _form(self, offset: Floats, variances: Floats) -> float:
        along = self.axes @ offset  # (r,)
        rest = max(0.0, float(offset @ offset - along @ along))
        floor = self.shrinkage * self.level
        inside = (1 - self.shrinkage) * variances + floor
        return float((along**2 / inside).sum() + rest / max(floor, 1e-12 * self.level))


def fit_covariance(vectors: NDArray[np.float32], shrinkage: float | None) -> Covariance:
    """Fit a covariance.

    Parameters
    ----------
    vectors
        (n, D), n >= 1.
    shrinkage
        In (0, 1]; ``None`` for that of Ledoit and Wolf (2004), eq. 14 and Lemmas 3.2-3.4, found
        here from the n x n inner products so that D may be large.

    Returns
    -------
    Covariance
        Of full shrinkage where the clips do not vary.
    """
    values = vectors.astype(np.float64)
    mean = values.mean(axis=0)
    centred = values - mean
    n, width = centred.shape
    level = float(np.square(centred).sum() / n / width)
    if level <= 1e-12 * float(np.square(values).mean()):
        return Covariance(mean, np.empty((0, width)), np.empty(0), 1.0, level or 1.0, n)
    amount = _ledoit_wolf(centred, level) if shrinkage is None else shrinkage
    variances, axes = _principal_axes(centred)
    return Covariance(mean, axes, variances, amount, level, n)


def _principal_axes(centred: Floats) -> tuple[Floats, Floats]:
    """Variances (r,) and axes (r, D), by the smaller of the two products."""
    n, width = centred.shape
    if n < width:
        squares, left = np.linalg.eigh(centred @ centred.T)  # (n, n)
        kept = squares > 1e-10 * squares[-1]
        return squares[kept] / n, (left[:, kept] / np.sqrt(squares[kept])).T @ centred
    squares, axes = np.linalg.eigh(centred.T @ centred)
    return np.maximum(squares, 0.0) / n, axes.T


def _ledoit_wolf(centred: Floats, level: float) -> float:
    n, width = centred.shape
    product = centred @ centred.T if n < width else centred.T @ centred
    norm = float(np.square(product).sum()) / n**2  # |S|^2, the same for both products
    fourth = float(np.square(np.square(centred).sum(axis=1)).sum())
    distance = norm / width - level**2  # of S to mu I
    noise = (fourth / n - norm) / n / width
    return min(1.0, noise / distance) if distance > 0 else 1.0
