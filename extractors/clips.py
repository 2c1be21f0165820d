"""Data roots in the task's layout to a list of clips; whatever does not fit is named."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from cache.errors import AsdError
from cache.table import SPLITS, Section

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")

# DCASE 2023 Task 2: development, additional training and, without a label, evaluation clips.
_LABELLED = re.compile(
    r"section_(?P<section>\d{2,})_(?P<domain>source|target)_(?P<split>train|test)_"
    r"(?P<condition>normal|anomaly)_(?P<number>\d+)(?:_(?P<attributes>.+))?"
)
_ANONYMOUS = re.compile(r"section_(?P<section>\d{2,})_(?P<number>\d+)")
_EXPECTED = (
    "section_<nn>_<source|target>_<train|test>_<normal|anomaly>_<nnnn>[_<attributes>] or, in a "
    "test folder, section_<nn>_<nnnn>"
)


@dataclass(frozen=True)
class Clip:
    """One audio file and what its name and its attribute file say of it.

    Attributes
    ----------
    clip_id
        POSIX path relative to the data root.
    domain, condition
        ``None`` where unknown, as in the challenge's evaluation data.
    attributes
        Operating conditions, name to value.
    """

    clip_id: str
    path: Path
    section: Section
    split: str
    domain: str | None = None
    condition: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """A file that could not be used, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class Listing:
    """What one or several data roots hold.

    Attributes
    ----------
    clips
        By ``clip_id``, ascending; each id once.
    faults
        Files left out, each with the reason.
    notes
        What was read in another way than the files suggest.
    """

    clips: tuple[Clip, ...]
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()

    def only(self, machines: Sequence[str], splits: Sequence[str]) -> Listing:
        """Keep these machine types and splits; an empty sequence keeps all.

        Raises
        ------
        AsdError
            If nothing is left.
        """
        known = sorted({clip.section.machine_type for clip in self.clips})
        unknown = sorted(set(machines) - set(known))
        if unknown:
            raise AsdError(f"no machine type {unknown[0]!r} in the data; it has {', '.join(known)}")
        clips = tuple(
            clip
            for clip in self.clips
            if clip.section.machine_type in (machines or known) and clip.split in (splits or SPLITS)
        )
        if not clips:
            raise AsdError(f"no clips of {', '.join(splits)} in the data")
        return Listing(clips, self.faults, self.notes)


def list_clips(roots: Sequence[Path]) -> Listing:
    """List the clips of data roots in the 2023 layout, ``ROOT/<machine>/<train|test>/*.wav``.

    Parameters
    ----------
    roots
        One or several, e.g. ``dev_data`` and ``eval_data``.

    Returns
    -------
    Listing
        Clips by id, the files left out and the notes.

    Raises
    ------
    AsdError
        If a root is missing or holds no clip, or two clips have one id.
    """
    listings = [_list_root(root) for root in roots]
    clips = sorted((c for listing in listings for c in listing.clips), key=lambda c: c.clip_id)
    _check_unique(clips)
    return Listing(
        tuple(clips),
        tuple(fault for listing in listings for fault in listing.faults),
        tuple(note for listing in listings for note in listing.notes),
    )


def parse_name(stem: str, split: str) -> tuple[int, str | None, str | None, dict[str, str]]:
    """Read a clip's file name.

    Parameters
    ----------
    stem
        File name without its suffix.
    split
        Name of the folder it lies in.

    Returns
    -------
    section, domain, condition, attributes
        Section number; domain and condition are ``None`` for an anonymous clip.

    Raises
    ------
    AsdError
        If the name does not follow the layout or contradicts its folder.
    """
    if labelled := _LABELLED.fullmatch(stem):
        if labelled["split"] != split:
            raise AsdError(f"named {labelled['split']} but lies in {split}/; move or rename it")
        if split == "train" and labelled["condition"] == "anomaly":
            raise AsdError("an anomaly among the training clips, which must all be normal")
        attributes = _pairs(labelled["attributes"] or "")
        return int(labelled["section"]), labelled["domain"], labelled["condition"], attributes
    anonymous = _ANONYMOUS.fullmatch(stem)
    if anonymous and split == "test":
        return int(anonymous["section"]), None, None, {}
    raise AsdError(f"the name does not follow the layout; expected {_EXPECTED}")


def _pairs(text: str) -> dict[str, str]:
    tokens = text.split("_") if text else []
    return dict(zip(tokens[::2], [*tokens[1::2], ""], strict=False))


def _list_root(root: Path) -> Listing:
    folders = _split_folders(root)
    clips: list[Clip] = []
    faults: list[Fault] = []
    notes: list[str] = []
    for machine in sorted({folder.parent for folder in folders}):
        table, csv_faults = _attribute_tables(machine)
        faults += csv_faults
        without_row = 0
        for path in _files(f for f in folders if f.parent == machine):
            try:
                clip = _clip(root, path)
            except AsdError as error:
                faults.append(Fault(path, str(error)))
                continue
            row = table.get(f"{clip.split}/{path.name}")
            without_row += bool(table) and row is None and clip.condition is not None
            clips.append(clip if row is None else _with_attributes(clip, row))
        if without_row:
            notes.append(f"{machine}: {without_row} clips have no row in the attribute file; "
                         "their attributes are read from the file names")  # fmt: skip
    if not clips:
        reasons = "".join(f"\n  {fault}" for fault in faults[:5])
        raise AsdError(f"no clips in {root}: expected <machine>/<train|test>/*.wav{reasons}")
    return Listing(tuple(clips), tuple(faults), tuple(notes))


def _split_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise AsdError(f"{root} is not a folder; --data wants the folder that holds the machines")
    folders = [f for split in SPLITS for f in sorted(root.glob(f"*/{split}")) if f.is_dir()]
    if folders:
        return folders
    if any((root / split).is_dir() for split in SPLITS):
        raise AsdError(f"{root} is a machine's own folder; give --data {root.resolve().parent}")
    deeper = sorted({folder.parents[1] for s in SPLITS for folder in root.glob(f"*/*/{s}")})
    if deeper:
        raise AsdError(f"{root} holds several data roots; give --data {' '.join(map(str, deeper))}")
    raise AsdError(f"no machine in {root}: expected {root}/<machine>/train and .../test")


def _files(folders: Iterable[Path]) -> list[Path]:
    paths = [path for folder in folders for path in sorted(folder.iterdir())]
    return [p for p in paths if not p.name.startswith(".")]


def _clip(root: Path, path: Path) -> Clip:
    if path.suffix.lower() not in AUDIO_SUFFIXES or not path.is_file():
        raise AsdError(f"not an audio file; expected {', '.join(AUDIO_SUFFIXES)}")
    split, machine = path.parent.name, path.parents[1].name
    number, domain, condition, attributes = parse_name(path.stem, split)
    clip_id = path.relative_to(root).as_posix()
    return Clip(clip_id, path, Section(machine, number), split, domain, condition, attributes)


def _with_attributes(clip: Clip, attributes: Mapping[str, str]) -> Clip:
    return Clip(
        clip.clip_id, clip.path, clip.section, clip.split, clip.domain, clip.condition, attributes
    )


def _attribute_tables(machine: Path) -> tuple[dict[str, dict[str, str]], list[Fault]]:
    """Rows of a machine's attribute files by ``<split>/<file name>``, and what was wrong."""
    rows: dict[str, dict[str, str]] = {}
    faults = []
    for path in sorted(machine.glob("attributes_*.csv")):
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows |= dict(_attribute_row(row) for row in csv.DictReader(file))
        except (KeyError, ValueError, AttributeError, csv.Error) as error:
            faults.append(Fault(path, f"not an attribute file (file_name,d1p,d1v,...): {error!r}"))
    return rows, faults


def _attribute_row(row: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    names = [key for key in row if key and re.fullmatch(r"d\d+p", key)]
    attributes = {row[name]: row[f"{name[:-1]}v"] or "" for name in names if row[name]}
    return "/".join(Path(row["file_name"]).parts[-2:]), attributes


def _check_unique(clips: Sequence[Clip]) -> None:
    for before, clip in pairwise(clips):
        if before.clip_id == clip.clip_id:
            raise AsdError(
                f"two clips with one id {clip.clip_id!r}: {before.path} and {clip.path}; extract "
                "the two data roots into two cache folders (--cache-dir)"
            )
