"""A table of recordings: a CSV or Parquet file that says of each file what it is."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from cache.base.errors import AsdError, listing, reasons
from cache.base.text import composed, control_character, parse_json
from cache.files import objects, places
from cache.files.places import place
from cache.files.text_tables import (
    MOST_BYTES,
    MOST_ROWS,
    TextTable,
    check_columns,
    read_bytes,
    read_table,
)
from cache.heard import PLAIN, Signal
from cache.table import CONDITIONS, DOMAINS, Section
from extractors.clips.clip import Clip, Listing
from extractors.clips.folders import check_file, check_path_text, is_signal

SUFFIXES = (".csv", ".parquet")
_REQUIRED = ("path", "split")
_KNOWN = ("path", "machine_type", "section", "split", "domain", "condition", "attributes")
_SIGNAL = ("rate", "column")  # of a file of numbers; of sound they are attributes
_SPLITS = {"train": "train", "normal": "train", "reference": "train", "test": "test", "new": "test"}
_RECORDING = "a recording of numbers is given by its folder, a file by itself is read as a manifest"
_BATCH = 4096  # rows of Parquet at once

Row = Mapping[str, str]


def is_manifest(path: Path) -> bool:
    """Tell a table of recordings from a recording of numbers: it names a column ``path``."""
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return False
    import pyarrow as pa  # noqa: PLC0415 (where a manifest may be)
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        if path.suffix.lower() == ".parquet":
            names = pq.read_schema(pa.BufferReader(read_bytes(path))).names
        else:
            with path.open("rb") as file:
                names = re.split("[,;\t]", file.readline(2**16).decode("utf-8-sig", "replace"))
    except (OSError, ValueError, AsdError, pa.ArrowException):
        return True  # which says what is wrong with it
    return any(name.strip(' "\r\n').lower() == "path" for name in names)


def read_manifest(path: Path) -> Listing:
    """List the clips that a table names.

    Parameters
    ----------
    path
        CSV as `cache.files.text_tables` reads it, or Parquet within the same bounds. ``path`` and
        ``split`` (``train`` or ``test``) are required; ``machine_type`` is the table's own name
        without it, ``section`` 0, ``domain`` (``source``, ``target``) and ``condition``
        (``normal``, ``anomaly``) unknown. ``attributes`` holds a JSON object; ``rate`` (Hz) and
        ``column`` tell how a file of numbers is read; every further column is an attribute where it is
        not empty. Paths are relative to the table's folder and may not
        leave it; an absolute path may lie anywhere on this machine, a URL only in the store that
        the table lies in.

    Returns
    -------
    Listing
        A clip a row; ids are the paths.

    Raises
    ------
    AsdError
        With every fault of every row, by number, the first below the header being 1.
    """
    table = _table(path)
    columns, rows = table.columns, table.rows
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise AsdError(
            f"{path}: no column {missing[0]!r}; a manifest needs path and split, and may have "
            f"{', '.join(_KNOWN[1:])} and any attributes; it has {listing(columns, 20)} "
            f"({_RECORDING})"
        )
    clips, wrong = [], dict(table.faults)
    for number, row in rows.items():
        try:
            clips.append(_Row(path, row).clip())
        except AsdError as error:
            wrong[number] = str(error)
    faults = [f"row {number}: {wrong[number]}" for number in sorted(wrong)]
    counts = Counter(clip.clip_id for clip in clips)
    faults += [f"{name!r} stands in {count} rows" for name, count in counts.items() if count > 1]
    if faults:
        raise reasons(f"{path}: {len(faults)} faults in {len(rows) + len(table.faults)} rows:", faults)
    if not clips:
        raise AsdError(f"{path}: no rows")
    return Listing(tuple(clips), (), (f"{path}: read as a manifest of {len(clips)} clips",))


class _Row:
    """A row of the table at a path."""

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
        number = self.row.get("section") or "0"
        # Python reads no more than 4,300 digits; no section has as many as 11.
        if not (number.isascii() and number.isdigit()):
            raise AsdError(f"section {number!r} is not a whole number from 0")
        machine = self.row.get("machine_type") or self.table.stem
        check_path_text(machine)
        clip_id = composed(PurePosixPath(os.path.normpath(text)).as_posix().lstrip("/"))
        return Clip(
            clip_id,
            path,
            Section(machine, int(number.lstrip("0")[:11] or "0")),
            split,
            self._one_of("domain", dict(zip(DOMAINS, DOMAINS, strict=True))),
            condition or ("normal" if split == "train" else None),
            self._attributes(is_signal(path)),
            signal=self._signal() if is_signal(path) else PLAIN,
        )

    def _path(self, text: str) -> Path:
        if not text:
            raise AsdError("no path")
        check_path_text(text)
        if os.path.normpath(text).split("/")[0] == "..":
            raise AsdError(f"{text!r} leaves the table's folder; give an absolute path if it must")
        if "://" in text or text.startswith("//"):
            places.check_same_store(text, self.table)
            path = places.with_siblings(place(text))
        else:
            path = places.with_siblings(self.table.parent / text)
        try:
            there = path if path.is_file() else None
            if there is None and not text.isascii() and "://" not in text:
                there = _alike(self.table, text)
        except OSError as error:  # a name that is too long, or a store that does not answer
            if places.is_remote(path):
                raise
            raise AsdError(f"{text[:80]!r} cannot be a path: {error.strerror}") from error
        if there is None:
            raise AsdError(f"no file {path}")
        check_file(there)
        if there.name == self.table.name and there.resolve() == self.table.resolve():
            raise AsdError("not an audio file but this manifest itself")
        return there

    def _one_of(self, column: str, allowed: Mapping[str, str]) -> str | None:
        text = self.row.get(column, "").lower()
        if text and text not in allowed:
            raise AsdError(f"{column} {self.row[column]!r} is not one of {', '.join(allowed)}")
        return allowed.get(text)

    def _signal(self) -> Signal:
        rate, column = self.row.get("rate", ""), self.row.get("column", "")
        if rate and not (rate.isascii() and rate.isdigit() and int(rate[:10]) > 0 and len(rate) < 10):
            raise AsdError(f"rate {rate!r} is not whole Hz from 1")
        return Signal(int(rate) if rate else None, column, own=True) if rate or column else PLAIN

    def _attributes(self, numbers: bool) -> dict[str, str]:
        known = (*_KNOWN, *_SIGNAL) if numbers else _KNOWN
        found = {name: text for name, text in self.row.items() if name not in known and text}
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


def _table(path: Path) -> TextTable:
    """Every row as text; the names of columns that mean something in lower case."""
    import pyarrow as pa  # noqa: PLC0415 (where a manifest is)

    try:
        table = _parquet(path) if path.suffix.lower() == ".parquet" else read_table(path)
        known = {name: low if (low := name.lower()) in _KNOWN else name for name in table.columns}
        check_columns(list(known.values()))
    except objects.Unreachable:
        raise
    except (OSError, ValueError, pa.ArrowException, AsdError) as error:
        raise AsdError(f"{path}: not a table in CSV or Parquet: {error} ({_RECORDING})") from error
    rows = {n: {known[name]: row[name] for name in known} for n, row in table.rows.items()}
    return TextTable(tuple(known.values()), rows, table.faults)


def _parquet(path: Path) -> TextTable:
    """Read a Parquet file within the bounds of a text table, told by its footer and batch by batch.

    A text that stands in every row is stored once; copies of it could fill any memory.
    """
    import pyarrow as pa  # noqa: PLC0415 (where a manifest is)
    import pyarrow.compute as pc  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    data = pa.BufferReader(read_bytes(path))
    footer, schema = pq.read_metadata(data), pq.read_schema(data)
    unpacked = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
    check_columns([name.strip() for name in schema.names])
    _check_size(unpacked, footer.num_rows)
    texts = [one.name for one in schema if pa.types.is_string(one.type)]
    found, size = TextTable(tuple(name.strip() for name in schema.names), {}, {}), 0
    for batch in pq.ParquetFile(data, read_dictionary=texts).iter_batches(_BATCH):
        for column in batch.columns:  # each row holds a copy
            if pa.types.is_dictionary(column.type):
                lengths = pc.binary_length(column.dictionary)
                size += int(pc.sum(lengths.take(column.indices)).as_py() or 0)
            else:
                size += int(column.nbytes)
        _check_size(size, footer.num_rows)
        for row in batch.to_pylist():
            number = len(found.rows) + len(found.faults) + 1
            try:
                found.rows[number] = {name.strip(): _text(value) for name, value in row.items()}
            except TypeError as error:
                found.faults[number] = str(error)
    return found


def _check_size(size: int, rows: int) -> None:
    if size > MOST_BYTES or rows > MOST_ROWS:
        raise ValueError(
            f"{size:,} bytes in {rows:,} rows, of which {MOST_BYTES:,} in {MOST_ROWS:,} are read; "
            "split it into several manifests"
        )


def _alike(table: Path, text: str) -> Path | None:
    """Find the one file below a table whose path looks the same, in whatever form of Unicode.

    Raises
    ------
    AsdError
        If there are several.
    """
    found = [table.parent]
    for part in PurePosixPath(os.path.normpath(text)).parts:
        there = [path for folder in found if folder.is_dir() for path in folder.iterdir()]
        found = [path for path in there if composed(path.name) == composed(part)]
    if len(found) > 1:
        raise AsdError(f"{len(found)} files are called {text!r}, in different forms of Unicode")
    return found[0] if found and found[0].is_file() else None


def _text(value: object) -> str:
    """Write a value of a data frame as a cell; a ``TypeError`` says where there is no such text."""
    if isinstance(value, bytes):
        raise TypeError(f"{value[:20]!r} is no text")
    if value is None or value != value:  # noqa: PLR0124 - NaN, an empty cell of a data frame
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a column of whole numbers with empty cells
    if isinstance(value, dict):
        return json.dumps({name: text for name, text in value.items() if text is not None})
    return str(value).strip()
