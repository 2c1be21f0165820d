"""Submission files in and out: the challenge's scores and decisions, a pair a section."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache.table import Section
from eval.results.folder import ResultsFolder
from eval.results.names import DECISIONS, SCORES, SectionFile, file_name, files_of
from eval.results.rows import flag, join_rows, name_differences, raise_faults, read_rows, some


@dataclass(frozen=True, eq=False)
class Submission:
    """Scores and decisions of one section's test clips, sorted by file.

    Attributes
    ----------
    section
        Whose clips these are.
    files
        N base names of clips, each once.
    scores
        (N,) float64, finite, higher is more anomalous.
    decisions
        (N,) int64, 1 for anomalous, 0 for normal; ``None`` in 2020, which asked for none.
    """

    section: Section
    files: tuple[str, ...]
    scores: NDArray[np.float64]
    decisions: NDArray[np.int64] | None

    def __post_init__(self) -> None:
        scores = np.asarray(self.scores, dtype=np.float64)
        given = np.zeros(scores.shape) if self.decisions is None else self.decisions
        decisions: NDArray[np.generic] = np.asarray(given)
        faults = _column_faults(self.files, scores, decisions)
        raise_faults(f"{self.section}: not a submission", faults)
        order = sorted(range(len(self.files)), key=lambda row: self.files[row])
        object.__setattr__(self, "files", tuple(self.files[row] for row in order))
        object.__setattr__(self, "scores", scores[order])
        if self.decisions is not None:
            object.__setattr__(self, "decisions", decisions[order].astype(np.int64))


def write_submission(results: ResultsFolder, submission: Submission) -> list[Path]:
    """Write a section's files, each whole or not at all.

    Parameters
    ----------
    results
        The folder; made where it does not exist.
    submission
        What to write; scores read back exactly.

    Returns
    -------
    list[Path]
        The score file and, where there are decisions, the decision file.
    """
    columns: dict[str, list[str]] = {SCORES: list(map(repr, submission.scores.tolist()))}
    if submission.decisions is not None:
        columns[DECISIONS] = list(map(str, submission.decisions.tolist()))
    written = []
    for kind, column in columns.items():
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(zip(submission.files, column, strict=True))
        written.append(results.write(file_name(kind, submission.section), text.getvalue().encode()))
    return written


def read_submission(directory: Path, section: Section) -> Submission:
    """Read a section's files, in the form of any year.

    Where the folder holds ``SHA256SUMS``, as those of our own runs do, files must match it.

    Raises
    ------
    AsdError
        With every fault of all of them.
    """
    files = files_of(directory, SCORES, section)
    deciding = files_of(directory, DECISIONS, section)
    sealed = ResultsFolder(directory).read_path
    scores = join_rows([read_rows(file.path, _score, sealed) for file in files])
    faults = [*_doubled(files), *_doubled(deciding), *scores.faults]
    names, decided = [*scores.names], None
    if deciding[0].path.is_file() or files[0].year != 2020:
        decisions = join_rows([read_rows(file.path, flag, sealed) for file in deciding])
        faults += decisions.faults
        names += decisions.names
        decided = decisions.values
    faults += _not_base_names(names)
    if decided is not None and scores.names and decisions.names:
        sides = ("the score file", "the decision file")
        faults += name_differences(scores.names, decisions.names, sides)
    raise_faults(f"{section}: faults in the submission files of {directory}", faults)
    clips = tuple(scores.values)
    called = None if decided is None else np.array([decided[clip] for clip in clips])
    return Submission(section, clips, np.array([scores.values[clip] for clip in clips]), called)


def _doubled(files: Sequence[SectionFile]) -> list[str]:
    """One fault, or none: several files of a section may only be those of its two domains."""
    domains = [file.domain for file in files]
    if len(files) == len(set(domains)) and (None not in domains or len(files) == 1):
        return []
    return [f"several files of one column: {', '.join(file.path.name for file in files)}"]


def _score(text: str) -> float:
    try:
        value = float(text) if "_" not in text else math.nan  # Python reads 1_0 as 10
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"score {text!r} is not a finite number")
    return value


def _column_faults(
    files: Sequence[str], scores: NDArray[np.float64], decisions: NDArray[np.generic]
) -> list[str]:
    if {scores.shape, decisions.shape} != {(len(files),)} or not files:
        shapes = f"{len(files)} files, scores {scores.shape}, decisions {decisions.shape}"
        return [f"{shapes}: expected as many of each, one or more"]
    kinds = {
        "there twice": [file for file, count in Counter(files).items() if count > 1],
        "with a score that is not finite": _picked(files, ~np.isfinite(scores)),
        "with a decision that is neither 0 nor 1": _picked(files, ~np.isin(decisions, (0, 1))),
    }
    found = [f"clips {what}: {some(names)}" for what, names in kinds.items() if names]
    return [*_not_base_names(files), *found]


def _picked(files: Sequence[str], rows: NDArray[np.bool_]) -> list[str]:
    return [file for file, taken in zip(files, rows.tolist(), strict=True) if taken]


def _not_base_names(files: Iterable[str]) -> list[str]:
    """One fault, or none: neither a path nor a line break survives the way to other readers."""
    bad = sorted({name for name in files if not name or set("/\\\r\n") & set(name)})
    return [f"clips not given by base name: {some(bad)}"] if bad else []
