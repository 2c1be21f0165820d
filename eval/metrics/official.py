"""The task's figures from scores and decisions: pure functions, no files, no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cache.base.errors import AsdError

MAX_FPR = 0.1  # p of DCASE 2023 Task 2 (Dohi et al. 2023), eq. (3)


def auc(normal: ArrayLike, anomaly: ArrayLike) -> float:
    """Area under the ROC curve: the share of (normal, anomaly) pairs in the right order.

    DCASE 2023 Task 2 (Dohi et al. 2023), eq. (2), as the task's evaluator computes it: a tie
    counts half, where the equation as printed counts it as wrong.

    Parameters
    ----------
    normal, anomaly
        (N-,), (N+,) scores, finite, higher is more anomalous.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    AsdError
        If one of them is empty or not finite.
    """
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 (a second, needed where the truth is known)

    return float(roc_auc_score(*_labelled(normal, anomaly)))


def pauc(normal: ArrayLike, anomaly: ArrayLike, max_fpr: float = MAX_FPR) -> float:
    """Area under the ROC curve up to a false positive rate, standardised (McClish 1989).

    With A the area below the curve on [0, p]: ``(1 + (A - p^2/2) / (p - p^2/2)) / 2``, so that
    chance is 0.5 and a perfect system 1. This is what the task's evaluator computes.

    Parameters
    ----------
    normal, anomaly
        (N-,), (N+,) scores, finite, higher is more anomalous.
    max_fpr
        p, in (0, 1].

    Returns
    -------
    float
        In [0.5 - p / (4 - 2p), 1]; 0.4737 at the lowest for p = 0.1.

    Raises
    ------
    AsdError
        If one of them is empty or not finite, or p is out of range.
    """
    _check_rate(max_fpr)
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 (see above)

    return float(roc_auc_score(*_labelled(normal, anomaly), max_fpr=max_fpr))


def pauc_printed(normal: ArrayLike, anomaly: ArrayLike, p: float = MAX_FPR) -> float:
    """Partial AUC as printed: DCASE 2023 Task 2 (Dohi et al. 2023), eq. (3).

    ``sum_i sum_j H(A(x+_j) - A(x-_i)) / (floor(p N-) N+)`` over the floor(p N-) normal clips of
    the highest scores and all anomalies, H(x) = 1 for x > 0 else 0. Another number than `pauc`,
    and not part of the official score.

    Parameters
    ----------
    normal, anomaly
        (N-,), (N+,) scores, finite, higher is more anomalous.
    p
        In (0, 1].

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    AsdError
        If one of them is empty or not finite, p is out of range, or floor(p N-) is 0.
    """
    _check_rate(p)
    low, high = checked("normal", normal), checked("anomaly", anomaly)
    top = top_count(p, low.size)
    if top == 0:
        raise AsdError(
            f"eq. (3) takes the floor({p} x {low.size}) = 0 highest normal scores: give at least "
            f"{math.ceil(1 / p)} normal clips or a larger p"
        )
    hardest = np.sort(low)[-top:]
    return float(np.searchsorted(hardest, high, side="left").sum() / (top * high.size))


def harmonic_mean(values: Iterable[float]) -> float:
    """Harmonic mean of figures in [0, inf); 0.0 as soon as one of them is 0.

    Raises
    ------
    AsdError
        If there are none, or one is negative or not finite.
    """
    parts = [float(value) for value in values]
    bad = [part for part in parts if not 0 <= part < math.inf]
    if bad or not parts:
        seen = f"{bad[0]}" if bad else "no figures at all"
        raise AsdError(f"harmonic mean of {seen}: it takes one or more finite figures from 0")
    return 0.0 if 0 in parts else len(parts) / sum(1 / part for part in parts)


@dataclass(frozen=True)
class Detection:
    """How good the decisions are, each in [0, 1]; 0.0 where the denominator is 0."""

    precision: float
    recall: float
    f1: float


def detection(anomaly: ArrayLike, decisions: ArrayLike) -> Detection:
    """Precision, recall and F1 of calling clips anomalous.

    Parameters
    ----------
    anomaly
        (N,) bool, the truth.
    decisions
        (N,) 0 or 1, 1 for anomalous.

    Raises
    ------
    AsdError
        If the lengths differ or a decision is neither 0 nor 1.
    """
    truth, called = np.asarray(anomaly, dtype=bool), np.asarray(decisions)
    if truth.shape != called.shape or not np.isin(called, (0, 1)).all():
        raise AsdError(f"decisions of shape {called.shape} for {truth.shape} clips: one 0 or 1 a clip")
    hits, calls, anomalies = (int(np.sum(x)) for x in (truth & (called == 1), called, truth))
    f1 = _ratio(2 * hits, calls + anomalies)
    return Detection(_ratio(hits, calls), _ratio(hits, anomalies), f1)


def _labelled(normal: ArrayLike, anomaly: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Labels and ranks, (N- + N+,): ranks because differences of huge scores overflow."""
    low, high = checked("normal", normal), checked("anomaly", anomaly)
    ranks = np.unique(np.concatenate([low, high]), return_inverse=True)[1]
    return np.arange(ranks.size) >= low.size, ranks


def checked(what: str, scores: ArrayLike) -> NDArray[np.float64]:
    """Scores as (N,) float64, finite and at least one; anything else is refused."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise AsdError(f"{what} scores of shape {values.shape}: one score a clip, one or more")
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise AsdError(
            f"{what} score {values[bad[0]]} at place {bad[0]} and {bad.size - 1} more are not "
            "finite: score these clips again"
        )
    return values


def _check_rate(p: float) -> None:
    if not 0 < p <= 1:
        raise AsdError(f"largest false positive rate {p}: expected above 0 and up to 1")


def top_count(p: float, count: int) -> int:
    """floor(p * count), where 0.29 * 100 is 29 though its product of doubles is below."""
    return math.floor(round(p * count, 9))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
