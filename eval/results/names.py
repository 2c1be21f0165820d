"""Names of submission and ground-truth files, as each year of the task wanted them.

======================= ==================================================
2020                    ``anomaly_score_<machine>_id_<nn>.csv``
2021                    ``anomaly_score_<machine>_section_<nn>_<domain>_test.csv``
2022 and after          ``anomaly_score_<machine>_section_<nn>_test.csv``
======================= ==================================================

Decisions are called ``decision_result_...``, the truth ``ground_truth_...``; ``_test`` may be left
out. A machine id of 2020 is a section here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os.path import commonpath
from pathlib import Path, PurePosixPath
from posixpath import basename

from cache.base.errors import AsdError
from cache.heard import split_id
from cache.table import SYNTHETIC, Section
from extractors.clips.listing import parse_name, parse_tail


def result_names(clip_ids: Sequence[str]) -> tuple[str, ...]:
    """Name a section's test clips as its result files do.

    Parameters
    ----------
    clip_ids
        Ids of all of them, each once.

    Returns
    -------
    tuple of str
        A name a clip; windows of a file have the file's. Base names, as the task wants them. Where
        two files in different folders have one, all take the folders below their common one with
        them, joined by two underscores.

    Raises
    ------
    AsdError
        If that does not tell files apart.
    """
    files = [split_id(clip_id)[0] for clip_id in clip_ids]
    unique = list(dict.fromkeys(files))
    names = [basename(file) for file in unique]
    if len(set(names)) < len(names):
        paths = [PurePosixPath(file) for file in unique]
        common = commonpath([path.parent.as_posix() for path in paths])
        names = ["__".join(path.relative_to(common).parts) for path in paths]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise AsdError(f"several test clips would be called {twice[0]!r} in results; rename one")
    known = dict(zip(unique, names, strict=True))
    return tuple(known[file] for file in files)


SCORES, DECISIONS, TRUTH = "anomaly_score", "decision_result", "ground_truth"

_NAME = re.compile(
    rf"(?P<kind>{SCORES}|{DECISIONS}|{TRUTH})_(?P<machine>.+)_(?P<unit>section|id)_"
    r"(?P<number>[0-9]{2,})(?:_(?P<domain>source|target))?(?:_test)?\.csv"
)


@dataclass(frozen=True)
class SectionFile:
    """A file that holds one column of a section, or of one domain of it.

    Attributes
    ----------
    path
        Where it lies.
    kind
        ``anomaly_score``, ``decision_result`` or ``ground_truth``.
    section
        Whose clips it lists.
    domain
        ``None`` where it lists both.
    year
        2020 or 2021 where the form of the name tells it, else ``None``.
    """

    path: Path
    kind: str
    section: Section
    domain: str | None
    year: int | None


def parse_file(path: Path) -> SectionFile | None:
    """Read a file's name; ``None`` where it is not one of the task's."""
    match = _NAME.fullmatch(path.name)
    if match is None or match["machine"].startswith(".") or "\\" in match["machine"]:
        return None
    number = int(match["number"])
    if f"{number:02d}" != match["number"]:
        return None
    year = 2020 if match["unit"] == "id" else 2021 if match["domain"] else None
    section = Section(match["machine"], number)
    return SectionFile(path, match["kind"], section, match["domain"], year)


def section_files(directory: Path, kinds: Iterable[str]) -> list[SectionFile]:
    """List a folder's files of these kinds, by name; a folder that is not there has none."""
    if not directory.is_dir():
        return []
    paths = sorted(path for path in directory.iterdir() if path.is_file())
    found = [parse_file(path) for path in paths]
    return [file for file in found if file is not None and file.kind in set(kinds)]


def files_of(directory: Path, kind: str, section: Section) -> list[SectionFile]:
    """List the files of one kind and section, by name; at least one, which may not exist."""
    found = existing_files(directory, kind, section)
    return found or [SectionFile(directory / file_name(kind, section), kind, section, None, None)]


def existing_files(directory: Path, kind: str, section: Section) -> list[SectionFile]:
    """List the files of one kind and section that are there, by name.

    Every name they may have is looked up: a folder of thousands of sections is not read for each.
    """
    stem = f"{kind}_{section.machine_type}"
    names = (
        f"{stem}_{unit}_{section.number:02d}{domain}{end}.csv"
        for unit in ("section", "id")
        for domain in ("", "_source", "_target")
        for end in ("", "_test")
    )
    paths = sorted(path for name in names if (path := directory / name).is_file())
    found = [parse_file(path) for path in paths]
    return [file for file in found if file is not None and file.section == section]


def file_name(kind: str, section: Section, suffix: str = "csv") -> str:
    """Name of a section's file in the form of 2022 and after."""
    return f"{kind}_{section.machine_type}_section_{section.number:02d}_test.{suffix}"


def misnamed(directory: Path) -> list[str]:
    """Names that begin as a submission's files do but are none."""
    begun = (f"{SCORES}_", f"{DECISIONS}_")
    return sorted(
        path.name
        for path in directory.iterdir()
        if path.name.startswith(begun) and path.suffix == ".csv" and parse_file(path) is None
    )


def sections_in(directory: Path) -> list[Section]:
    """Sections of which a folder holds scores or decisions, sorted.

    Raises
    ------
    AsdError
        If the folder does not exist.
    """
    if not directory.is_dir():
        raise AsdError(f"no folder {directory}: give the one that holds the submission files")
    return sorted({file.section for file in section_files(directory, [SCORES, DECISIONS])})


PROXY = "proxy: synthetic anomalies"  # what stands wherever a figure is of made-up anomalies


def all_synthetic(section: Section, flags: Sequence[bool]) -> bool:
    """Whether a section's test clips are made, not recorded.

    Parameters
    ----------
    section
        Whose.
    flags
        One a test clip, at least one.

    Raises
    ------
    AsdError
        If some are and some are not: no figure over both says anything of the recordings.
    """
    if any(flags) and not all(flags):
        raise AsdError(
            f"{section}: {sum(flags)} of {len(flags)} test clips are synthetic; made-up anomalies "
            "and recordings are not evaluated together: keep the proxy in a data root and a cache "
            "folder of its own"
        )
    return bool(flags) and flags[0]


def is_named_synthetic(name: str) -> bool:
    """Whether a test clip's name, with its suffix, tells that it is made."""
    if SYNTHETIC not in name:  # spares thousands of clips the parsing
        return False
    try:
        return SYNTHETIC in parse_tail(parse_name(PurePosixPath(name).stem, "test").tail)
    except AsdError:
        return False
