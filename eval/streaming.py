"""Judging sections as they are scored: figures are kept, clips are not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cache.errors import AsdError
from cache.table import Section
from eval.evaluate import Wishes, write_tables
from eval.intervals import Scores
from eval.judge import Judging, part_of
from eval.names import misnamed
from eval.rows import raise_faults
from eval.scores import Submission
from eval.sections import SectionResult, evaluate_section
from eval.tables import SystemResult
from eval.tally import Tally
from eval.truth import Truth, find_truth, truth_sections


class StreamedRun:
    """What `eval.judge.Run` is to a page, for tables alone: one section in memory at a time.

    Parameters
    ----------
    how
        The ground truth and the rule.
    wishes
        What to make.
    """

    def __init__(self, how: Judging, wishes: Wishes) -> None:
        self._how, self._wishes = how, wishes
        self._results: dict[Section, SectionResult] = {}
        self._unknown: list[Section] = []
        self._faults: list[str] = []
        self._proxy = False
        self._tally = Tally(how.rule, wishes.plan)

    def take(self, submission: Submission, labels: Mapping[str, Truth] | None) -> None:
        """Judge a section.

        Parameters
        ----------
        submission
            Its scores and decisions.
        labels
            What its own table tells of the clips; ``None`` where not of all.
        """
        section = submission.section
        try:
            truth = find_truth(submission, self._how.ground_truth, labels)
        except AsdError as error:
            self._faults.append(str(error).replace("\n", "\n  "))
            return
        if truth is None:
            self._unknown.append(section)
            return
        scores, decisions = submission.scores, submission.decisions
        self._results[section] = evaluate_section(scores, decisions, truth, self._how.rule)
        self._proxy |= truth.synthetic
        self._tally.add(section, Scores(scores, truth))

    def finish(self, directory: Path, name: str) -> SystemResult:
        """Write the tables of all sections taken.

        Parameters
        ----------
        directory
            Where the submission was written, with its description.
        name
            What to call it where that says nothing.

        Raises
        ------
        AsdError
            With every fault of every section.
        """
        faults = [f"{file}: not the name of a submission file" for file in misnamed(directory)]
        raise_faults(f"{directory} is refused", faults + self._faults)
        truth = self._how.ground_truth
        missing = set(truth_sections(truth) if truth else []) - {*self._results, *self._unknown}
        result = SystemResult(
            title=name,
            sections=self._results,
            facts={},
            unknown=self._unknown,
            rule=self._how.rule,
            uncertainty=self._tally.uncertainty(),
            part=part_of(len(self._results), len(missing)),
            proxy=self._proxy,
        )
        return write_tables(directory, name, result, self._wishes)
