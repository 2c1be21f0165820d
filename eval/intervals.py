"""How far the official score would move with other clips: bootstrap and jackknife."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from cache.table import Section
from eval.areas import weighted_parts
from eval.rules import Rule
from eval.sections import SectionTruth, area_masks

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
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


@dataclass(frozen=True, eq=False)
class Draws:
    """Bootstrap values of one run.

    Attributes
    ----------
    official
        (B,) official scores.
    parts
        Section to its (B, P) figures in the order of the rule's parts.
    """

    official: Floats
    parts: Mapping[Section, Floats]


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


def uncertainty(sections: Sections, rule: Rule, plan: Plan) -> Uncertainty | None:
    """Give the intervals of one run.

    Returns
    -------
    Uncertainty or None
        ``None`` where there is no official score, or a domain has one clip of a condition: how
        far another clip would lie from it, nothing tells.
    """
    if not has_parts(sections, rule):
        return None
    left_out = jackknife(sections, rule, plan.level)
    if left_out is None:
        return None
    draws = bootstrap(sections, rule, plan)
    parts = {
        section: {name: percentiles(values[:, i], plan.level) for i, name in enumerate(rule.parts)}
        for section, values in draws.parts.items()
    }
    interval = percentiles(draws.official, plan.level)
    return Uncertainty(plan.level, interval, left_out, parts)


def has_parts(sections: Sections, rule: Rule) -> bool:
    """Whether every section has the clips that the official score needs."""
    masks = [area_masks(one.truth, rule) for one in sections.values()]
    wanted = [m.get(name, (np.zeros(1), np.zeros(1))) for m in masks for name in rule.parts]
    return bool(wanted) and all(low.any() and high.any() for low, high in wanted)


def bootstrap(sections: Sections, rule: Rule, plan: Plan) -> Draws:
    """Draw clips with replacement within section, domain and condition (Efron 1979).

    Parameters
    ----------
    sections
        At least one, each with every part of the rule.
    rule, plan
        What is computed, and how often.

    Returns
    -------
    Draws
        The b-th value of two systems rests on the same clips, if their clips are the same.
    """
    parts = {
        section: weighted_parts(one.scores, one.truth, rule, _resamples(section, one.truth, plan))
        for section, one in ((s, sections[s].by_clip()) for s in sorted(sections))
    }
    official = rule.official(list(parts), np.stack(list(parts.values()), axis=1))
    return Draws(official, parts)


def jackknife(sections: Sections, rule: Rule, level: float) -> Interval | None:
    """Interval of the official score from leaving out one clip at a time.

    With h strata (section, domain, condition) of n_h clips, and theta_(hi) the official score
    without clip i of stratum h, the variance is
    ``sum_h (n_h - 1) / n_h sum_i (theta_(hi) - mean_i theta_(hi))^2``: the delete-one jackknife of
    stratified samples (Shao & Tu 1995, The Jackknife and Bootstrap, section 6.2). The interval is
    that of a normal distribution, cut to [0, 1].

    Returns
    -------
    Interval or None
        ``None`` where a stratum has one clip, without which there is no score.
    """
    kept = {s: _point(one, rule) for s, one in sorted(sections.items())}
    whole, variance = np.stack(list(kept.values())), 0.0
    for place, section in enumerate(kept):
        one = sections[section]
        count = len(one.scores)
        left = weighted_parts(one.scores, one.truth, rule, np.ones((count, count)) - np.eye(count))
        stacked = np.repeat(whole[None], count, axis=0)
        stacked[:, place] = left
        official = rule.official(list(kept), stacked)
        for rows in _strata(one.truth):
            if rows.size < 2:
                return None
            spread = official[rows] - official[rows].mean()
            variance += (rows.size - 1) / rows.size * float(spread @ spread)
    centre = float(rule.official(list(kept), whole))
    reach = float(ndtri((1 + level) / 2)) * variance**0.5
    return Interval(max(0.0, centre - reach), min(1.0, centre + reach))


def official(sections: Sections, rule: Rule) -> float:
    """Official score of sections that have every part of it."""
    ordered = sorted(sections)
    points = np.stack([_point(sections[section], rule) for section in ordered])
    return float(rule.official(ordered, points))


def percentiles(values: Floats, level: float) -> Interval:
    """Interval that leaves out the same share of (B,) draws at either end (Efron 1979)."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def _point(one: Scores, rule: Rule) -> Floats:
    parts = weighted_parts(one.scores, one.truth, rule, np.ones((1, len(one.scores))))
    return np.asarray(parts[0])


def _resamples(section: Section, truth: SectionTruth, plan: Plan) -> Floats:
    """(B, N) how often each clip is drawn; it depends on the section and its truth alone."""
    rng = np.random.default_rng([plan.seed, zlib.crc32(str(section).encode())])
    weights = np.zeros((plan.resamples, len(truth.anomaly)))
    for rows in _strata(truth):
        even = np.full(rows.size, 1 / rows.size)
        weights[:, rows] = rng.multinomial(rows.size, even, size=plan.resamples)
    return weights


def _strata(truth: SectionTruth) -> list[NDArray[np.intp]]:
    target = np.zeros_like(truth.anomaly) if truth.target is None else truth.target
    kinds = 2 * target.astype(int) + truth.anomaly
    return [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
