"""Several systems, several runs of each: one table, and who is really better."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cache.base.errors import AsdError
from cache.table import Section
from eval.judge import JudgeRequest, JudgeResult, judge
from eval.metrics.intervals import Interval, ResamplingPlan, has_parts, percentiles
from eval.metrics.rules import Rule
from eval.metrics.sections import FIGURES, summarise
from eval.metrics.uncertainty import Comparison, compare, drawn_runs, several
from eval.results.names import sections_in


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over runs; the deviation (n - 1) is ``None`` for one run."""

    mean: float
    deviation: float | None


@dataclass(frozen=True, eq=False)
class System:
    """A system and its runs.

    Attributes
    ----------
    name
        What to call it.
    runs
        At least one; seeds of the same system.
    """

    name: str
    runs: tuple[JudgeResult, ...]

    @property
    def rule(self) -> Rule:
        """By which its runs are judged."""
        return self.runs[0].rule

    @property
    def is_proxy(self) -> bool:
        """Whether test clips of a run are known to be synthetic."""
        return any(run.is_proxy for run in self.runs)

    @property
    def official(self) -> Spread | None:
        """Official score over runs."""
        return spread([summarise(run.results, run.rule).official for run in self.runs])

    @property
    def means(self) -> dict[str, Spread | None]:
        """The rule's mean over sections of every figure, over runs."""
        columns = [summarise(run.results, self.rule).mean for run in self.runs]
        return {name: spread([column[name] for column in columns]) for name in FIGURES}

    @property
    def sections(self) -> dict[Section, dict[str, Spread | None]]:
        """Section to its figures over runs; sections that every run has."""
        shared = set.intersection(*(set(run.results) for run in self.runs))
        return {
            section: {
                name: spread([run.results[section].figures[name] for run in self.runs]) for name in FIGURES
            }
            for section in sorted(shared)
        }


@dataclass(frozen=True)
class Entry:
    """A system's line in the ranking: its bootstrap interval over clips and runs."""

    system: System
    interval: Interval | None


@dataclass(frozen=True)
class Ranking:
    """Systems from the best down.

    Attributes
    ----------
    entries
        Those without an official score come last.
    comparisons
        The best against each of the others, by name; ``None`` where they share no clips.
    level
        Of the entries' intervals; the comparisons hold at this level all together.
    """

    entries: tuple[Entry, ...]
    comparisons: Mapping[str, Comparison | None]
    level: float


def spread(values: Sequence[float | None]) -> Spread | None:
    """Mean and sample standard deviation; ``None`` where a run lacks the figure."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    deviation = statistics.stdev(known) if len(known) > 1 else None
    return Spread(statistics.fmean(known), deviation)


def read_system(directory: Path, request: JudgeRequest) -> System:
    """Judge a submission folder, or a folder of them: the runs of one system.

    Parameters
    ----------
    directory
        The folder.
    request
        The system's name, and by what its runs are judged.

    Raises
    ------
    AsdError
        With every fault of every run.
    """
    faults, runs = [], []
    for folder in run_folders(directory):
        name = request.name if folder == directory else f"{request.name}/{folder.name}"
        try:
            runs.append(judge(replace(request, directory=folder, name=name)))
        except AsdError as error:
            faults.append(str(error))
    if faults:
        raise AsdError("\n".join(faults))
    if len({tuple(run.sections) for run in runs}) > 1:
        raise AsdError(f"{directory} is refused: its runs do not hold the same sections")
    return System(request.name, tuple(runs))


def run_folders(directory: Path) -> list[Path]:
    """Give the folder itself where it holds submission files, else its folders that do."""
    if sections_in(directory):
        return [directory]
    below = [path for path in sorted(directory.iterdir()) if path.is_dir()]
    return [path for path in below if sections_in(path)] or [directory]


def called(folders: Sequence[Path]) -> list[str]:
    """Names that tell folders apart: their last parts, as many as it takes.

    Raises
    ------
    AsdError
        If one folder is named twice.
    """
    paths = [folder.resolve() for folder in folders]
    twice = sorted({str(path) for path in paths if paths.count(path) > 1})
    if twice:
        raise AsdError(f"{twice[0]} is named twice: name every submission once")
    names = []
    for path in paths:
        others = [other for other in paths if other != path]
        count = 1
        while any(other.parts[-count:] == path.parts[-count:] for other in others):
            count += 1
        names.append("/".join(path.parts[-count:]))
    return names


def rank(systems: Sequence[System], plan: ResamplingPlan) -> Ranking:
    """Order systems by official score and compare the best with each of the others."""
    ordered = sorted(systems, key=_descending)
    entries = tuple(Entry(system, _interval(system, plan)) for system in ordered)
    best, *others = ordered
    scores = {system.name: [run.scores for run in system.runs] for system in ordered}
    strict = several(plan, len(others))
    comparisons = {
        other.name: compare(scores[best.name], scores[other.name], best.rule, strict) for other in others
    }
    return Ranking(entries, comparisons, plan.level)


def _descending(system: System) -> tuple[bool, float, str]:
    score = system.official
    return score is None, -score.mean if score else 0.0, system.name


def _interval(system: System, plan: ResamplingPlan) -> Interval | None:
    rule = system.rule
    if not all(has_parts(run.scores, rule) for run in system.runs):
        return None
    draws = drawn_runs([run.scores for run in system.runs], rule, plan, stream=0)
    return percentiles(draws, plan.level)
