"""A table of recordings: a CSV or Parquet file that says of each file what it is."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from cache import places
from cache.errors import AsdError
from cache.places import place
from cache.table import CONDITIONS, DOMAINS, Section
from cache.text import control_character, parse_json
from extractors.layouts.clip import Clip, Listing
from extractors.layouts.folders import check_file, check_path_text

SUFFIXES = (".csv", ".parquet")
_REQUIRED = ("path", "split")
_KNOWN = ("path", "machine_type", "section", "split", "domain", "condition", "attributes")
_SPLITS = {"train": "train", "normal": "train", "reference": "train", "test": "test", "new": "test"}
_SHOWN = 20  # rows named of a long list of faults

Row = Mapping[str, str]


def read_manifest(path: Path) -> Listing:
    """List the clips that a table names.

    Parameters
    ----------
    path
        CSV (comma, semicolon or tab, UTF-8) or Parquet. ``path`` and ``split`` (``train`` or
        ``test``) are required; ``machine_type`` is the table's own name without it, ``section`` 0,
        ``domain`` (``source``, ``target``) and ``condition`` (``normal``, ``anomaly``) unknown.
        ``attributes`` holds a JSON object; every further column is an attribute where it is not
        empty. Paths are relative to the table's folder and may not leave it; an absolute path or a
        URL of object storage may lie anywhere.

    Returns
    -------
    Listing
        A clip a row; ids are the paths.

    Raises
    ------
    AsdError
        With every fault of every row, by number, the first below the header being 1.
    """
    columns, rows = _rows(path)
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise AsdError(
            f"{path}: no column {missing[0]!r}; a manifest needs path and split, and may have "
            f"{', '.join(_KNOWN[1:])} and any attributes; it has {', '.join(columns) or 'none'}"
        )
    clips, faults = [], []
    for number, row in enumerate(rows, 1):
        try:
            clips.append(_Row(path, row).clip())
        except AsdError as error:
            faults.append(f"row {number}: {error}")
    faults += _twice(clips)
    if faults:
        more = f"\n  and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        listed = "".join(f"\n  {fault}" for fault in faults[:_SHOWN])
        raise AsdError(f"{path}: {len(faults)} faults in {len(rows)} rows:{listed}{more}")
    if not clips:
        raise AsdError(f"{path}: no rows")
    return Listing(tuple(clips), (), (f"{path}: read as a manifest of {len(clips)} clips",))


class _Row:
    """A row of a table at a place."""

    def __init__(self, table: Path, row: Row) -> None:
        self.table, self.row = table, row

    def clip(self) -> Clip:
        text = self.row["path"].replace("\\", "/")
        path = self._path(text)
        split = self._one_of("split", _SPLITS)
        condition = self._one_of("condition", dict(zip(CONDITIONS, CONDITIONS, strict=True)))
        if split is None:
            raise AsdError(f"no split; expected {', '.join(_SPLITS)}")
        if split == "train" and condition == "anomaly":
            raise AsdError("an anomaly among the training clips, which must all be normal")
        machine = self.row.get("machine_type") or self.table.stem
        check_path_text(machine)
        clip_id = PurePosixPath(os.path.normpath(text)).as_posix().lstrip("/")
        return Clip(
            clip_id,
            path,
            Section(machine, self._number()),
            split,
            self._one_of("domain", dict(zip(DOMAINS, DOMAINS, strict=True))),
            condition or ("normal" if split == "train" else None),
            self._attributes(),
        )

    def _path(self, text: str) -> Path:
        if not text:
            raise AsdError("no path")
        if os.path.normpath(text).split("/")[0] == "..":
            raise AsdError(f"{text!r} leaves the table's folder; give an absolute path if it must")
        path = places.with_siblings(place(text) if "://" in text else self.table.parent / text)
        try:
            there = path.is_file()
        except OSError as error:  # a name that is too long
            raise AsdError(f"{text[:80]!r} cannot be a path: {error.strerror}") from error
        if not there:
            raise AsdError(f"no file {path}")
        check_file(path)
        return path

    def _one_of(self, column: str, allowed: Mapping[str, str]) -> str | None:
        text = self.row.get(column, "").lower()
        if text and text not in allowed:
            raise AsdError(f"{column} {self.row[column]!r} is not one of {', '.join(allowed)}")
        return allowed.get(text)

    def _number(self) -> int:
        text = self.row.get("section") or "0"
        if not (text.isascii() and text.isdigit()):
            raise AsdError(f"section {text!r} is not a whole number from 0")
        # Python reads no more than 4,300 digits; no section has as many as 11.
        return int(text.lstrip("0")[:11] or "0")

    def _attributes(self) -> dict[str, str]:
        found = {name: text for name, text in self.row.items() if name not in _KNOWN and text}
        try:
            told = parse_json(self.row.get("attributes") or "{}")
        except ValueError as error:
            raise AsdError(f"attributes are not JSON: {error}") from error
        if not isinstance(told, dict):
            raise AsdError('attributes are not a JSON object, e.g. {"speed": "3"}')
        every = {**{str(name): str(value) for name, value in told.items()}, **found}
        for name, text in every.items():
            if control := control_character(name + text):
                raise AsdError(f"{name} {text!r} holds the control character {control}")
        return every


def _rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns, and every row as text with surrounding spaces taken off."""
    read: Callable[[Path], tuple[list[str], Iterable[Mapping[str, object]]]]
    read = _parquet if path.suffix.lower() == ".parquet" else _csv
    try:
        columns, rows = read(path)
        names = {name: name.strip().lower() for name in columns if name}
        known = {name: low if low in _KNOWN else name.strip() for name, low in names.items()}
        return list(known.values()), [
            {known[name]: _text(row.get(name)) for name in known} for row in rows
        ]
    except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
        raise AsdError(f"{path}: not a table in CSV (UTF-8) or Parquet: {error}") from error


def _csv(path: Path) -> tuple[list[str], Iterable[Mapping[str, object]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        header = file.readline()
        file.seek(0)
        separator = max(",;\t", key=header.count)
        reader = csv.DictReader(file, delimiter=separator)
        rows = list(reader)
        return list(reader.fieldnames or []), rows


def _parquet(path: Path) -> tuple[list[str], Iterable[Mapping[str, object]]]:
    table = pq.ParquetFile(path).read()
    return table.column_names, table.to_pylist()


def _text(value: object) -> str:
    if value is None or value != value:  # noqa: PLR0124 - NaN, an empty cell of a data frame
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a column of whole numbers with empty cells
    if isinstance(value, dict):
        return json.dumps({name: text for name, text in value.items() if text is not None})
    return str(value).strip()


def _twice(clips: Iterable[Clip]) -> list[str]:
    counts = Counter(clip.clip_id for clip in clips)
    return [f"{name!r} stands in {count} rows" for name, count in counts.items() if count > 1]
