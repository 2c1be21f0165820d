"""Where normal ends: thresholds and p-values from the scores of training clips alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cache.errors import AsdError

Floats = NDArray[np.float64]

ENOUGH = 20  # normal clips from which one in ten is more than a guess: two of them lie above


@dataclass(frozen=True)
class Threshold:
    """Scores above `value` are called anomalous.

    Attributes
    ----------
    value
        Infinite where there was nothing to learn from: no training scores, or scores that do not
        vary, as two clips give or silent ones. Then nothing is called anomalous.
    method
        One of `METHODS`.
    percentile
        Share of normal clips meant to lie at or below, %.
    parameters
        What was fitted on the way, by name.
    """

    value: float
    method: str
    percentile: float
    parameters: Mapping[str, float] = field(default_factory=dict)

    def decide(self, scores: Floats) -> NDArray[np.int64]:
        """Return 1 for anomalous, 0 for normal, (Q,)."""
        return (scores > self.value).astype(np.int64)


def fit_threshold(
    train_scores: Floats, method: str = "gamma", percentile: float = 90.0
) -> Threshold:
    """Learn a threshold.

    Parameters
    ----------
    train_scores
        (n,) float64, finite, leave-one-out: a clip is at distance 0 from itself.
    method
        ``gamma``, the task's own: `gamma_percentile`; ``quantile``: the scores' empirical quantile
        (linear interpolation); ``conformal``: `conformal_quantile`.
    percentile
        In (0, 100).

    Returns
    -------
    Threshold
        Of infinite value where n is 0 or all scores are the same.

    Raises
    ------
    AsdError
        If the method is unknown or the percentile is out of range.
    """
    if not 0 < percentile < 100:
        raise AsdError(f"--percentile {percentile} must lie between 0 and 100")
    if method not in METHODS:
        raise AsdError(f"unknown threshold {method!r}; known are {', '.join(METHODS)}")
    if not vary(train_scores):
        return Threshold(math.inf, method, percentile)
    value, parameters = METHODS[method](train_scores, percentile / 100)
    return Threshold(value, method, percentile, parameters)


def vary(train_scores: Floats) -> bool:
    """Whether there are scores that differ by more than rounding, so that they tell a spread."""
    if not train_scores.size:
        return False
    low, high = float(train_scores.min()), float(train_scores.max())
    # Relative for distances; z-scores, which lie about 0, are of the order of 1.
    return high - low > max(1e-9 * max(abs(low), abs(high)), 1e-12)


def gamma_percentile(train_scores: Floats, share: float) -> tuple[float, dict[str, float]]:
    """Quantile of a gamma distribution fitted to the scores.

    DCASE 2023 Task 2 (Dohi et al. 2023), eq. (1); the task's baseline takes the 90th percentile.
    Scores from 0, which distances are, are fitted by maximum likelihood from 0. Others, logarithms
    and z-scores, have no natural zero: their location is found too, by the moments (mean, variance,
    skewness; a skewness below 0.05 counts as 0.05, which is all but normal). The scores must
    `vary`.
    """
    from scipy import stats  # noqa: PLC0415 -- heavy, and a bank that is read needs none of it

    if train_scores.min() >= 0:
        # Maximum likelihood takes logarithms: a duplicate's 0 becomes a very small distance.
        floored = np.maximum(train_scores, 1e-6 * float(train_scores.mean()))
        shape, location, scale = stats.gamma.fit(floored, floc=0)
    else:
        skewness, deviation = max(0.05, float(stats.skew(train_scores))), train_scores.std()
        shape, scale = 4 / skewness**2, deviation * skewness / 2
        location = train_scores.mean() - 2 * deviation / skewness
    value = float(stats.gamma.ppf(share, shape, location, scale))
    return value, {"shape": float(shape), "location": float(location), "scale": float(scale)}


def conformal_quantile(train_scores: Floats, share: float) -> tuple[float, dict[str, float]]:
    """Take the ceil(share (n + 1))-th smallest training score; infinite where n is too small.

    Conformal prediction (Vovk et al. 2005; Lei et al. 2018, eq. 2): for exchangeable scores the
    rate of false alarms is at most ``1 - share`` whatever their distribution, and less by at most
    ``1 / (n + 1)``. The same decisions as ``p_values <= 1 - share``.
    """
    rank = math.ceil(round(share * (len(train_scores) + 1), 9))
    value = float(np.sort(train_scores)[rank - 1]) if rank <= len(train_scores) else math.inf
    return value, {"rank": float(rank)}


def p_values(train_scores: Floats, scores: Floats) -> Floats:
    """Conformal p-values: ``(1 + #{train scores >= score}) / (n + 1)``.

    Parameters
    ----------
    train_scores
        (n,) leave-one-out scores of training clips.
    scores
        (Q,) scores of test clips.

    Returns
    -------
    ndarray
        (Q,) in (0, 1]: how often a normal clip would score as high. Calling clips of p <= a
        anomalous gives at most a share a of false alarms.
    """
    below = np.searchsorted(np.sort(train_scores), scores, side="left")
    return np.asarray((1 + len(train_scores) - below) / (len(train_scores) + 1))


def largest_limit(threshold: Threshold, train_scores: Callable[[], Floats], count: int) -> float:
    """Limit for the largest of several scores, as a file of several windows has.

    The same share of normal files lies below it as of normal clips below the threshold: the
    percentile's `count`-th root (Sidak 1967). That holds for independent windows; those of one file
    are alike, which makes false alarms rarer, not more frequent.

    Parameters
    ----------
    threshold
        Of single scores.
    train_scores
        Gives the (n,) scores it was learnt from.
    count
        How many scores, from 1.
    """
    if count == 1 or math.isinf(threshold.value):
        return threshold.value
    percentile = 100 * (threshold.percentile / 100) ** (1 / count)
    return fit_threshold(train_scores(), threshold.method, percentile).value


def largest_p_values(train_scores: Floats, scores: Floats, counts: NDArray[np.intp]) -> Floats:
    """`p_values` of the largest of several scores each: ``1 - (1 - p)^count`` (Sidak 1967).

    Parameters
    ----------
    train_scores, scores
        As of `p_values`.
    counts
        (Q,) of how many scores each is the largest.
    """
    single = p_values(train_scores, scores)
    return np.where(counts == 1, single, 1 - (1 - single) ** counts)


def _empirical(train_scores: Floats, share: float) -> tuple[float, dict[str, float]]:
    return float(np.quantile(train_scores, share)), {}


METHODS: Mapping[str, Callable[[Floats, float], tuple[float, dict[str, float]]]] = {
    "gamma": gamma_percentile,
    "quantile": _empirical,
    "conformal": conformal_quantile,
}
