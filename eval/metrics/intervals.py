"""How far the official score would move with other clips: bootstrap and jackknife."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cache.table import Section
from eval.metrics.official import MAX_FPR
from eval.metrics.rules import Rule
from eval.metrics.sections import SectionTruth, area_masks

Floats = NDArray[np.float64]
Counts = NDArray[np.intp]

_AT_ONCE = 1 << 19  # weights (4 MiB) that are looked at in one go; some ten arrays of that size come of it


@dataclass(frozen=True)
class ResamplingPlan:
    """How intervals are made.

    Attributes
    ----------
    resamples
        Number of bootstrap resamples.
    level
        Share of intervals meant to hold the true value.
    seed
        Of the resampling; the same seed, the same intervals.
    """

    resamples: int = 2000
    level: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, both in [0, 1] for a score and in [-1, 1] for a difference."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Scores:
    """One section's scores with their truth, in the same order of clips.

    Attributes
    ----------
    scores
        (N,) float64.
    truth
        Of the N clips, with their names.
    """

    scores: Floats
    truth: SectionTruth

    def by_clip(self) -> Scores:
        """Return the same with the clips in the order of their names."""
        order = np.array(sorted(range(len(self.scores)), key=lambda i: self.truth.clips[i]))
        target = None if self.truth.target is None else self.truth.target[order]
        clips = tuple(self.truth.clips[i] for i in order)
        return Scores(self.scores[order], SectionTruth(self.truth.anomaly[order], target, clips))


Sections = Mapping[Section, Scores]


@dataclass(frozen=True)
class Uncertainty:
    """Intervals of one run.

    Attributes
    ----------
    level
        Share of intervals meant to hold the true value.
    bootstrap, jackknife
        Of the official score.
    parts
        Section to figure to its bootstrap interval.
    """

    level: float
    bootstrap: Interval
    jackknife: Interval
    parts: Mapping[Section, Mapping[str, Interval]] = field(default_factory=dict)


def has_parts(sections: Sections, rule: Rule) -> bool:
    """Whether every section has the clips that the official score needs."""
    masks = [area_masks(one.truth, rule) for one in sections.values()]
    wanted = [m.get(name, (np.zeros(1), np.zeros(1))) for m in masks for name in rule.parts]
    return bool(wanted) and all(low.any() and high.any() for low, high in wanted)


def official(sections: Sections, rule: Rule) -> float:
    """Official score of sections that have every part of it."""
    ordered = sorted(sections)
    points = np.stack([point(sections[section], rule) for section in ordered])
    return float(rule.official(ordered, points))


def percentiles(values: Floats, level: float) -> Interval:
    """Interval that leaves out the same share of (B,) draws at either end (Efron 1979)."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def point(one: Scores, rule: Rule) -> Floats:
    """Give the (P,) figures of a section, in the order of the rule's parts."""
    parts = weighted_parts(one.scores, one.truth, rule, np.ones((1, len(one.scores))))
    return np.asarray(parts[0])


def drawn(section: Section, one: Scores, rule: Rule, plan: ResamplingPlan) -> Floats:
    """(B, P) figures of the clips drawn, in an order of clips that all systems share."""
    one = one.by_clip()
    weights = _resamples(section, one.truth, plan)
    return np.concatenate([weighted_parts(one.scores, one.truth, rule, some) for some in weights])


def _resamples(section: Section, truth: SectionTruth, plan: ResamplingPlan) -> Iterator[Floats]:
    """(B, N) how often each clip is drawn, in parts; it depends on the section and its truth alone."""

    def draw(source: np.random.Generator, count: int, part: slice) -> NDArray[np.int64]:
        even = np.full(count, 1 / count)
        return source.multinomial(count, even, size=part.stop - part.start)

    rng = np.random.default_rng([plan.seed, zlib.crc32(str(section).encode())])
    parts = _parts_of(plan.resamples, len(truth.anomaly))
    strata = []
    for rows in strata_of(truth):
        # All draws of a stratum come before the next one's: of several parts, each stratum goes on by itself.
        strata.append((rows, rng if len(parts) == 1 else deepcopy(rng)))
        for part in parts if len(parts) > 1 else []:
            draw(rng, rows.size, part)
    for part in parts:
        weights = np.zeros((part.stop - part.start, len(truth.anomaly)))
        for rows, source in strata:
            weights[:, rows] = draw(source, rows.size, part)
        yield weights


def strata_of(truth: SectionTruth) -> list[NDArray[np.intp]]:
    """Give the rows of each domain and condition that has clips."""
    target = np.zeros_like(truth.anomaly) if truth.target is None else truth.target
    kinds = 2 * target.astype(int) + truth.anomaly
    return [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]


def _parts_of(rows: int, width: int) -> list[slice]:
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
    return _standardised(area, p)


def left_out_parts(scores: Floats, truth: SectionTruth, rule: Rule) -> Floats:
    """Figures of one section without each of its clips, in the time of sorting them.

    Parameters
    ----------
    scores, truth, rule
        As of `weighted_parts`.

    Returns
    -------
    ndarray
        (N, P); row i is `weighted_parts` with weight 0 for clip i and 1 for all others.
    """
    levels = np.unique(-scores, return_inverse=True)[1]  # 0 is the highest score
    masks = area_masks(truth, rule)
    whole = weighted_parts(scores, truth, rule, np.ones((1, len(scores))))
    found = np.repeat(whole, len(scores), axis=0)
    for name, column in zip(rule.parts, found.T, strict=True):
        normal, anomaly = (np.bincount(levels[mask], minlength=levels.max() + 1) for mask in masks[name])
        # The whole area is the partial one up to a rate of 1, which standardising leaves as it is.
        without = _areas_without(normal, anomaly, MAX_FPR if name.startswith("pauc") else 1.0)
        for mask, areas in zip(masks[name], without, strict=True):
            column[mask] = areas[levels[mask]]
    return found


def _areas_without(normal: Counts, anomaly: Counts, p: float) -> tuple[Floats, Floats]:
    """Standardised areas up to a rate p without one normal clip, and without one anomaly, of each score.

    `normal`, `anomaly`: (L,) clips of each score, from the highest down. The curve is drawn over counts,
    not rates: anomalies found, over normal clips called. Without a normal clip its part behind that clip
    moves left by one; without an anomaly its part behind that anomaly sinks by one.
    """
    normals, anomalies = int(normal.sum()), int(anomaly.sum())
    start, end = np.cumsum(normal) - normal, np.cumsum(normal)
    height = np.cumsum(anomaly) - anomaly  # at the start of each step; it climbs evenly over a tie
    filled = np.cumsum(normal * (height + anomaly / 2))  # area up to the end of each step

    def steps(reach: float, width: Counts) -> Floats:
        """(L,) area of each step up to a count."""
        taken = np.clip(reach - start, 0, width)
        return np.asarray(taken * (height + anomaly * taken / np.maximum(width, 1) / 2))

    reach = p * (normals - 1)
    before = np.minimum(steps(reach, normal).sum(), filled - normal * (height + anomaly / 2))
    behind = np.maximum(steps(reach + 1, normal).sum(), filled) - filled
    less = before + steps(reach, normal - 1) + behind
    reach = p * normals
    taken = np.clip(reach - start, 0, normal)
    lost = reach - np.minimum(reach, end) + taken * taken / np.maximum(normal, 1) / 2
    sunk = steps(reach, normal).sum() - lost
    without_normal = _ratio(less, np.float64((normals - 1) * anomalies))
    without_anomaly = _ratio(sunk, np.float64(normals * (anomalies - 1)))
    return _standardised(without_normal, p), _standardised(without_anomaly, p)


def _standardised(area: Floats, p: float) -> Floats:
    """Area up to a rate p, so that chance is 0.5 and a perfect system 1 (McClish 1989)."""
    least = p * p / 2
    return np.asarray((1 + (area - least) / (p - least)) / 2)


def _rates(counts: Floats) -> Floats:
    """(B, L + 1) shares of clips at or above each score, from the highest score down."""
    above = np.cumsum(counts[:, ::-1], axis=1)
    rates = _ratio(above, above[:, -1:])
    return np.concatenate([np.zeros((len(rates), 1)), rates], axis=1)


def _ratio(part: Floats, whole: Floats | np.float64) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0))
