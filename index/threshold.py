"""Where normal ends: a threshold from the scores of training clips alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cache.errors import AsdError


@dataclass(frozen=True)
class Threshold:
    """Scores above `value` are called anomalous.

    Attributes
    ----------
    value
        Infinite where there were no training scores to learn from.
    percentile
        Share of normal clips meant to lie below, %.
    shape, location, scale
        Of the gamma distribution fitted; 0 shape where the scores do not vary.
    """

    value: float
    percentile: float
    shape: float
    location: float
    scale: float

    def decide(self, scores: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return 1 for anomalous, 0 for normal, (Q,)."""
        return (scores > self.value).astype(np.int64)


def fit_gamma(train_scores: NDArray[np.float64], percentile: float = 90.0) -> Threshold:
    """Fit a gamma distribution to training scores and take its percentile.

    DCASE 2023 Task 2 (Dohi et al. 2023), eq. (1): the threshold is a percentile, 90 in the task's
    baseline, of a gamma distribution fitted by maximum likelihood. Scores are leave-one-out, since
    a clip is at distance 0 from itself. The location is 0 for scores that are distances; scores
    with negative values are first moved to start at 0.

    Parameters
    ----------
    train_scores
        (n,) float64, finite, leave-one-out.
    percentile
        In (0, 100).

    Returns
    -------
    Threshold
        Of infinite value where n is 0, of the largest score where the scores do not vary.

    Raises
    ------
    AsdError
        If the percentile is out of range.
    """
    if not 0 < percentile < 100:
        raise AsdError(f"--percentile {percentile} must lie between 0 and 100")
    if not train_scores.size:
        return Threshold(np.inf, percentile, 0.0, 0.0, 0.0)
    location = min(0.0, float(train_scores.min()))
    moved = train_scores - location
    # Maximum likelihood takes logarithms: a duplicate clip's 0 becomes a very small distance.
    floored = np.maximum(moved, 1e-6 * float(moved.mean()))
    if np.ptp(floored) <= 1e-9 * float(np.abs(floored).max()):
        return Threshold(float(train_scores.max()), percentile, 0.0, location, 0.0)
    shape, _, scale = stats.gamma.fit(floored, floc=0)
    value = location + stats.gamma.ppf(percentile / 100, shape, scale=scale)
    return Threshold(float(value), percentile, float(shape), location, float(scale))
