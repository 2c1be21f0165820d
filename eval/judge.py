"""A folder of submission files, anybody's, to a run whose clips are known by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cache.errors import AsdError
from cache.table import Section
from eval.intervals import Scores
from eval.names import DECISIONS, SCORES, misnamed, section_files, sections_in
from eval.rows import raise_faults, some
from eval.rules import DEFAULT, Rule
from eval.scores import Submission, read_submission
from eval.sections import SectionResult, SectionTruth, evaluate_section
from eval.truth import Truth, find_truth, truth_from_names, truth_sections

Labels = Mapping[Section, Mapping[str, Truth] | None]


@dataclass(frozen=True)
class Judging:
    """By what submissions are judged.

    Attributes
    ----------
    ground_truth
        Folder in the evaluator's form; ``None`` leaves it to labels in clip names.
    rule
        The year's.
    part
        Whether a submission may leave out sections of the ground truth, or hold others.
    labels
        Sections whose labels are known from elsewhere than clip names.
    """

    ground_truth: Path | None = None
    rule: Rule = DEFAULT
    part: bool = False
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Run:
    """One submission with what is known of its clips.

    Attributes
    ----------
    name
        What to call it.
    directory
        The folder it was read from.
    submissions
        Section to scores and decisions.
    truths
        Section to truth, where it is known.
    rule
        By which it is evaluated.
    missing
        Sections of the ground truth that it leaves out.
    evaluation
        Sections whose truth a folder of ground truth tells: evaluation data.
    """

    name: str
    directory: Path
    submissions: Mapping[Section, Submission]
    truths: Mapping[Section, SectionTruth]
    rule: Rule = DEFAULT
    missing: Sequence[Section] = ()
    evaluation: frozenset[Section] = frozenset()

    @cached_property
    def results(self) -> dict[Section, SectionResult]:
        """Figures of the sections whose truth is known."""
        return {
            section: evaluate_section(one.scores, one.decisions, self.truths[section], self.rule)
            for section, one in sorted(self.submissions.items())
            if section in self.truths
        }

    @property
    def unknown(self) -> list[Section]:
        """Sections without ground truth."""
        return sorted(set(self.submissions) - set(self.truths))

    @property
    def scores(self) -> dict[Section, Scores]:
        """Scores with their truth, as intervals are formed from."""
        return {s: Scores(self.submissions[s].scores, t) for s, t in sorted(self.truths.items())}

    def data_set(self, section: Section) -> str:
        """``development``, ``evaluation``, ``proxy`` or, without truth, nothing."""
        if section not in self.truths:
            return ""
        if self.truths[section].synthetic:
            return "proxy"
        return "evaluation" if section in self.evaluation else "development"

    @property
    def is_proxy(self) -> bool:
        """Whether test clips of a section are known to be synthetic."""
        return any(truth.synthetic for truth in self.truths.values())

    @property
    def part(self) -> str:
        """Which part of the data set it is; empty for the whole."""
        return part_of(len(self.truths), len(self.missing))


def part_of(there: int, missing: int) -> str:
    """Say which part of the data set so many sections are; nothing for the whole."""
    return f"part: {there} of {there + missing} sections" if missing else ""


def years_told(directories: Sequence[Path]) -> list[int]:
    """Years that the names of submission files tell."""
    files = [file for d in directories for file in section_files(d, [SCORES, DECISIONS])]
    return sorted({file.year for file in files if file.year is not None})


def read_run(
    directory: Path, name: str, how: Judging, only: Sequence[Section] | None = None
) -> Run:
    """Read and join a submission folder.

    Parameters
    ----------
    directory
        Holds ``anomaly_score_*.csv`` and ``decision_result_*.csv`` of any year's form.
    name
        What to call it.
    how
        The ground truth and the rule.
    only
        Read these sections alone, whatever else the folder holds.

    Raises
    ------
    AsdError
        With every fault of every file.
    """
    wanted = sections_in(directory) if only is None else list(only)
    faults = [f"{name}: not the name of a submission file" for name in misnamed(directory)]
    if not wanted:
        faults.append("no anomaly_score_<machine>_section_<nn>_test.csv in it")
    submissions: dict[Section, Submission] = {}
    truths: dict[Section, SectionTruth] = {}
    for section in wanted:
        try:
            submissions[section] = read_submission(directory, section)
            truth = _truth(submissions[section], how)
        except AsdError as error:
            faults.append(str(error).replace("\n", "\n  "))
            continue
        if truth is not None:
            truths[section] = truth
    told = truth_sections(how.ground_truth) if how.ground_truth else []
    missing = sorted(set(told) - set(wanted))
    if not how.part and only is None:
        faults += _not_whole(missing, sorted(set(submissions) - set(truths)), how)
    raise_faults(f"{directory} is refused", faults)
    return Run(name, directory, submissions, truths, how.rule, missing, frozenset(told))


def _truth(submission: Submission, how: Judging) -> SectionTruth | None:
    if submission.section in how.labels:
        labels = how.labels[submission.section]
    else:
        labels = truth_from_names(submission.files)
    return find_truth(submission, how.ground_truth, labels)


def _not_whole(missing: Sequence[Section], unknown: Sequence[Section], how: Judging) -> list[str]:
    """Faults of a submission that holds fewer or other sections than the ground truth."""
    faults = []
    if missing:
        faults.append(
            f"no files of {some(list(map(str, missing)))}, which the ground truth holds; --part "
            "evaluates the rest"
        )
    if unknown and how.ground_truth:
        faults.append(
            f"files of {some(list(map(str, unknown)))}, which the ground truth does not hold; "
            "--part leaves them out"
        )
    return faults
