"""Submission files in and out: the challenge's scores and decisions, one pair a section."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from cache.atomic import write_atomic
from cache.errors import AsdError
from cache.table import Section

T = TypeVar("T")

_NAME = re.compile(r"(?:anomaly_score|decision_result)_(.+)_section_([0-9]{2,})_test\.csv")
_SHOWN = 5  # clips named of a long list


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
        (N,) int64, 1 for anomalous, 0 for normal.
    """

    section: Section
    files: tuple[str, ...]
    scores: NDArray[np.float64]
    decisions: NDArray[np.int64]

    def __post_init__(self) -> None:
        scores = np.asarray(self.scores, dtype=np.float64)
        decisions = np.asarray(self.decisions)
        faults = _column_faults(self.files, scores, decisions)
        raise_faults(f"{self.section}: not a submission", faults)
        order = sorted(range(len(self.files)), key=lambda row: self.files[row])
        object.__setattr__(self, "files", tuple(self.files[row] for row in order))
        object.__setattr__(self, "scores", scores[order])
        object.__setattr__(self, "decisions", decisions[order].astype(np.int64))


@dataclass(frozen=True)
class Rows(Generic[T]):
    """What a two-column file holds, and what is wrong with it.

    Attributes
    ----------
    names
        First column of every line, of bad lines too, to the number of its first line.
    values
        First column to value, of good lines.
    faults
        One a bad line.
    """

    names: dict[str, int] = field(default_factory=dict)
    values: dict[str, T] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def score_name(section: Section) -> str:
    """File name of a section's anomaly scores."""
    return f"anomaly_score_{section.machine_type}_section_{section.number:02d}_test.csv"


def decision_name(section: Section) -> str:
    """File name of a section's decisions."""
    return f"decision_result_{section.machine_type}_section_{section.number:02d}_test.csv"


def parse_name(name: str) -> Section | None:
    """Give the section of a score or decision file's name, ``None`` for any other name."""
    match = _NAME.fullmatch(name)
    if match is None or match[1].startswith(".") or "\\" in match[1]:
        return None
    section = Section(match[1], int(match[2]))
    # "section_007" would be looked for under another name.
    return section if name in (score_name(section), decision_name(section)) else None


def sections_in(directory: Path) -> list[Section]:
    """Sections of which a folder holds scores or decisions, sorted.

    Raises
    ------
    AsdError
        If the folder does not exist.
    """
    if not directory.is_dir():
        raise AsdError(f"no folder {directory}: give the one that holds the submission files")
    found = {parse_name(path.name) for path in directory.iterdir() if path.is_file()}
    return sorted(section for section in found if section is not None)


def write_submission(directory: Path, submission: Submission) -> tuple[Path, Path]:
    """Write a section's two files, each whole or not at all.

    Parameters
    ----------
    directory
        The folder; made where it does not exist.
    submission
        What to write; scores read back exactly.

    Returns
    -------
    tuple[Path, Path]
        The score file and the decision file.
    """
    scores = directory / score_name(submission.section)
    decisions = directory / decision_name(submission.section)
    files = submission.files
    write_atomic(scores, _encode(zip(files, map(repr, submission.scores.tolist()), strict=True)))
    write_atomic(
        decisions, _encode(zip(files, map(str, submission.decisions.tolist()), strict=True))
    )
    return scores, decisions


def read_submission(directory: Path, section: Section) -> Submission:
    """Read a section's two files.

    Raises
    ------
    AsdError
        With every fault of both files.
    """
    scores = read_rows(directory / score_name(section), _score)
    decisions = read_rows(directory / decision_name(section), flag)
    faults = [*scores.faults, *decisions.faults]
    faults += _not_base_names([*scores.names, *decisions.names])
    if scores.names and decisions.names:
        sides = ("the score file", "the decision file")
        faults += name_differences(scores.names, decisions.names, sides)
    raise_faults(f"{section}: faults in the submission files of {directory}", faults)
    files = tuple(scores.values)
    return Submission(
        section,
        files,
        np.array([scores.values[file] for file in files]),
        np.array([decisions.values[file] for file in files]),
    )


def read_rows(path: Path, parse: Callable[[str], T]) -> Rows[T]:
    """Read rows ``file,value``; blank lines, CRLF and a byte order mark are fine.

    Parameters
    ----------
    path
        A CSV file without a header.
    parse
        Value's text to value; a ``ValueError`` says what is wrong with it.

    Returns
    -------
    Rows
        Values by file in the order of lines; one fault a bad line, none raised.
    """
    rows = Rows[T]()
    try:
        lines = csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""))
        for line in lines:
            fault = _add_row(rows, line, lines.line_num, parse)
            if fault:
                rows.faults.append(f"{path.name}, line {lines.line_num}: {fault}")
    except OSError as error:
        return Rows(faults=[f"{path.name}: {error.strerror or error}"])
    except (UnicodeDecodeError, csv.Error) as error:
        rows.faults.append(f"{path.name}: not a CSV file in UTF-8: {error}")
    if not rows.names and not rows.faults:
        rows.faults.append(f"{path.name}: no rows")
    return rows


def flag(text: str) -> int:
    """Read ``0`` or ``1``."""
    if text.strip() not in ("0", "1"):
        raise ValueError(f"{text!r} is neither 0 nor 1")
    return int(text)


def name_differences(
    first: Collection[str], second: Collection[str], called: tuple[str, str]
) -> list[str]:
    """Say which names stand in only one of two collections: a line a side, none if equal."""
    sides = ((first, second, called[1]), (second, first, called[0]))
    gone = [(sorted(set(here) - set(there)), name) for here, there, name in sides]
    return [f"{len(names)} clips not in {name}: {some(names)}" for names, name in gone if names]


def some(names: Sequence[str]) -> str:
    """Name the first few of a list and count the rest."""
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + rest


def raise_faults(title: str, faults: Sequence[str]) -> None:
    """Raise one error of all faults, if there are any."""
    if faults:
        raise AsdError("\n  ".join([f"{title}:", *faults]))


def _add_row(rows: Rows[T], line: list[str], number: int, parse: Callable[[str], T]) -> str | None:
    """Take one line in; what is wrong with it, if anything."""
    if not any(cell.strip() for cell in line):
        return None
    name, *values = line
    first = rows.names.setdefault(name, number)
    if first != number:
        return f"{name!r} stands in line {first} already"
    if len(values) != 1:
        return f"{len(line)} columns, expected 2"
    try:
        rows.values[name] = parse(values[0])
    except ValueError as error:
        return str(error)
    return None


def _score(text: str) -> float:
    try:
        value = float(text) if "_" not in text else math.nan  # Python reads 1_0 as 10
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"score {text!r} is not a finite number")
    return value


def _encode(rows: Iterable[tuple[str, str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


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
