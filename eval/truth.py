"""What test clips really are: the evaluator's ground truth, joined to scores by clip name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np

from cache.errors import AsdError
from cache.table import DOMAINS, Section
from eval.scores import Rows, Submission, flag, name_differences, raise_faults, read_rows, some
from eval.sections import SectionTruth

T = TypeVar("T")

_AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


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
    """

    anomaly: bool
    domain: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if self.domain not in (None, *DOMAINS):
            raise AsdError(f"domain {self.domain!r} is not one of {', '.join(DOMAINS)}")


def clip_name(name: str) -> str:
    """Give the base name of a clip: without folders, with ``.wav`` where it has no audio suffix."""
    base = PurePosixPath(name.strip().replace("\\", "/")).name
    return base if base.lower().endswith(_AUDIO_SUFFIXES) else f"{base}.wav"


def has_ground_truth(directory: Path, section: Section) -> bool:
    """Whether a folder of ground truth tells this section's anomalies."""
    return _path(directory, "data", section).is_file()


def read_ground_truth(directory: Path, section: Section) -> dict[str, Truth]:
    """Read a section's truth from the evaluator's folders.

    Parameters
    ----------
    directory
        Holds ``ground_truth_data`` (1 is an anomaly) and may hold ``ground_truth_domain`` (1 is
        the target domain) and ``ground_truth_attributes`` (original names).
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
    labels = _read(_path(directory, "data", section), flag)
    domains = _read_optional(_path(directory, "domain", section), _domain)
    names = _read_optional(_path(directory, "attributes", section), str.strip)
    faults = [*labels.faults]
    for rows, kind in ((domains, "domain"), (names, "attributes")):
        faults += rows.faults
        if rows.names and labels.names:
            sides = ("ground_truth_data", f"ground_truth_{kind}")
            faults += name_differences(labels.names, rows.names, sides)
    raise_faults(f"{section}: faults in the ground truth of {directory}", faults)
    return {
        clip: Truth(bool(label), domains.values.get(clip), names.values.get(clip))
        for clip, label in labels.values.items()
    }


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
        If a clip stands on one side only or twice, or the domain is known of some clips only.
    """
    wanted, known = [clip_name(file) for file in submission.files], list(map(clip_name, truth))
    faults = name_differences(wanted, known, ("the submission", "the ground truth"))
    faults += _twice(wanted, "the submission") + _twice(known, "the ground truth")
    by_clip = {clip_name(name): found for name, found in truth.items()}
    found = [by_clip[clip] for clip in wanted if clip in by_clip]
    domains = {one.domain for one in found}
    if None in domains and len(domains) > 1:
        unknown = [clip for clip, one in by_clip.items() if one.domain is None]
        faults.append(f"the domain is known of some clips but not of {some(unknown)}")
    raise_faults(f"{submission.section}: scores and ground truth do not match", faults)
    target = None if None in domains else np.array([one.domain == "target" for one in found])
    return SectionTruth(np.array([one.anomaly for one in found]), target)


def _path(directory: Path, kind: str, section: Section) -> Path:
    name = f"ground_truth_{section.machine_type}_section_{section.number:02d}_test.csv"
    return directory / f"ground_truth_{kind}" / name


def _read(path: Path, parse: Callable[[str], T]) -> Rows[T]:
    """Read one of the three files, by `clip_name`."""
    rows = read_rows(path, parse)
    # Names equal as written are faults already; "a" and "a.wav" are seen only now.
    same = _twice(map(clip_name, rows.names), path.name)
    where = f"{path.parent.name}/"  # the three files have one name
    return Rows(
        {clip_name(name): line for name, line in rows.names.items()},
        {clip_name(name): value for name, value in rows.values.items()},
        [where + fault for fault in [*rows.faults, *same]],
    )


def _read_optional(path: Path, parse: Callable[[str], T]) -> Rows[T]:
    return _read(path, parse) if path.exists() else Rows()


def _domain(text: str) -> str:
    return "target" if flag(text) else "source"


def _twice(names: Iterable[str], where: str) -> list[str]:
    twice = [name for name, count in Counter(names).items() if count > 1]
    return [f"{where}: {some(twice)} there twice"] if twice else []
