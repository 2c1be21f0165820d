"""A section's figures and their means over sections: what a result table holds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cache.base.errors import AsdError
from cache.table import Section
from eval.metrics.official import (
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
from eval.metrics.rules import DEFAULT, Rule

# Every figure of a section in the order of a table; no suffix is both domains together.
FIGURES = (
    "auc_source", "auc_target", "pauc",
    "pauc_source", "pauc_target",
    "precision_source", "recall_source", "f1_source",
    "precision_target", "recall_target", "f1_target",
    "auc", "precision", "recall", "f1", "pauc_printed",
)  # fmt: skip
# Those that are areas under a curve.
AREAS = ("auc_source", "auc_target", "pauc", "pauc_source", "pauc_target", "auc")


@dataclass(frozen=True, eq=False)
class SectionTruth:
    """What a section's test clips are.

    Attributes
    ----------
    anomaly
        (N,) bool.
    target
        (N,) bool, true in the target domain; ``None`` where the domains are unknown.
    clips
        N names by which two systems' clips are joined.
    originals
        N names that tell the attributes; ``None`` where unknown.
    synthetic
        Whether the clips are made, not recorded: a proxy for a test, all of them or none.
    """

    anomaly: NDArray[np.bool_]
    target: NDArray[np.bool_] | None = None
    clips: tuple[str, ...] = ()
    originals: tuple[str | None, ...] = ()
    synthetic: bool = False


@dataclass(frozen=True)
class SectionResult:
    """A section's figures in [0, 1]; ``None`` is one that these clips do not allow.

    Attributes
    ----------
    auc_source, auc_target, pauc_source, pauc_target
        A domain's normal clips against the anomalies that the year's rule sets against them.
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
    pauc_source: float | None = None
    pauc_target: float | None = None

    @cached_property
    def figures(self) -> dict[str, float | None]:
        """Every figure under its name in `FIGURES`."""
        return {name: _figure(self, name) for name in FIGURES}


@dataclass(frozen=True)
class Summary:
    """Means over sections; ``None`` where a section lacks the figure or there is no section.

    Attributes
    ----------
    official
        The official score of the year's rule.
    harmonic, arithmetic
        The mean of each of `SectionResult.figures`.
    mean
        The one of the two that the year's rule takes.
    """

    official: float | None
    harmonic: Mapping[str, float | None]
    arithmetic: Mapping[str, float | None]
    mean: Mapping[str, float | None]


def evaluate_section(
    scores: ArrayLike, decisions: ArrayLike | None, truth: SectionTruth, rule: Rule = DEFAULT
) -> SectionResult:
    """Compute every figure of one section that its clips allow.

    Parameters
    ----------
    scores
        (N,) finite, higher is more anomalous.
    decisions
        (N,) 0 or 1, 1 for anomalous; ``None`` where there are none.
    truth
        Of the same N clips in the same order.
    rule
        Which anomalies a domain's normal clips meet.

    Raises
    ------
    AsdError
        If the lengths differ, a score is not finite or a decision neither 0 nor 1.
    """
    values = checked("test", scores)
    called = None if decisions is None else np.asarray(decisions)
    anomaly, masks = np.asarray(truth.anomaly, dtype=bool), _domains(truth)
    columns = (values, anomaly, *masks.values(), *(() if called is None else (called,)))
    if len(shapes := {column.shape for column in columns}) > 1:
        raise AsdError(f"scores, decisions and labels of shapes {sorted(shapes)}: one of each a clip")
    areas = {
        name: _unless_empty(pauc if name.startswith("pauc") else auc, values[low], values[high])
        for name, (low, high) in area_masks(truth, rule).items()
    }
    everywhere = np.ones_like(anomaly)
    printable = top_count(MAX_FPR, int((~anomaly).sum())) > 0
    rows = {**masks, "": everywhere}
    found = {d: _detection_if_any(anomaly, called, mask) for d, mask in rows.items()}
    printed = _unless_empty(pauc_printed, values[~anomaly], values[anomaly]) if printable else None
    return SectionResult(
        **{name: areas.get(name) for name in AREAS},
        pauc_printed=printed,
        detection_source=found.get("source"),
        detection_target=found.get("target"),
        detection=found[""],
        counts={
            domain: {"normal": int((m & ~anomaly).sum()), "anomaly": int((m & anomaly).sum())}
            for domain, m in masks.items()
        },
    )


def area_masks(truth: SectionTruth, rule: Rule) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Say which clips an area under the curve is formed of.

    Parameters
    ----------
    truth
        Of N clips.
    rule
        Which anomalies a domain's normal clips meet.

    Returns
    -------
    dict
        Figure to the (N,) bool masks of its normal clips and of its anomalies; a domain's own
        figures only where the domains are known.
    """
    anomaly = np.asarray(truth.anomaly, dtype=bool)
    masks = {"auc": (~anomaly, anomaly), "pauc": (~anomaly, anomaly)}
    for domain, mask in _domains(truth).items():
        against = mask & anomaly if rule.own_anomalies else anomaly
        masks |= {f"{kind}_{domain}": (mask & ~anomaly, against) for kind in ("auc", "pauc")}
    return {name: pair for name, pair in masks.items() if name in AREAS}


def official_score(results: Mapping[Section, SectionResult], rule: Rule = DEFAULT) -> float | None:
    """Combine the figures of all sections as the year's rule says.

    In [0, 1]; ``None`` when a part is missing or there is no section.
    """
    parts = [[result.figures[name] for name in rule.parts] for result in results.values()]
    if not parts or any(part is None for row in parts for part in row):
        return None
    return float(rule.official(list(results), np.array(parts, dtype=np.float64)))


def summarise(results: Mapping[Section, SectionResult], rule: Rule = DEFAULT) -> Summary:
    """Give the official score and the means of every figure over sections."""
    columns = {name: [result.figures[name] for result in results.values()] for name in FIGURES}
    harmonic = {name: _mean(harmonic_mean, column) for name, column in columns.items()}
    arithmetic = {name: _mean(statistics.fmean, column) for name, column in columns.items()}
    mean = harmonic if rule.harmonic else arithmetic
    return Summary(official_score(results, rule), harmonic, arithmetic, mean)


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
    anomaly: NDArray[np.bool_], decisions: NDArray[np.generic] | None, mask: NDArray[np.bool_]
) -> Detection | None:
    if decisions is None:
        return None
    found = detection(anomaly[mask], decisions[mask])
    return found if anomaly[mask].any() else None  # recall has no meaning without anomalies


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
