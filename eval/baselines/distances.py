"""Anomaly scores from what the autoencoder left over: closed forms on arrays, no torch.

Residuals of a clip are ``e = psi - r(psi)``, (T, 5, 128): T vectors psi of five frames of 128 mel
bands, D = 640 values each. Equations are those of Dohi et al. 2023, "Description and discussion on
DCASE 2023 Challenge Task 2" (arXiv 2305.07828).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError

Floats = NDArray[np.float64]
Residuals = NDArray[np.float32]  # (T, 5, 128)
Clips = Callable[[], Iterator[Residuals]]  # gives the residuals of the same clips at every call


def mean_square(residuals: Residuals) -> float:
    """Eq. (5): ``1/(D T) sum_t |psi_t - r(psi_t)|^2``."""
    return float(np.square(residuals, dtype=np.float64).mean())


@dataclass(frozen=True)
class ErrorCovariance:
    """Of the residuals of one domain's training clips, a variable a mel band.

    Every frame of every vector is an observation.

    Attributes
    ----------
    matrix
        (128, 128), shrunk.
    whitening
        (128, 128) W with ``W W' = matrix^-1``.
    shrinkage
        In [0, 1].
    """

    matrix: Floats
    whitening: Floats
    shrinkage: float

    def squared(self, rows: Floats) -> Floats:
        """``d' matrix^-1 d`` of (n, 128) rows, (n,); eqs. (7) and (8)."""
        return np.asarray(np.square(rows @ self.whitening).sum(axis=1))


def fit_covariance(clips: Clips, shrinkage: float | None) -> ErrorCovariance:
    """Fit the covariance ``(1 - a) S + a tr(S)/128 I``, S as `numpy.cov` gives it.

    Parameters
    ----------
    clips
        Residuals of the training clips; called twice where the shrinkage is to be found.
    shrinkage
        a in [0, 1]; ``None`` for `clip_shrinkage`.

    Returns
    -------
    Covariance
        Its memory does not grow with the number of clips.

    Raises
    ------
    AsdError
        If the matrix cannot be inverted.
    """
    count, mean, matrix = moments(clips())
    amount = clip_shrinkage(clips(), mean, matrix) if shrinkage is None else shrinkage
    level = float(matrix.trace()) / len(matrix)
    matrix = (1 - amount) * matrix + amount * level * np.eye(len(matrix))
    values, axes = np.linalg.eigh(matrix)
    # Singular as numpy.linalg.matrix_rank has it.
    if not values[0] > values[-1] * len(values) * np.finfo(np.float64).eps:
        raise AsdError(
            f"the covariance of {count} residuals of 128 bands cannot be inverted; "
            "give --shrinkage auto or a number above 0"
        )
    return ErrorCovariance(matrix, axes / np.sqrt(values), amount)


def moments(clips: Iterable[Residuals]) -> tuple[int, Floats, Floats]:
    """Count observations, their mean (128,) and covariance (128, 128) with n - 1 below."""
    count, total, products = 0, np.zeros(1), np.zeros((1, 1))
    for residuals in clips:
        rows = _rows(residuals)
        count += len(rows)
        total = total + rows.sum(axis=0)
        products = products + rows.T @ rows
    mean = total / count
    return count, mean, (products - count * np.outer(mean, mean)) / max(1, count - 1)


def clip_shrinkage(clips: Iterable[Residuals], mean: Floats, matrix: Floats) -> float:
    """Amount of shrinkage after Ledoit and Wolf (2004), eq. 14, with the clip as observation.

    Frames of one clip are much alike: that there are thousands does not make ten clips a good
    sample. With S_c a clip's second moments about the common mean and w_c its share of frames,
    ``min(1, sum_c w_c^2 |S_c - S|^2 / |S - tr(S)/128 I|^2)``; 1 for a single clip, which cannot
    tell how clips differ. For clips of one frame this is Ledoit and Wolf's own.

    Parameters
    ----------
    clips
        Residuals of the training clips.
    mean, matrix
        Their (128,) mean and (128, 128) covariance.
    """
    level = matrix.trace() / len(matrix)
    spread = float(np.square(matrix - level * np.eye(len(matrix))).sum())
    noise, counts = 0.0, []
    for residuals in clips:
        rows = _rows(residuals) - mean
        counts.append(len(rows))
        noise += float(np.square(rows.T @ rows - len(rows) * matrix).sum())
    if len(counts) == 1 or not spread > 0:
        return 1.0
    return min(1.0, noise / sum(counts) ** 2 / spread)


def frames_score(residuals: Residuals, covariances: Mapping[str, ErrorCovariance]) -> float:
    """Eq. (6) as printed: ``1/(D T) sum_t min(D_s(psi_t), D_t(psi_t))``.

    A vector's distance, eqs. (7) and (8), is the sum over its five frames under the covariance of
    the mel bands, so that a vector of training clips has D on average, and its clip 1 or less.
    """
    vectors, stack, bands = residuals.shape
    rows = _rows(residuals)
    distances = [own.squared(rows).reshape(vectors, stack).sum(axis=1) for own in _any(covariances)]
    return float(np.min(distances, axis=0).mean() / (stack * bands))


def clip_score(residuals: Residuals, covariances: Mapping[str, ErrorCovariance]) -> float:
    """``min(d' S_s^-1 d, d' S_t^-1 d)``, d (128,) the mean residual over all frames of the clip."""
    mean = _rows(residuals).mean(axis=0, keepdims=True)
    return min(float(own.squared(mean)[0]) for own in _any(covariances))


def _any(covariances: Mapping[str, ErrorCovariance]) -> Iterable[ErrorCovariance]:
    """Of one domain or both: where a section has no clips of one, the other decides alone."""
    if not covariances:
        raise AsdError("no covariance: a section needs training clips of one domain at least")
    return covariances.values()


def _rows(residuals: Residuals) -> Floats:
    return residuals.reshape(-1, residuals.shape[-1]).astype(np.float64)
