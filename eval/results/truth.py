"""What test clips really are: the evaluator's ground truth, joined to scores by clip name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from posixpath import basename
from typing import TypeVar

import numpy as np

from cache.base.errors import AsdError, listing
from cache.base.text import composed
from cache.files.text_tables import read_table
from cache.table import DOMAINS, Section
from eval.metrics.sections import SectionTruth
from eval.results.names import (
    TRUTH,
    all_synthetic,
    existing_files,
    files_of,
    is_named_synthetic,
    section_files,
)
from eval.results.rows import Rows, flag, join_rows, name_differences, raise_faults, read_rows, some
from eval.results.submission import Submission
from extractors.clips.clip import RECORDING_SUFFIXES
from extractors.clips.listing import parse_name

T = TypeVar("T")

_DATA = "ground_truth_data"
_MARK_COLUMNS = ("machine_type", "section", "clip", "mark")  # of what a listener marked in the page


@dataclass(frozen=True)
class Truth:
    """What one test clip is.

    Attributes
    ----------
    anomaly
        Whether the machine was abnormal.
    domain
        ``source`` or ``target``; ``None`` where unknown.
    name
        The clip's original name, which tells its attributes; ``None`` where unknown.
    synthetic
        Whether the clip is known to be made, not recorded.
    """

    anomaly: bool
    domain: str | None = None
    name: str | None = None
    synthetic: bool = False

    def __post_init__(self) -> None:
        if self.domain not in (None, *DOMAINS):
            raise AsdError(f"domain {self.domain!r} is not one of {', '.join(DOMAINS)}")


def clip_name(name: str) -> str:
    """Give the base name of a clip: without folders, with ``.wav`` where it has no audio suffix.

    Names that look the same are the same, see `cache.base.text.composed`.
    """
    base = composed(basename(name.strip().replace("\\", "/").rstrip("/")))
    return base if base.lower().endswith(RECORDING_SUFFIXES) else f"{base}.wav"


def truth_sections(directory: Path) -> list[Section]:
    """Sections whose anomalies a folder of ground truth tells, sorted."""
    return sorted({file.section for file in section_files(directory / _DATA, [TRUTH])})


def has_ground_truth(directory: Path, section: Section) -> bool:
    """Whether a folder of ground truth tells this section's anomalies."""
    return bool(existing_files(directory / _DATA, TRUTH, section))


def read_ground_truth(directory: Path, section: Section) -> dict[str, Truth]:
    """Read a section's truth from the evaluator's folders.

    Parameters
    ----------
    directory
        Holds ``ground_truth_data`` (1 is an anomaly) and may hold ``ground_truth_domain`` (1 is
        the target domain) and ``ground_truth_attributes`` (original names). A file of one domain,
        as in 2021, tells the domain by its own name.
    section
        Whose clips.

    Returns
    -------
    dict[str, Truth]
        By `clip_name`; domain and name ``None`` where their file is not there.

    Raises
    ------
    AsdError
        With every fault of the files.
    """
    labels = _read(directory / _DATA, section, flag)
    domains = _told_domains(directory / _DATA, section)
    if not domains.names:
        domains = _read_optional(
            directory / "ground_truth_domain", section, lambda text: "target" if flag(text) else "source"
        )
    names = _read_optional(directory / "ground_truth_attributes", section, str.strip)
    faults = [*labels.faults]
    for rows, kind in ((domains, "domain"), (names, "attributes")):
        faults += rows.faults
        if rows.names and labels.names:
            sides = (_DATA, f"ground_truth_{kind}")
            faults += name_differences(labels.names, rows.names, sides)
    raise_faults(f"{section}: faults in the ground truth of {directory}", faults)
    return {
        clip: Truth(bool(label), domains.values.get(clip), names.values.get(clip))
        for clip, label in labels.values.items()
    }


def truth_from_names(files: Iterable[str]) -> dict[str, Truth] | None:
    """Read the truth that development clips carry in their names; ``None`` if one carries none."""
    truth = {}
    for file in files:
        try:
            name = parse_name(PurePosixPath(clip_name(file)).stem, "test")
        except AsdError:
            return None
        if name.condition is None:
            return None
        truth[file] = Truth(name.condition == "anomaly", name.domain, file)
    return truth


def find_truth(
    submission: Submission, ground_truth: Path | None, labels: Mapping[str, Truth] | None
) -> SectionTruth | None:
    """Find out what a section's clips are, if anything says so.

    Parameters
    ----------
    submission
        Its clips.
    ground_truth
        Folder in the evaluator's form; wins over labels.
    labels
        What else is known of the clips; ``None`` where it is not known of all.

    Raises
    ------
    AsdError
        If the truth and the clips do not match.
    """
    if ground_truth is not None and has_ground_truth(ground_truth, submission.section):
        return align(submission, read_ground_truth(ground_truth, submission.section))
    return None if labels is None else align(submission, labels)


def align(submission: Submission, truth: Mapping[str, Truth]) -> SectionTruth:
    """Put the truth in the order of a submission's clips, joined by `clip_name`.

    Parameters
    ----------
    submission
        N clips.
    truth
        Truth by clip; folders and a missing ``.wav`` do not matter.

    Returns
    -------
    SectionTruth
        (N,) in the order of ``submission.files``.

    Raises
    ------
    AsdError
        If a clip stands on one side only or twice, or the domain is known of some clips only, or
        some are synthetic and some are not.
    """
    by_clip = {clip_name(name): found for name, found in truth.items()}
    # Clips may be given by their original, attribute-bearing names.
    originals_of = {clip_name(one.name): clip for clip, one in by_clip.items() if one.name}
    given, known = list(map(clip_name, submission.files)), list(map(clip_name, truth))
    wanted = [clip if clip in by_clip else originals_of.get(clip, clip) for clip in given]
    faults = name_differences(wanted, known, ("the submission", "the ground truth"))
    faults += _twice(wanted, "the submission") + _twice(known, "the ground truth")
    clips = [clip for clip in wanted if clip in by_clip]
    found = [by_clip[clip] for clip in clips]
    domains = {one.domain for one in found}
    if None in domains and len(domains) > 1:
        unknown = [clip for clip, one in by_clip.items() if one.domain is None]
        faults.append(f"the domain is known of some clips but not of {some(unknown)}")
    raise_faults(f"{submission.section}: scores and ground truth do not match", faults)
    target = None if None in domains else np.array([one.domain == "target" for one in found])
    originals = tuple(one.name for one in found)
    made = [
        one.synthetic or is_named_synthetic(clip) or is_named_synthetic(one.name or "")
        for clip, one in zip(clips, found, strict=True)
    ]
    return SectionTruth(
        np.array([one.anomaly for one in found]),
        target,
        tuple(clips),
        originals,
        all_synthetic(submission.section, made),
    )


def read_marks(path: Path, section: Section) -> dict[str, str]:
    """Read the marks of one section: clip to ``normal`` or ``abnormal``.

    Raises
    ------
    AsdError
        If it is no such table, or a mark is another.
    """
    table = read_table(path)
    if missing := [name for name in _MARK_COLUMNS if name not in table.columns]:
        raise AsdError(
            f"{path}: no column {missing[0]!r}; expected the page's marks, {', '.join(_MARK_COLUMNS)}"
        )
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


def _read(folder: Path, section: Section, parse: Callable[[str], T]) -> Rows[T]:
    """Read a section's file or files of one folder, by `clip_name`."""
    files = files_of(folder, TRUTH, section)
    return join_rows([_read_file(file.path, parse) for file in files])


def _read_file(path: Path, parse: Callable[[str], T]) -> Rows[T]:
    rows = read_rows(path, parse)
    # Names equal as written are faults already; "a" and "a.wav" are seen only now.
    same = _twice(map(clip_name, rows.names), path.name)
    where = f"{path.parent.name}/"  # the three files have one name
    return Rows(
        {clip_name(name): line for name, line in rows.names.items()},
        {clip_name(name): value for name, value in rows.values.items()},
        [where + fault for fault in [*rows.faults, *same]],
    )


def _read_optional(folder: Path, section: Section, parse: Callable[[str], T]) -> Rows[T]:
    there = existing_files(folder, TRUTH, section)
    return _read(folder, section, parse) if there else Rows()


def _told_domains(folder: Path, section: Section) -> Rows[str]:
    """Domains by the names of the files that list the clips, as in 2021."""
    told = Rows[str]()
    for file in files_of(folder, TRUTH, section):
        if file.domain is not None:
            rows = _read_file(file.path, str)
            told.names.update(rows.names)
            told.values.update(dict.fromkeys(rows.names, file.domain))
    return told


def _twice(names: Iterable[str], where: str) -> list[str]:
    twice = [name for name, count in Counter(names).items() if count > 1]
    return [f"{where}: {some(twice)} there twice"] if twice else []
