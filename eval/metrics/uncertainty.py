"""Intervals of the official score, summed up section by section, and of the difference of two systems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cache.table import Section
from eval.metrics.intervals import (
    Interval,
    ResamplingPlan,
    Scores,
    Sections,
    Uncertainty,
    drawn,
    has_parts,
    left_out_parts,
    official,
    percentiles,
    point,
    strata_of,
)
from eval.metrics.rules import Rule

Floats = NDArray[np.float64]


def uncertainty(sections: Sections, rule: Rule, plan: ResamplingPlan) -> Uncertainty | None:
    """Give the intervals of one run; see `Tally`."""
    tally = Tally(rule, plan)
    for section, one in sorted(sections.items()):
        tally.add(section, one)
    return tally.uncertainty()


class Tally:
    """Intervals of one run, from its sections given one after the other.

    What is kept of a section are its intervals and a number a clip, neither its draws nor the names
    of its clips: thousands of sections fit.

    Parameters
    ----------
    rule, plan
        What is computed, and how.
    """

    def __init__(self, rule: Rule, plan: ResamplingPlan) -> None:
        self._rule, self._plan = rule, plan
        self._complete = True
        self._parts: dict[Section, Mapping[str, Interval]] = {}
        self._draws = _Draws(rule)
        self._left_out = _LeftOut(rule)

    def add(self, section: Section, one: Scores) -> None:
        """Take in a section that was not given before."""
        self._complete &= has_parts({section: one}, self._rule)
        self._complete = self._complete and self._left_out.add(section, one)
        if not self._complete:
            return
        values = drawn(section, one, self._rule, self._plan)
        self._draws.add(section, values)
        self._parts[section] = {
            name: percentiles(values[:, i], self._plan.level) for i, name in enumerate(self._rule.parts)
        }

    def uncertainty(self) -> Uncertainty | None:
        """Give the intervals.

        Returns
        -------
        Uncertainty or None
            ``None`` where there is no official score, or a domain has one clip of a condition:
            how far another clip would lie from it, nothing tells.
        """
        if not self._complete or not self._parts:
            return None
        level = self._plan.level
        interval = percentiles(self._draws.official(), level)
        return Uncertainty(level, interval, self._left_out.interval(level), self._parts)


def bootstrap(sections: Sections, rule: Rule, plan: ResamplingPlan) -> Floats:
    """Draw clips with replacement within section, domain and condition (Efron 1979).

    Parameters
    ----------
    sections
        At least one, each with every part of the rule.
    rule, plan
        What is computed, and how often.

    Returns
    -------
    ndarray
        (B,) official scores; the b-th of two systems rests on the same clips, if their clips are
        the same.
    """
    draws = _Draws(rule)
    for section in sorted(sections):
        draws.add(section, drawn(section, sections[section], rule, plan))
    return draws.official()


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
    left_out = _LeftOut(rule)
    enough = all(left_out.add(section, one) for section, one in sorted(sections.items()))
    return left_out.interval(level) if enough else None


@dataclass(frozen=True)
class Comparison:
    """Whether one system is better than another on the same clips.

    Attributes
    ----------
    difference
        Official score of the first less that of the second.
    interval
        Paired bootstrap interval of the difference, at `level`.
    sections
        Over how many sections, those that both have.
    """

    difference: float
    interval: Interval
    level: float
    sections: int

    @property
    def differs(self) -> bool:
        """Whether the interval leaves out zero."""
        return not self.interval.low <= 0 <= self.interval.high


def compare(
    first: Sequence[Sections], second: Sequence[Sections], rule: Rule, plan: ResamplingPlan
) -> Comparison | None:
    """Compare two systems on the clips of the sections that both have.

    Parameters
    ----------
    first, second
        The runs of each system; a system's score is the mean over its runs. Where there are
        several, the runs are drawn with replacement as well.
    rule, plan
        What is computed, how often and at which level.

    Returns
    -------
    Comparison or None
        ``None`` where they share no section of the same clips, or one lacks an official score.
    """
    runs = [*first, *second]
    clips = {s: {tuple(sorted(run[s].truth.clips)) for run in runs if s in run} for s in runs[0]}
    shared = sorted(s for s in clips if len(clips[s]) == 1 and all(s in run for run in runs))
    sides = [[{s: run[s] for s in shared} for run in runs] for runs in (first, second)]
    if not shared or not all(has_parts(run, rule) for runs in sides for run in runs):
        return None
    draws = [drawn_runs(runs, rule, plan, side) for side, runs in enumerate(sides)]
    means = [np.mean([official(run, rule) for run in runs]) for runs in sides]
    interval = percentiles(draws[0] - draws[1], plan.level)
    return Comparison(float(means[0] - means[1]), interval, plan.level, len(shared))


def drawn_runs(runs: Sequence[Sections], rule: Rule, plan: ResamplingPlan, stream: int) -> Floats:
    """Bootstrap values of the mean over runs, (B,); several runs are drawn with replacement."""
    draws = np.stack([bootstrap(run, rule, plan) for run in runs])  # (runs, B)
    picks = np.random.default_rng([plan.seed, stream]).integers(len(runs), size=draws.shape)
    return np.asarray(np.take_along_axis(draws, picks, axis=0).mean(axis=0))


def several(plan: ResamplingPlan, comparisons: int) -> ResamplingPlan:
    """Return the plan whose intervals hold all together at the level given (Bonferroni)."""
    return replace(plan, level=1 - (1 - plan.level) / max(comparisons, 1))


class _Draws:
    """Sums of the bootstrap's terms, (B,) a group of sections."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._sums: dict[str, Floats] = {}
        self._counts: Counter[str] = Counter()

    def add(self, section: Section, parts: Floats) -> None:
        group, terms = self._rule.group(section), self._rule.terms(parts)
        self._sums[group] = self._sums[group] + terms if group in self._sums else terms
        self._counts[group] += 1

    def official(self) -> Floats:
        means = [total / self._counts[group] for group, total in self._sums.items()]
        return self._rule.from_terms(np.mean(means, axis=0))


class _LeftOut:
    """Terms of each section, whole and without each of its clips."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._sections: list[Section] = []
        self._whole: list[float] = []
        self._without: list[list[Floats]] = []  # a section's strata

    def add(self, section: Section, one: Scores) -> bool:
        """Take in a section, unless a stratum has one clip."""
        strata = strata_of(one.truth)
        if any(rows.size < 2 for rows in strata):
            return False
        terms = self._rule.terms(left_out_parts(one.scores, one.truth, self._rule))
        self._sections.append(section)
        self._whole.append(float(self._rule.terms(point(one, self._rule))))
        self._without.append([terms[rows] for rows in strata])
        return True

    def interval(self, level: float) -> Interval:
        shares, variance = self._rule.shares(self._sections), 0.0
        terms = shares * self._whole
        # Sums of all sections before and behind each: subtracting would make inf - inf of a zero.
        before, behind = np.cumsum([0, *terms]), np.cumsum([0, *terms[::-1]])[::-1]
        for place, strata in enumerate(self._without):
            for without in strata:
                others = before[place] + behind[place + 1]
                official = self._rule.from_terms(others + shares[place] * without)
                spread = official - official.mean()
                variance += (len(official) - 1) / len(official) * float(spread @ spread)
        centre = float(self._rule.from_terms(terms.sum()))
        from scipy.special import ndtri  # noqa: PLC0415 (heavy, and needed where the truth is known)

        reach = float(ndtri((1 + level) / 2)) * variance**0.5
        return Interval(max(0.0, centre - reach), min(1.0, centre + reach))
