"""A shrunk covariance in its own axes, for more values than clips as for fewer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ROWS = 64  # of every matrix product: the last bits of one depend on its shape


@dataclass(frozen=True)
class Covariance:
    """``(1 - a) S + a mu I`` about a mean, S the covariance of n observations of D values.

    An observation is a clip, or a frame where frames are streamed.

    Attributes
    ----------
    mean
        (D,).
    axes
        (r, D) orthonormal rows, r <= min(n, D): the directions in which the observations vary.
    variances
        (r,) of S along the axes.
    shrinkage
        a in [0, 1].
    level
        mu, the mean variance ``trace(S) / D``; 1 where the observations do not vary.
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
        """Squared Mahalanobis distance of (Q, D) vectors to the mean, (Q,)."""
        return self._form(vectors - self.mean, self.variances)

    def squared_left_out(self, vectors: NDArray[np.float32]) -> Floats:
        """Squared distance of (Q, D) clips that are among the n, each to the others, n >= 2.

        Shrinkage and level are kept. With delta the distance to the mean of all,
        ``A = (1 - a) n / (n - 1) S + a mu I`` and ``c = (1 - a) n / (n - 1)^2``, the covariance
        without the clip is ``A - c delta delta'``, and by Sherman and Morrison (1950) the distance
        is ``(n / (n - 1))^2 g / (1 - c g)``, ``g = delta' A^-1 delta``.
        """
        n = self.count
        variances = self.variances * n / (n - 1)
        g = self._form(vectors - self.mean, variances)
        c = (1 - self.shrinkage) * n / (n - 1) ** 2
        return np.asarray((n / (n - 1)) ** 2 * g / np.maximum(1 - c * g, 1e-12))

    def squared_length(self, offsets: Floats) -> Floats:
        """``e' A^-1 e`` of (Q, D) offsets that lie in the span of the axes, (Q,); A not singular."""
        return np.asarray(np.square(offsets @ (self.axes.T / np.sqrt(self.shrunk))).sum(axis=1))

    @property
    def shrunk(self) -> Floats:
        """Variances along the axes after shrinkage, (r,)."""
        return (1 - self.shrinkage) * self.variances + self.shrinkage * self.level

    @property
    def singular(self) -> bool:
        """Whether it cannot be inverted in the span of the axes, as `numpy.linalg.matrix_rank` has it."""
        shrunk = self.shrunk
        return not shrunk.min() > shrunk.max() * len(shrunk) * np.finfo(np.float64).eps

    def _form(self, offsets: Floats, variances: Floats) -> Floats:
        along = np.square(row_products(offsets, self.axes))  # (Q, r)
        rest = np.maximum(0.0, np.square(offsets).sum(axis=1) - along.sum(axis=1))
        inside = (1 - self.shrinkage) * variances + self.shrinkage * self.level
        return np.asarray((along / inside).sum(axis=1) + rest / self.floor)

    @property
    def floor(self) -> float:
        """Variance in the directions in which the clips do not vary, above 0."""
        return max(self.shrinkage, 1e-12) * self.level


@dataclass(frozen=True)
class Whitening:
    """A map after which Euclidean distances are Mahalanobis distances.

    Attributes
    ----------
    centre
        (D,).
    axes
        (r, D) orthonormal rows that span the clips it was fitted to.
    scale
        (r,) standard deviations along them.
    rest
        Standard deviation in every other direction; their part of a vector, whichever it is, has
        one coordinate, its length.
    """

    centre: Floats
    axes: Floats
    scale: Floats
    rest: float

    @property
    def width(self) -> int:
        """Coordinates of a whitened vector: r + 1."""
        return len(self.scale) + 1

    def apply(self, vectors: NDArray[Any]) -> Floats:
        """Whiten (Q, D) vectors: (Q, r + 1).

        Distances between vectors are exact where one of both lies in the span of the clips, as they
        and their means do.
        """
        # In C order: a sum along a row adds in another order where its values lie apart.
        offsets = np.ascontiguousarray(vectors - self.centre)
        along = row_products(offsets, self.axes)
        square = np.square(offsets).sum(axis=1)
        # Of a vector inside the span nothing is left but rounding errors.
        left = square - np.square(along).sum(axis=1)
        beside = np.sqrt(np.where(left > 1e-12 * square, left, 0.0)) / self.rest
        return np.concatenate([along / self.scale, beside[:, None]], axis=1)


def whitening(covariance: Covariance, points: Floats) -> Whitening:
    """Make the whitening of a covariance.

    Parameters
    ----------
    covariance
        Of D values.
    points
        (P, D) that are to lie in the span beside the clips, the means of domains.
    """
    centre = points.mean(axis=0)
    axes, scale = covariance.axes, np.sqrt(np.maximum(covariance.shrunk, covariance.floor))
    for point in points[1:]:
        offset = point - centre
        for _ in range(2):  # twice is enough (Giraud, Langou and Rozloznik 2005)
            offset = offset - axes.T @ (axes @ offset)
        length = float(np.sqrt(offset @ offset))
        if length > 1e-6 * float(np.sqrt(np.square(point - centre).sum())) and len(axes) < len(centre):
            axes = np.concatenate([axes, offset[None] / length])
            scale = np.append(scale, np.sqrt(covariance.floor))
    return Whitening(centre, axes, scale, float(np.sqrt(covariance.floor)))


def row_products(vectors: NDArray[Any], matrix: Floats) -> Floats:
    """Multiply ``vectors @ matrix.T``, (Q, D) by (r, D); no row's bits depend on the others.

    Rows go through products of one fixed shape, the last one filled up with zeros: a library
    chooses its order of summation by the shape of a product, and for a shape sums every row alike.
    """
    made = np.empty((len(vectors), len(matrix)))
    for start in range(0, len(vectors), _ROWS):
        block = np.zeros((_ROWS, matrix.shape[1]))
        part = vectors[start : start + _ROWS]
        block[: len(part)] = part
        made[start : start + len(part)] = (block @ matrix.T)[: len(part)]
    return made


def fit_covariance(vectors: NDArray[Any], shrinkage: float | None) -> Covariance:
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
    few = n < width  # then by the smaller of the two products
    product = centred @ centred.T if few else centred.T @ centred
    if shrinkage is None:
        norm = float(np.square(product).sum()) / n**2  # |S|^2, the same for both products
        fourth = float(np.square(np.square(centred).sum(axis=1)).sum())
        shrinkage = _ledoit_wolf((fourth / n - norm) / n / width, norm / width - level**2)
    squares, own = np.linalg.eigh(product)
    if few:
        kept = squares > 1e-10 * squares[-1]
        squares = squares[kept]
        axes = (own[:, kept] / np.sqrt(squares)).T @ centred
    else:
        axes = own.T
    return Covariance(mean, axes, np.maximum(squares, 0.0) / n, shrinkage, level, n)


def fit_streamed(blocks: Callable[[], Iterable[Floats]], shrinkage: float | None) -> Covariance:
    """Fit the covariance of observations that come in blocks, S as `numpy.cov` gives it, n - 1 below.

    What is held does not grow with the number of blocks.

    Parameters
    ----------
    blocks
        Gives (n_c, D) blocks, the same at every call, at least one; called twice where the shrinkage
        is to be found.
    shrinkage
        In [0, 1]; ``None`` for that of Ledoit and Wolf (2004), eq. 14, with a block as observation:
        frames of one clip are much alike, and thousands of them do not make ten clips a good sample.
        With S_c a block's second moments about the common mean and w_c its share of the rows,
        ``min(1, sum_c w_c^2 |S_c - S|^2 / |S - mu I|^2)``; 1 for a single block, which cannot tell how
        blocks differ. For blocks of one row this is Ledoit and Wolf's own.
    """
    count, total, products = 0, np.zeros(1), np.zeros((1, 1))
    for rows in blocks():
        count += len(rows)
        total = total + rows.sum(axis=0)
        products = products + rows.T @ rows
    mean = total / count
    matrix = (products - count * np.outer(mean, mean)) / max(1, count - 1)
    width = len(matrix)
    level = float(matrix.trace()) / width
    if shrinkage is None:
        noise, seen = 0.0, 0
        for rows in blocks():
            centred, seen = rows - mean, seen + 1
            noise += float(np.square(centred.T @ centred - len(rows) * matrix).sum()) / count**2
        distance = float(np.square(matrix - level * np.eye(width)).sum())
        shrinkage = _ledoit_wolf(noise, distance if seen > 1 else 0.0)
    variances, axes = np.linalg.eigh(matrix)
    return Covariance(mean, axes.T, variances, shrinkage, level, count)


def _ledoit_wolf(noise: float, distance: float) -> float:
    """Shrinkage by what the observations say of the noise of S and of its distance to mu I."""
    return min(1.0, noise / distance) if distance > 0 else 1.0
