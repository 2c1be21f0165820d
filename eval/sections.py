"""A section's figures and their means over sections: what a result table holds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cache.errors import AsdError
from eval.metrics import (
    MAX_FPR,
    Detection,
    auc,
    checked,
    detection,
    harmonic_mean,
    pauc,
    pauc_printed,
    top_count,
)

# Every figure of a section in the order of a table; no suffix is both domains together.
FIGURES = (
    *("auc_source", "auc_target", "pauc"),
    *("precision_source", "recall_source", "f1_source"),
    *("precision_target", "recall_target", "f1_target"),
    *("auc", "precision", "recall", "f1", "pauc_printed"),
)


@dataclass(frozen=True, eq=False)
class SectionTruth:
    """What a section's test clips are.

    Attributes
    ----------
    anomaly
        (N,) bool.
    target
        (N,) bool, true in the target domain; ``None`` where the domains are unknown.
    """

    anomaly: NDArray[np.bool_]
    target: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class SectionResult:
    """A section's figures in [0, 1]; ``None`` is one that these clips do not allow.

    Attributes
    ----------
    auc_source, auc_target
        A domain's normal clips against all anomalies of the section.
    pauc, auc, pauc_printed
        Over the clips of both domains.
    detection_source, detection_target, detection
        From the decisions on a domain's clips, and on all clips; needs an anomaly among them.
    counts
        Domain (or ``unknown``) to condition to number of clips.
    """

    auc_source: float | None
    auc_target: float | None
    pauc: float | None
    auc: float | None
    pauc_printed: float | None
    detection_source: Detection | None
    detection_target: Detection | None
    detection: Detection | None
    counts: Mapping[str, Mapping[str, int]]

    @property
    def figures(self) -> dict[str, float | None]:
        """Every figure under its name in `FIGURES`."""
        return {name: _figure(self, name) for name in FIGURES}


@dataclass(frozen=True)
class Summary:
    """Means over sections; ``None`` where a section lacks the figure or there is no section.

    Attributes
    ----------
    official
        Harmonic mean of AUC source, AUC target and pAUC of all sections: the official score.
    harmonic, arithmetic
        The mean of each of `SectionResult.figures`.
    """

    official: float | None
    harmonic: Mapping[str, float | None]
    arithmetic: Mapping[str, float | None]


def evaluate_section(scores: ArrayLike, decisions: ArrayLike, truth: SectionTruth) -> SectionResult:
    """Compute every figure of one section that its clips allow.

    Parameters
    ----------
    scores
        (N,) finite, higher is more anomalous.
    decisions
        (N,) 0 or 1, 1 for anomalous.
    truth
        Of the same N clips in the same order.

    Raises
    ------
    AsdError
        If the lengths differ, a score is not finite or a decision neither 0 nor 1.
    """
    values, called = checked("test", scores), np.asarray(decisions)
    anomaly, masks = np.asarray(truth.anomaly, dtype=bool), _domains(truth)
    _check_lengths(values, called, anomaly, *masks.values())
    nowhere, normal, high = np.zeros_like(anomaly), values[~anomaly], values[anomaly]
    printable = top_count(MAX_FPR, normal.size) > 0
    rows = [masks.get("source", nowhere), masks.get("target", nowhere), ~nowhere]
    areas = [_unless_empty(auc, values[mask & ~anomaly], high) for mask in rows]
    found = [_detection_if_any(anomaly[mask], called[mask]) for mask in rows]
    return SectionResult(
        auc_source=areas[0],
        auc_target=areas[1],
        pauc=_unless_empty(pauc, normal, high),
        auc=areas[2],
        pauc_printed=_unless_empty(pauc_printed, normal, high) if printable else None,
        detection_source=found[0],
        detection_target=found[1],
        detection=found[2],
        counts={
            domain: {"normal": int((m & ~anomaly).sum()), "anomaly": int((m & anomaly).sum())}
            for domain, m in masks.items()
        },
    )


def official_score(results: Iterable[SectionResult]) -> float | None:
    """Harmonic mean of AUC source, AUC target and pAUC over all machines and sections.

    DCASE 2023 Task 2 (Dohi et al. 2023). In [0, 1]; ``None`` when a part is missing or there is
    no section.
    """
    parts = [part for r in results for part in (r.auc_source, r.auc_target, r.pauc)]
    return _mean(harmonic_mean, parts)


def summarise(results: Iterable[SectionResult]) -> Summary:
    """Give the official score and the means of every figure over sections."""
    found = list(results)
    columns = {name: [result.figures[name] for result in found] for name in FIGURES}
    return Summary(
        official_score(found),
        {name: _mean(harmonic_mean, column) for name, column in columns.items()},
        {name: _mean(statistics.fmean, column) for name, column in columns.items()},
    )


def _check_lengths(*columns: NDArray[np.generic]) -> None:
    shapes = [column.shape for column in columns]
    if len(set(shapes)) != 1:
        raise AsdError(f"scores, decisions and labels of shapes {shapes}: one of each a clip")


def _domains(truth: SectionTruth) -> dict[str, NDArray[np.bool_]]:
    if truth.target is None:
        return {"unknown": np.ones(len(truth.anomaly), dtype=bool)}
    target = np.asarray(truth.target, dtype=bool)
    return {"source": ~target, "target": target}


def _unless_empty(
    metric: Callable[[ArrayLike, ArrayLike], float],
    normal: NDArray[np.float64],
    anomaly: NDArray[np.float64],
) -> float | None:
    return metric(normal, anomaly) if normal.size and anomaly.size else None


def _detection_if_any(
    anomaly: NDArray[np.bool_], decisions: NDArray[np.generic]
) -> Detection | None:
    found = detection(anomaly, decisions)
    return found if anomaly.any() else None  # recall has no meaning without anomalies


def _figure(result: SectionResult, name: str) -> float | None:
    kind, _, domain = name.partition("_")
    owner: object = result
    if kind in ("precision", "recall", "f1"):
        owner = getattr(result, f"detection_{domain}" if domain else "detection")
        name = kind
    value: float | None = None if owner is None else getattr(owner, name)
    return value


def _mean(mean: Callable[[Iterable[float]], float], values: Iterable[float | None]) -> float | None:
    """Mean over all values: leaving out a missing one would make another number of it."""
    parts = list(values)
    known = [part for part in parts if part is not None]
    return mean(known) if parts and len(known) == len(parts) else None
