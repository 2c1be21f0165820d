"""What a listener marked in the page: clips that are normal after all, and truly abnormal ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cache.base.errors import AsdError, listing
from cache.files.text_tables import read_table
from cache.table import Section
from eval.metrics.sections import SectionTruth
from eval.results.submission import Submission
from eval.results.truth import Truth, align, clip_name

COLUMNS = ("machine_type", "section", "clip", "mark")


def read_marks(path: Path, section: Section) -> dict[str, str]:
    """Read the marks of one section: clip to ``normal`` or ``abnormal``.

    Raises
    ------
    AsdError
        If it is no such table, or a mark is another.
    """
    table = read_table(path)
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise AsdError(f"{path}: no column {missing[0]!r}; expected the page's marks, {', '.join(COLUMNS)}")
    found, faults = {}, [f"row {number}: {fault}" for number, fault in table.faults.items()]
    own = (section.machine_type, str(section.number))
    for number, row in table.rows.items():
        if row["mark"] not in ("normal", "abnormal"):
            faults.append(f"row {number}: mark {row['mark']!r}; expected normal or abnormal")
        elif (row["machine_type"], row["section"].lstrip("0") or "0") == own:
            found[row["clip"]] = row["mark"]
    if faults:
        raise AsdError(f"{path}: {listing(faults)}")
    return found


def marked(path: Path, submission: Submission) -> tuple[Submission, SectionTruth | None]:
    """Give the part of a submission that is marked, with the marks as its truth.

    Returns
    -------
    Submission, SectionTruth or None
        The whole and ``None`` where not both kinds are marked: there is nothing to compare.

    Raises
    ------
    AsdError
        If a clip is marked that was not scored.
    """
    marks = {clip_name(clip): mark for clip, mark in read_marks(path, submission.section).items()}
    rows = [row for row, file in enumerate(submission.files) if clip_name(file) in marks]
    if strange := sorted(set(marks) - {clip_name(submission.files[row]) for row in rows}):
        raise AsdError(f"{path}: {submission.section} has no scores of {listing(strange)}, which are marked")
    if len(set(marks.values())) < 2:
        return submission, None
    decisions = None if submission.decisions is None else submission.decisions[np.array(rows)]
    files = tuple(submission.files[row] for row in rows)
    part = Submission(submission.section, files, submission.scores[np.array(rows)], decisions)
    return part, align(part, {file: Truth(marks[clip_name(file)] == "abnormal") for file in files})
