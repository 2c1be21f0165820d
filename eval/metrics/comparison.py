"""Whether one system is better than another, or only luckier with its clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cache.table import Section
from eval.metrics.intervals import (
    Floats,
    Interval,
    ResamplingPlan,
    Sections,
    has_parts,
    official,
    percentiles,
)
from eval.metrics.rules import Rule
from eval.metrics.uncertainty import bootstrap


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
    shared = _shared([*first, *second])
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


def _shared(runs: Sequence[Sections]) -> list[Section]:
    """Sections that all runs have with the same clips."""
    common = set.intersection(*(set(run) for run in runs))
    clips = {s: {tuple(sorted(run[s].truth.clips)) for run in runs} for s in common}
    return sorted(section for section in common if len(clips[section]) == 1)
