"""Where normal ends: thresholds and p-values from the scores of training clips alone.

Training clips may come in groups that were recorded together. Then each group counts the same,
however many clips it has: what is promised of a new clip is promised of one from a new group.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError

Floats = NDArray[np.float64]

# Seconds; a month and a year of the Gregorian calendar's mean length, 365.2425 days a year.
PERIODS = {"hour": 3600, "day": 86_400, "week": 604_800, "month": 2_629_746, "year": 31_556_952}
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
    train_scores: Floats,
    method: str = "gamma",
    percentile: float = 90.0,
    groups: NDArray[np.intp] | None = None,
) -> Threshold:
    """Learn a threshold.

    Parameters
    ----------
    train_scores
        (n,) float64, finite, leave-one-out: a clip is at distance 0 from itself.
    method
        ``gamma``, the task's own: `gamma_percentile`; ``quantile``: the scores'
        `empirical_quantile`; ``conformal``: `conformal_quantile`.
    percentile
        In (0, 100).
    groups
        (n,) the group of each; every clip is its own where there are none.

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
    weights = np.ones(len(train_scores)) if groups is None else group_weights(groups)
    value, parameters = METHODS[method](train_scores, percentile / 100, weights)
    return Threshold(value, method, percentile, parameters)


def share_of(rate: str, clip_interval: float) -> float:
    """Share of clips that a rate of false alarms is.

    Parameters
    ----------
    rate
        ``1/100``, one clip in a hundred, or ``1/month``: see `PERIODS`.
    clip_interval
        From one clip to the next, s.

    Raises
    ------
    AsdError
        If it is neither, or not a share between 0 and 1.
    """
    count, slash, unit = rate.strip().partition("/")
    try:
        of = PERIODS[unit] / clip_interval if unit in PERIODS else float(unit)
        share = float(count) / of
    except (ValueError, ZeroDivisionError):
        share = math.nan
    if not (slash and 0 < share < 1):
        raise AsdError(
            f"--false-alarms {rate}: expected fewer alarms than clips, as 1/100 or 1/day; periods "
            f"are {', '.join(PERIODS)}, at a clip every {clip_interval:g} s (--clip-interval)"
        )
    return share


def vary(train_scores: Floats) -> bool:
    """Whether there are scores that differ by more than rounding, so that they tell a spread."""
    if not train_scores.size:
        return False
    low, high = float(train_scores.min()), float(train_scores.max())
    # Relative for distances; z-scores, which lie about 0, are of the order of 1.
    return high - low > max(1e-9 * max(abs(low), abs(high)), 1e-12)


def group_weights(groups: NDArray[np.intp]) -> Floats:
    """Weight of each clip, (n,): one over the size of its group."""
    _, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(1 / sizes[place])


def gamma_percentile(train_scores: Floats, share: float, weights: Floats) -> tuple[float, dict[str, float]]:
    """Quantile of a gamma distribution fitted to the scores.

    DCASE 2023 Task 2 (Dohi et al. 2023), eq. (1); the task's baseline takes the 90th percentile.
    Scores from 0, which distances are, are fitted by maximum likelihood from 0. Others, logarithms
    and z-scores, have no natural zero: their location is found too, by the moments (mean, variance,
    skewness; a skewness below 0.05 counts as 0.05, which is all but normal). The scores must
    `vary`.
    """
    from scipy import stats  # noqa: PLC0415 -- heavy, and a bank that is read needs none of it

    weights = weights / weights.sum()
    mean = float(weights @ train_scores)
    if train_scores.min() >= 0:
        # Maximum likelihood takes logarithms: a duplicate's 0 becomes a very small distance.
        floored = np.maximum(train_scores, 1e-6 * mean)
        mean = float(weights @ floored)
        shape = _gamma_shape(math.log(mean) - float(weights @ np.log(floored)))
        location, scale = 0.0, mean / shape
    else:
        deviation = math.sqrt(float(weights @ np.square(train_scores - mean)))
        third = float(weights @ (train_scores - mean) ** 3)
        skewness = max(0.05, third / deviation**3)
        shape, scale = 4 / skewness**2, deviation * skewness / 2
        location = mean - 2 * deviation / skewness
    value = float(stats.gamma.ppf(share, shape, location, scale))
    return value, {"shape": shape, "location": location, "scale": scale}


def _gamma_shape(difference: float) -> float:
    """Solve ``log k - digamma(k) = log mean - mean log`` for k (Choi and Wette 1969).

    The left side lies between 1 / (2 k) and 1 / k, which brackets the root; 0 but for rounding, of
    scores that hardly vary, counts as 1e-14.
    """
    from scipy import optimize, special  # noqa: PLC0415 -- heavy, and a bank that is read needs none of it

    difference = max(difference, 1e-14)
    return float(
        optimize.brentq(
            lambda k: math.log(k) - float(special.digamma(k)) - difference,
            0.5 / difference * (1 - 1e-9),
            1 / difference * (1 + 1e-9),
            xtol=1e-12,
            rtol=1e-14,
        )
    )


def empirical_quantile(train_scores: Floats, share: float, weights: Floats) -> tuple[float, dict[str, float]]:
    """Quantile of the scores themselves.

    By linear interpolation where all weigh the same, else the least score that a share of the
    weight does not exceed.
    """
    if np.all(weights == weights[0]):
        return float(np.quantile(train_scores, share)), {}
    found = np.quantile(train_scores, share, weights=weights, method="inverted_cdf")
    return float(found), {}


def conformal_quantile(train_scores: Floats, share: float, weights: Floats) -> tuple[float, dict[str, float]]:
    """Least score that a share of the weight does not exceed, a new group counting as infinite.

    For clips of their own the ceil(share (n + 1))-th smallest: conformal prediction (Vovk et al.
    2005; Lei et al. 2018, eq. 2). For exchangeable scores the rate of false alarms is at most
    ``1 - share`` whatever their distribution, and less by at most ``1 / (n + 1)``. For G groups,
    each of weight ``1 / (G + 1)`` shared by its clips, the same holds for a clip of a new group
    (Lee, Barber and Willett 2023, hierarchical conformal prediction, arXiv 2306.06342). Infinite
    where there are too few. The same decisions as ``p_values <= 1 - share``.
    """
    order = np.argsort(train_scores, kind="stable")
    below = np.cumsum(weights[order]) / (weights.sum() + 1)
    rank = int(np.searchsorted(below, share - 1e-12))
    value = float(train_scores[order[rank]]) if rank < len(order) else math.inf
    return value, {"rank": float(rank + 1)}


def p_values(train_scores: Floats, scores: Floats, groups: NDArray[np.intp] | None = None) -> Floats:
    """Conformal p-values: ``(1 + #{train scores >= score}) / (n + 1)``.

    Of G groups: ``(1 + sum over groups of the share of their scores >= score) / (G + 1)``, which no
    p is below: nothing rarer than one group in G + 1 can be told from so few.

    Parameters
    ----------
    train_scores
        (n,) leave-one-out scores of training clips.
    scores
        (Q,) scores of test clips.
    groups
        (n,) the group of each training clip; every clip is its own where there are none.

    Returns
    -------
    ndarray
        (Q,) in (0, 1]: how often a normal clip would score as high. Calling clips of p <= a
        anomalous gives at most a share a of false alarms.
    """
    if groups is None or len(np.unique(groups)) == len(groups):
        below = np.searchsorted(np.sort(train_scores), scores, side="left")
        return np.asarray((1 + len(train_scores) - below) / (len(train_scores) + 1))
    order, weights = np.argsort(train_scores, kind="stable"), group_weights(groups)
    above = np.append(np.cumsum(weights[order][::-1])[::-1], 0.0)  # weight from a rank on
    first = np.searchsorted(train_scores[order], scores, side="left")
    return np.asarray((1 + above[first]) / (len(np.unique(groups)) + 1))


def largest_limit(
    threshold: Threshold,
    train_scores: Floats,
    count: int,
    groups: NDArray[np.intp] | None = None,
) -> float:
    """Limit for the largest of several scores, as a file of several windows has.

    The same share of normal files lies below it as of normal clips below the threshold: the
    percentile's `count`-th root (Sidak 1967). That holds for independent windows; those of one file
    are alike, which makes false alarms rarer, not more frequent.

    Parameters
    ----------
    threshold
        Of single scores.
    train_scores, groups
        As of `fit_threshold`, which it was learnt from.
    count
        How many scores, from 1.
    """
    if count == 1 or math.isinf(threshold.value):
        return threshold.value
    percentile = 100 * (threshold.percentile / 100) ** (1 / count)
    return fit_threshold(train_scores, threshold.method, percentile, groups).value


def largest_p_values(
    train_scores: Floats,
    scores: Floats,
    counts: NDArray[np.intp],
    groups: NDArray[np.intp] | None = None,
) -> Floats:
    """`p_values` of the largest of several scores each: ``1 - (1 - p)^count`` (Sidak 1967).

    Parameters
    ----------
    train_scores, scores, groups
        As of `p_values`.
    counts
        (Q,) of how many scores each is the largest.
    """
    single = p_values(train_scores, scores, groups)
    return np.where(counts == 1, single, 1 - (1 - single) ** counts)


METHODS: Mapping[str, Callable[[Floats, float, Floats], tuple[float, dict[str, float]]]] = {
    "gamma": gamma_percentile,
    "quantile": empirical_quantile,
    "conformal": conformal_quantile,
}
