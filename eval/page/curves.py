"""ROC curves and thresholds as a page or a figure draws them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eval.metrics.rules import Rule
from eval.metrics.sections import SectionTruth, area_masks
from eval.results.submission import Submission

Points = list[tuple[float, float]]


def roc_curves(scores: NDArray[np.float64], truth: SectionTruth | None, rule: Rule) -> dict[str, Points]:
    """Corners of a section's ROC curves.

    Parameters
    ----------
    scores
        (N,) of its clips.
    truth
        What they are; ``None`` where that is not known.
    rule
        The year's.

    Returns
    -------
    dict
        ``auc``, ``auc_source`` and ``auc_target``, those that the clips allow, to points of
        (false positive rate, true positive rate) from (0, 0) to (1, 1), as the year's rule has it.
    """
    if truth is None:
        return {}
    curves = {}
    for name, (low, high) in area_masks(truth, rule).items():
        if low.any() and high.any() and not name.startswith("pauc"):
            curves[name] = _corners(scores[low], scores[high])
    return curves


def implied_threshold(submission: Submission) -> float | None:
    """Score between the clips called normal and those called anomalous, if one divides them."""
    if submission.decisions is None:
        return None
    called = submission.decisions == 1
    if called.all() or not called.any():
        return None
    low, high = submission.scores[~called].max(), submission.scores[called].min()
    return float((low + high) / 2) if low < high else None


def _corners(normal: NDArray[np.float64], anomaly: NDArray[np.float64]) -> Points:
    labels = np.concatenate([np.zeros(len(normal)), np.ones(len(anomaly))])
    from sklearn.metrics import roc_curve  # noqa: PLC0415 (a second, needed where the truth is known)

    false, true, _ = roc_curve(labels, np.concatenate([normal, anomaly]))
    return list(zip(false.tolist(), true.tolist(), strict=True))
