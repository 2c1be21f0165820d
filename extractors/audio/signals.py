"""Files of numbers as recordings: vibration, current and the like in CSV, NPY, MAT, TDMS, HDF5 and Parquet.

`SignalFile` has what the decoder wants of a sound file: rate, channels, samples by span. Values keep their
scale and unit; nothing is clipped at 1. A column is a channel; a clock or a row counter is none. Sizes that a
file claims are held against what it is before memory is taken, no pickle is read, and no link is followed.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError, listing
from cache.heard import Signal
from extractors.audio.columns import (
    RATE,
    SignalTable,
    Values,
    check_columns,
    columns_named,
    is_real,
    names_in,
    unit_in,
    without_clocks,
)
from extractors.audio.measurements import hdf5, mat, tdms
from extractors.audio.streams import Measure

_HEAD = 2**16  # bytes in which the numbers of a text file begin
_EVERY = 2**14  # lines between remembered places of a text file
_BLOCK = 2**20  # bytes of text looked through at once
# By which a rate that is told and the file's own clock may differ; of files in a list the rate is that of
# them all, however their clocks jitter.
_AGREE, _AGREE_LISTED = 0.02, 0.1
_TOLD = re.compile(
    rf"\b(?:{RATE.pattern})\b[^0-9\n]{{0,12}}([0-9]+(?:\.[0-9]+)?)\s*(k?)(?:hz|s/s)?", re.IGNORECASE
)


class SignalFile:
    """A file of numbers, opened; it has what `extractors.audio.files.blocks` reads of a sound file.

    Parameters
    ----------
    raw
        Its bytes.
    suffix
        Of its name, which says the format.
    signal
        What was told of it.

    Raises
    ------
    AsdError
        If it is damaged, has no such column, or nobody says its rate.
    """

    measure = Measure()
    subtype = "NUMBERS"

    def __init__(self, raw: BinaryIO, suffix: str, signal: Signal) -> None:
        raw.seek(0)
        table = _FORMATS[suffix.lower()](raw, names_in(signal.column))
        self._numbers = columns_named(table.names, signal.column)
        self._table, self._centred, self._at = table, signal.remove_dc, 0
        self.names = tuple(table.names[number] for number in self._numbers)
        units = table.units or tuple(unit_in(name) for name in table.names)
        self.units = tuple(units[number] for number in self._numbers)
        self.samplerate = _agreed(signal, table.rate)
        self.frames = table.frames
        self.channels = len(self._numbers)

    def seek(self, frame: int) -> None:
        """Go to a sample."""
        self._at = frame

    def read(self, frames: int, dtype: str = "float32", *, always_2d: bool = True) -> NDArray[np.float32]:
        """Read the next samples, (n, C); all numbers as they are."""
        assert always_2d
        assert dtype == "float32"
        count = max(0, min(frames, self.frames - self._at))
        values = self._table.read(self._at, count, self._numbers) if count else np.empty((0, self.channels))
        self._at += len(values)
        if self._centred and len(values):  # before float32: gravity must not eat the last bits
            values = values - values.mean(axis=0, dtype=np.float64)
        with np.errstate(over="ignore"):  # beyond float32 it is infinite, and refused as that
            return np.ascontiguousarray(values, dtype=np.float32)


def _agreed(signal: Signal, own: float | None) -> int:
    """Settle on a rate, Hz: that which was told, unless the file's own contradicts it."""
    told, most = signal.rate, _AGREE_LISTED if signal.own else _AGREE
    if own is not None and not (np.isfinite(own) and own > 0):
        own = None
    if told is None:
        if own is None:
            raise AsdError(
                "it does not tell its sampling rate: give --rate HZ (rate= in Python), of a manifest a "
                "column rate, of Parquet or HDF5 an entry sample_rate"
            )
        return max(1, round(own))
    if own is not None and abs(own - told) > most * told:
        raise AsdError(f"its own clock says {own:.6g} Hz, it was told to have {told}: correct --rate")
    return told


# CSV


@dataclass(frozen=True)
class _Text:
    """How the numbers of a text file are written, and where they begin."""

    begin: int
    end: int
    separator: str
    decimal: str
    names: tuple[str, ...]
    numeric: tuple[int, ...]
    rate: float | None
    encoding: str


_PLACES: dict[tuple[int, ...], tuple[int, tuple[int, ...]]] = {}
_PLACING = Lock()


def _csv(raw: BinaryIO, wanted: Sequence[str]) -> SignalTable:
    import pandas as pd  # noqa: PLC0415 (where text is read)

    text = _text(raw)
    frames, places = _lines(raw, text)

    def read(start: int, count: int, numbers: Sequence[int]) -> Values:
        first = start // _EVERY
        last = min(len(places), (start + count) // _EVERY + 1)
        stop = places[last] if last < len(places) else text.end
        raw.seek(places[first])
        data = raw.read(stop - places[first])
        try:
            frame = pd.read_csv(
                io.BytesIO(data), sep=text.separator, decimal=text.decimal, header=None, index_col=False,
                names=range(len(text.names)), usecols=list(text.numeric), dtype=np.float64,
                skiprows=start - first * _EVERY, nrows=count, encoding="latin-1", engine="c",
            )  # fmt: skip
        except (ValueError, pd.errors.ParserError) as error:
            reason = (str(error).splitlines() or [""])[0]
            raise AsdError(f"not numbers throughout, from row {start + 1} on: {reason}") from error
        return frame.to_numpy()[:, list(numbers)]

    names = tuple(text.names[i] for i in text.numeric)
    return without_clocks(SignalTable(names, frames, read, text.rate), wanted)


def _text(raw: BinaryIO) -> _Text:
    """Find out how a text file writes its numbers."""
    raw.seek(0)
    head = raw.read(_HEAD)
    if b"\0" in head:
        raise AsdError("not text: it holds zero bytes; expected numbers separated by , ; tab or spaces")
    end = raw.seek(0, io.SEEK_END)
    lines = head.splitlines(keepends=True)
    if end > len(head):
        lines = lines[:-1]
    encoding = "utf-8-sig" if head.startswith(b"\xef\xbb\xbf") else "latin-1"
    last = next((line.decode(encoding, "replace").strip() for line in reversed(lines) if line.strip()), "")
    separator = next((s for s in (";", "\t", ",") if s in last), r"\s+" if len(last.split()) > 1 else ",")
    decimal = "," if separator != "," and re.search(r"\d,\d", last) else "."
    begin, before, rate = 0, "", None
    for line in lines:
        plain = line.decode(encoding, "replace").strip()
        fields = _fields(plain, separator)
        numeric = tuple(i for i, field in enumerate(fields) if _is_number(field, decimal))
        if plain and numeric and len(fields) == len(_fields(last, separator)):
            break
        if told := _TOLD.search(plain):
            rate = float(told[1]) * (1000 if told[2] else 1)
        begin, before = begin + len(line), plain or before
    else:
        raise AsdError(f"no row of numbers within its first {len(head)} bytes")
    check_columns(len(fields))
    header = _fields(before.lstrip("#% "), separator)
    names = tuple(header) if len(header) == len(fields) else tuple(map(str, range(len(fields))))
    return _Text(begin, end, separator, decimal, names, numeric, rate, encoding)


def _fields(line: str, separator: str) -> list[str]:
    parts = line.split() if separator == r"\s+" else line.split(separator)
    return [part.strip().strip('"').strip() for part in parts]


def _is_number(field: str, decimal: str = ".") -> bool:
    try:
        float(field.replace(decimal, "."))
    except ValueError:
        return False
    return True


def _lines(raw: BinaryIO, text: _Text) -> tuple[int, tuple[int, ...]]:
    """Count rows, and remember where every so many begin; once for a file that stays as it is."""
    try:
        told = os.fstat(raw.fileno())
        key: tuple[int, ...] = (told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns)
    except (OSError, AttributeError):  # bytes in memory
        key = ()
    with _PLACING:
        if key in _PLACES:
            return _PLACES[key]
    raw.seek(text.begin)
    rows, places, position, empty = 0, [text.begin], text.begin, b"\n"
    while block := raw.read(_BLOCK):
        ends = np.flatnonzero(np.frombuffer(block, np.uint8) == 10)
        places += (position + 1 + ends[_EVERY - rows % _EVERY - 1 :: _EVERY]).tolist()
        rows, position, empty = rows + len(ends), position + len(block), block[-1:]
    raw.seek(max(text.begin, text.end - _BLOCK))
    rest = raw.read()
    blank = rest[len(rest.rstrip(b" \t\r\n")) :].count(b"\n") - 1  # empty lines at the end
    rows += (empty != b"\n") - max(0, blank)
    found = rows, tuple(places)
    with _PLACING:
        if key:
            while len(_PLACES) >= 64:
                _PLACES.pop(next(iter(_PLACES)))
            _PLACES[key] = found
    return found


# NPY


def _npy(raw: BinaryIO, _: Sequence[str]) -> SignalTable:
    try:
        version = np.lib.format.read_magic(raw)
        reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = reader[version](raw)
    except (ValueError, KeyError, SyntaxError, TypeError, EOFError) as error:
        raise AsdError(f"not an NPY file, or damaged: {(str(error).splitlines() or [''])[0]}") from error
    if dtype.hasobject:
        raise AsdError("an array of Python objects: reading it could run code; save numbers instead")
    if not is_real(dtype) or len(shape) not in (1, 2):
        raise AsdError(f"an array of {dtype} of shape {shape}: expected real numbers, (T,) or (T, C)")
    begin = raw.tell()
    there, needed = raw.seek(0, io.SEEK_END) - begin, int(np.prod(shape, dtype=object)) * dtype.itemsize
    if needed != there:
        raise AsdError(f"cut short: its header tells of {needed} bytes of numbers, {there} are there")
    long = int(len(shape) == 2 and shape[0] < shape[1])
    frames, width = shape[long], shape[1 - long] if len(shape) == 2 else 1
    check_columns(width)
    apart = len(shape) == 2 and fortran != bool(long)  # a column's samples lie side by side

    def values(first: int, count: int) -> Values:
        raw.seek(begin + first * dtype.itemsize)
        return np.frombuffer(raw.read(count * dtype.itemsize), dtype)

    def read(start: int, count: int, numbers: Sequence[int]) -> Values:
        if apart:
            return np.stack([values(number * frames + start, count) for number in numbers], axis=1)
        return values(start * width, count * width).reshape(count, width)[:, list(numbers)]

    return without_clocks(SignalTable(tuple(map(str, range(width))), frames, read))


# Parquet


@dataclass(frozen=True)
class _ParquetNumbers:
    """Columns of numbers of an open file, and the row at which each of its groups begins."""

    file: Any
    names: tuple[str, ...]
    firsts: NDArray[np.int64]

    def read(self, start: int, count: int, numbers: Sequence[int]) -> Values:
        """Read rows of some of the columns as float64, an empty cell as NaN."""
        stop, spans = start + count, list(pairwise(self.firsts.tolist()))
        groups = [i for i, (first, last) in enumerate(spans) if first < stop and last > start]
        names = [self.names[number] for number in numbers]
        at, parts = spans[groups[0]][0] if groups else start, [np.empty((0, len(names)))]
        for batch in self.file.iter_batches(_EVERY, row_groups=groups, columns=names):
            low, high = max(start - at, 0), min(stop - at, len(batch))
            if low < high:
                part = batch.slice(low, high - low)
                columns = [part.column(name).to_numpy(zero_copy_only=False) for name in names]
                parts.append(np.stack([np.asarray(one, dtype=np.float64) for one in columns], axis=1))
            at += len(batch)
            if at >= stop:
                break
        return np.concatenate(parts)


def _parquet(raw: BinaryIO, wanted: Sequence[str]) -> SignalTable:
    import pyarrow as pa  # noqa: PLC0415 (where such a file is read)
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        file = pq.ParquetFile(raw, page_checksum_verification=True)
        schema, footer = file.schema_arrow, file.metadata
    except (pa.ArrowException, OSError, ValueError) as error:
        raise AsdError(f"not a Parquet file, or damaged: {(str(error).splitlines() or [''])[0]}") from error
    real = [f.name for f in schema if pa.types.is_floating(f.type) or pa.types.is_integer(f.type)]
    if not real:
        raise AsdError(f"no column of numbers in it; it has {listing(schema.names, 20)}")
    check_columns(len(real))
    firsts = np.cumsum([0, *(footer.row_group(i).num_rows for i in range(footer.num_row_groups))])
    there = _ParquetNumbers(file, tuple(real), firsts)

    def read(start: int, count: int, numbers: Sequence[int]) -> Values:
        try:
            return there.read(start, count, numbers)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise AsdError(f"damaged: {(str(error).splitlines() or [''])[0]}") from error

    told = {key.decode("latin-1"): value.decode("latin-1").strip('" ')
            for key, value in (schema.metadata or {}).items()}  # fmt: skip
    rate = next((float(v) for k, v in told.items() if RATE.fullmatch(k) and _is_number(v)), None)
    return without_clocks(SignalTable(there.names, footer.num_rows, read, rate), wanted)


_FORMATS: Mapping[str, Callable[[BinaryIO, Sequence[str]], SignalTable]] = {
    ".csv": _csv, ".tsv": _csv, ".npy": _npy, ".mat": mat, ".tdms": tdms,
    ".h5": hdf5, ".hdf5": hdf5, ".parquet": _parquet,
}  # fmt: skip
