"""Areas under the curve of many resamples of the same clips at once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from eval.metrics.official import MAX_FPR
from eval.metrics.rules import Rule
from eval.metrics.sections import SectionTruth, area_masks

Floats = NDArray[np.float64]

_AT_ONCE = 1 << 19  # weights (4 MiB) that are looked at in one go; some ten arrays of that size come of it


def parts_of(rows: int, width: int) -> list[slice]:
    """Cut (rows, width) weights into parts, so that memory does not grow with the product.

    None has a single row, unless it is all: NumPy adds up one row in another order than several.
    """
    count = max(1, min(-(-rows * width // _AT_ONCE), rows // 2))
    edges = np.linspace(0, rows, count + 1).astype(int).tolist()
    return [slice(*edge) for edge in pairwise(edges)]


def weighted_parts(scores: Floats, truth: SectionTruth, rule: Rule, weights: Floats) -> Floats:
    """Figures of one section for many weightings of its clips.

    Parameters
    ----------
    scores
        (N,) finite.
    truth
        Of the same clips.
    rule
        Which figures, and which anomalies a domain's normal clips meet.
    weights
        (B, N) how often each clip counts in each resample, from 0.

    Returns
    -------
    ndarray
        (B, P) in the order of ``rule.parts``, equal to `eval.metrics.official.auc` and `pauc` of the
        repeated clips; NaN where a resample has no normal clip or no anomaly.
    """
    order = np.argsort(scores, kind="stable")
    ascending = scores[order]
    starts = np.flatnonzero(np.append(True, ascending[1:] != ascending[:-1]))
    masks = area_masks(truth, rule)
    weights = weights[:, order]
    counts: dict[bytes, Floats] = {}  # several figures are formed of the same clips
    for mask in (mask for name in rule.parts for mask in masks[name]):
        if mask.tobytes() not in counts:
            chosen = weights * mask[order]
            whole = len(starts) == len(scores)  # no two scores are equal: nothing to add up
            counts[mask.tobytes()] = chosen if whole else np.add.reduceat(chosen, starts, axis=1)
    columns = []
    for name in rule.parts:
        normal, anomaly = (counts[mask.tobytes()] for mask in masks[name])
        area = partial_areas if name.startswith("pauc") else full_areas
        columns.append(area(normal, anomaly))
    return np.stack(columns, axis=1)


def full_areas(normal: Floats, anomaly: Floats) -> Floats:
    """AUC from counts: the share of pairs in the right order, a tie counting half.

    Parameters
    ----------
    normal, anomaly
        (B, L) how many clips have each of L ascending scores.

    Returns
    -------
    ndarray
        (B,) in [0, 1].
    """
    below = np.cumsum(normal, axis=1) - normal / 2
    pairs = normal.sum(axis=1) * anomaly.sum(axis=1)
    return _ratio((anomaly * below).sum(axis=1), pairs)


def partial_areas(normal: Floats, anomaly: Floats, p: float = MAX_FPR) -> Floats:
    """Partial AUC up to a false positive rate p, standardised (McClish 1989), from counts.

    Parameters
    ----------
    normal, anomaly
        (B, L) how many clips have each of L ascending scores.
    p
        In (0, 1].

    Returns
    -------
    ndarray
        (B,) as `eval.metrics.official.pauc`.
    """
    false, true = (_rates(counts) for counts in (normal, anomaly))
    wide, tall = np.diff(false, axis=1), np.diff(true, axis=1)
    taken = np.minimum(false[:, 1:], p) - np.minimum(false[:, :-1], p)
    rise = tall * np.divide(taken, wide, out=np.zeros_like(taken), where=wide > 0)
    area = (taken * (true[:, :-1] + rise / 2)).sum(axis=1)
    least = p * p / 2
    return np.asarray((1 + (area - least) / (p - least)) / 2)


def _rates(counts: Floats) -> Floats:
    """(B, L + 1) shares of clips at or above each score, from the highest score down."""
    above = np.cumsum(counts[:, ::-1], axis=1)
    rates = _ratio(above, above[:, -1:])
    return np.concatenate([np.zeros((len(rates), 1)), rates], axis=1)


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0))
