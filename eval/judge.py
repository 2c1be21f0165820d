"""The judging stage: a folder of submission files, anybody's, to figures where truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cache.base.errors import AsdError
from cache.table import Section
from eval.metrics.intervals import ResamplingPlan, Scores, Uncertainty
from eval.metrics.rules import DEFAULT, Rule
from eval.metrics.sections import SectionResult, SectionTruth, evaluate_section
from eval.metrics.uncertainty import Tally
from eval.results.clips import read_clips
from eval.results.description import SystemDescription, read_description
from eval.results.names import DECISIONS, SCORES, misnamed, section_files, sections_in
from eval.results.rows import raise_faults, some
from eval.results.submission import Submission, read_submission
from eval.results.truth import find_truth, marked, truth_from_names, truth_sections


@dataclass(frozen=True)
class JudgeRequest:
    """Which submission is judged, and by what.

    Attributes
    ----------
    directory
        Holds ``anomaly_score_*.csv`` and ``decision_result_*.csv`` of any year's form.
    name
        What to call it; the folder's name by default.
    ground_truth
        Folder in the evaluator's form; ``None`` leaves it to what our own scoring wrote beside the
        scores, or to labels in clip names.
    rule
        The year's.
    part
        Whether it may leave out sections of the ground truth, or hold others.
    plan
        How intervals are made.
    marks
        A listener's marks, which are the truth then, of the clips that are marked; the others are left out.
    """

    directory: Path
    name: str = ""
    ground_truth: Path | None = None
    rule: Rule = DEFAULT
    part: bool = False
    plan: ResamplingPlan = field(default_factory=ResamplingPlan)
    marks: Path | None = None


@dataclass(frozen=True, eq=False)
class JudgeResult:
    """A submission with its figures; its clips are read again where they are needed.

    Attributes
    ----------
    request
        What was judged, and by what.
    described
        What our own scoring says of the system, or its name alone.
    results
        Section to its figures, where its truth is known.
    unknown
        Sections without ground truth.
    missing
        Sections of the ground truth that it leaves out.
    evaluation
        Sections whose truth a folder of ground truth tells: evaluation data.
    synthetic
        Sections whose test clips are made, not recorded.
    uncertainty
        Intervals of the official score, where there is one.
    """

    request: JudgeRequest
    described: SystemDescription
    results: dict[Section, SectionResult]
    unknown: tuple[Section, ...] = ()
    missing: tuple[Section, ...] = ()
    evaluation: frozenset[Section] = frozenset()
    synthetic: frozenset[Section] = frozenset()
    uncertainty: Uncertainty | None = None

    @property
    def name(self) -> str:
        """What to call it."""
        return self.request.name or self.directory.name

    @property
    def directory(self) -> Path:
        """The folder it was read from."""
        return self.request.directory

    @property
    def rule(self) -> Rule:
        """By which it is evaluated."""
        return self.request.rule

    @property
    def sections(self) -> list[Section]:
        """Sections that it holds, ascending."""
        return sorted({*self.results, *self.unknown})

    def read(self, section: Section) -> tuple[Submission, SectionTruth | None]:
        """Read a section's scores, and what its clips are where that is known."""
        return _read(self.request, section)

    @property
    def scores(self) -> dict[Section, Scores]:
        """Scores with their truth, as comparisons are formed from; read again."""
        found = {section: self.read(section) for section in sorted(self.results)}
        return {s: Scores(one.scores, truth) for s, (one, truth) in found.items() if truth}

    def data_set(self, section: Section) -> str:
        """``development``, ``evaluation``, ``proxy`` or, without truth, nothing."""
        if section not in self.results:
            return ""
        if section in self.synthetic:
            return "proxy"
        return "evaluation" if section in self.evaluation else "development"

    @property
    def is_proxy(self) -> bool:
        """Whether test clips of a section are known to be synthetic."""
        return bool(self.synthetic)

    @property
    def part(self) -> str:
        """Which part of the data set it is; empty for the whole."""
        there, missing = len(self.results), len(self.missing)
        return f"part: {there} of {there + missing} sections" if missing else ""


def judge(request: JudgeRequest) -> JudgeResult:
    """Read a submission, join it to the truth and compute its figures, a section at a time.

    Parameters
    ----------
    request
        Which submission, by what.

    Raises
    ------
    AsdError
        With every fault of every file.
    """
    directory, ground_truth = request.directory, request.ground_truth
    wanted = sections_in(directory)
    faults = [f"{name}: not the name of a submission file" for name in misnamed(directory)]
    if not wanted:
        faults.append("no anomaly_score_<machine>_section_<nn>_test.csv in it")
    described = SystemDescription(request.name)
    try:
        described = read_description(directory, request.name or directory.name)
        faults += _other_sections(described, wanted)
    except AsdError as error:
        faults.append(str(error))
    results: dict[Section, SectionResult] = {}
    unknown, synthetic = [], set()
    tally = Tally(request.rule, request.plan)
    for section in wanted:
        try:
            one, truth = _read(request, section)
        except AsdError as error:
            faults.append(str(error).replace("\n", "\n  "))
            continue
        if truth is None:
            unknown.append(section)
            continue
        results[section] = evaluate_section(one.scores, one.decisions, truth, request.rule)
        synthetic |= {section} if truth.synthetic else set()
        tally.add(section, Scores(one.scores, truth))
    told = truth_sections(ground_truth) if ground_truth else []
    missing = sorted(set(told) - set(wanted))
    if not request.part:
        faults += _not_whole(missing, unknown if ground_truth else [])
    raise_faults(f"{directory} is refused", faults)
    return JudgeResult(
        request, described, results, tuple(unknown), tuple(missing), frozenset(told),
        frozenset(synthetic), tally.uncertainty(),
    )  # fmt: skip


def years_told(directories: Sequence[Path]) -> list[int]:
    """Years that the names of submission files tell."""
    files = [file for d in directories for file in section_files(d, [SCORES, DECISIONS])]
    return sorted({file.year for file in files if file.year is not None})


def _read(request: JudgeRequest, section: Section) -> tuple[Submission, SectionTruth | None]:
    submission = read_submission(request.directory, section)
    if request.marks is not None:
        return marked(request.marks, submission)
    known = read_clips(request.directory, section)
    labels = truth_from_names(submission.files) if known is None else known.labels
    return submission, find_truth(submission, request.ground_truth, labels)


def _other_sections(described: SystemDescription, sections: Sequence[Section]) -> list[str]:
    """Faults of a folder that holds other sections than the run that described it scored."""
    scored, there = set(described.thresholds), set(map(str, sections))
    if not scored:
        return []  # another system's, or described by hand
    faults = []
    if more := sorted(there - scored):
        faults.append(f"files of {some(more)}, which the run of system.json did not score")
    if less := sorted(scored - there):
        faults.append(f"no files of {some(less)}, which the run of system.json scored")
    return [f"{fault}: files of two runs, or some are gone; score again" for fault in faults]


def _not_whole(missing: Sequence[Section], unknown: Sequence[Section]) -> list[str]:
    """Faults of a submission that holds fewer or other sections than the ground truth."""
    faults = []
    if missing:
        faults.append(
            f"no files of {some(list(map(str, missing)))}, which the ground truth holds; --part "
            "evaluates the rest"
        )
    if unknown:
        faults.append(
            f"files of {some(list(map(str, unknown)))}, which the ground truth does not hold; "
            "--part leaves them out"
        )
    return faults
