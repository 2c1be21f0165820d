"""Files of numbers as recordings: vibration, current and the like in CSV, NPY, MAT, TDMS, HDF5 and Parquet.

`SignalFile` has what the decoder wants of a sound file: rate, channels, samples by span. Values keep their
scale and unit; nothing is clipped at 1. A column is a channel; a clock or a row counter is none. Sizes that a
file claims are held against what it is before memory is taken, no pickle is read, and no link is followed.
"""

from __future__ import annotations

import io
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.heard import Signal
from extractors.audio.containers import Measure

_MOST_WHOLE = 2**30  # bytes of a file, unpacked, that its format only lets us read whole
_MOST_CHUNK = 2**28  # bytes of a chunk of HDF5 or a row group's row of Parquet, unpacked
_MOST_COLUMNS, _MOST_OBJECTS, _DEEPEST = 4096, 20_000, 8
_SHORTEST = 16  # values; what has fewer is no signal
_HEAD = 2**16  # bytes in which the numbers of a text file begin
_EVERY = 2**14  # lines between remembered places of a text file
_BLOCK = 2**20  # bytes of text looked through at once
# By which a rate that is told and the file's own clock may differ; of files in a list the rate is that of
# them all, however their clocks jitter.
_AGREE, _AGREE_LISTED = 0.02, 0.1
_CLOCK = re.compile(r"\W*(?:time|t|timestamps?|seconds?|zeit|elapsed)(?:\b|_)", re.IGNORECASE)
_PARTS = {"ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}  # of a second, in a clock's name
_RATE = re.compile(r"fs|sr|samp(?:ling|le)?[ _]?(?:rate|freq(?:uency)?)(?:[ _]?hz)?", re.IGNORECASE)
_TOLD = re.compile(
    rf"\b(?:{_RATE.pattern})\b[^0-9\n]{{0,12}}([0-9]+(?:\.[0-9]+)?)\s*(k?)(?:hz|s/s)?", re.IGNORECASE
)
_UNIT = re.compile(r"[\[(]([^\])]{1,20})[\])]\s*$")

Values = NDArray[Any]
Read = Callable[[int, int, Sequence[int]], Values]


@dataclass(frozen=True)
class _Table:
    """Columns of equal length: names, how many samples, a rate where the file tells one, a reader.

    ``read(start, count, numbers)`` gives (n, C) values of these columns.
    """

    names: tuple[str, ...]
    frames: int
    read: Read
    rate: float | None = None
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Column:
    """One signal of a file that holds several, of any lengths."""

    name: str
    frames: int
    read: Callable[[int, int], Values]
    rate: float | None = None
    unit: str = ""


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
        table = _FORMATS[suffix.lower()](raw, _wanted(signal.column))
        self._numbers = _chosen(table.names, signal.column)
        self._table, self._centred, self._at = table, signal.remove_dc, 0
        self.names = tuple(table.names[number] for number in self._numbers)
        units = table.units or tuple(_unit(name) for name in table.names)
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


def _wanted(column: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in column.split(",") if part.strip())


def _chosen(names: Sequence[str], column: str) -> list[int]:
    """Find columns by name, by name in other case, or by number."""
    found = []
    for part in _wanted(column):
        exact = [i for i, name in enumerate(names) if name == part]
        loose = [i for i, name in enumerate(names) if name.casefold() == part.casefold()]
        plain = [
            i for i, name in enumerate(names) if _UNIT.sub("", name).strip().casefold() == part.casefold()
        ]
        number = [int(part)] if part.isascii() and part.isdigit() and int(part) < len(names) else []
        match = exact or loose or plain or number
        if len(match) != 1:
            shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            raise AsdError(f"no one column {part!r}; it has {shown}: choose with --column NAME or NUMBER")
        found += match
    return found or list(range(len(names)))


def _agreed(signal: Signal, own: float | None) -> int:
    """Settle on a rate, Hz: that which was told, unless the file's own contradicts it."""
    told, most = signal.rate, _AGREE_LISTED if signal.own else _AGREE
    if own is not None and not (np.isfinite(own) and own > 0):
        own = None
    if told is None:
        if own is None:
            raise AsdError(
                "it does not tell its sampling rate: give --rate HZ, of a manifest a column rate, of "
                "Parquet or HDF5 an entry sample_rate"
            )
        return max(1, round(own))
    if own is not None and abs(own - told) > most * told:
        raise AsdError(f"its own clock says {own:.6g} Hz, it was told to have {told}: correct --rate")
    return told


def _unit(name: str) -> str:
    match = _UNIT.search(name)
    return match[1].strip() if match else ""


def _check_columns(count: int) -> None:
    if count > _MOST_COLUMNS:
        raise AsdError(f"{count} columns, of which {_MOST_COLUMNS} are read: is it turned on its side?")


# Clocks.


def _clock(name: str, values: Values) -> float | None:
    """Tell whether a column's beginning is a clock or a row counter, and its rate if so.

    Returns
    -------
    float or None
        Hz; infinity of a row counter, which tells none; ``None`` of what is a signal.
    """
    named = _CLOCK.match(name) is not None
    if len(values) < 3 or not np.isfinite(values).all():
        return np.inf if named else None
    steps = np.diff(values.astype(np.float64))
    even = steps.min() > 0 and np.ptp(steps) <= 1e-3 * steps.mean()
    if not (named or even):
        return None
    step = (float(values[-1]) - float(values[0])) / (len(values) - 1)
    if step <= 0 or (not named and step >= 1):
        return np.inf
    part = next((share for unit, share in _PARTS.items() if _unit(name) == unit or
                 name.lower().endswith(f"_{unit}")), 1.0)  # fmt: skip
    return 1 / (step * part)


def _without_clocks(table: _Table, certain: Sequence[str] = ()) -> _Table:
    """Take clocks out of the columns, and their rate; a column that is asked for stays."""
    if len(table.names) < 2:
        return table
    count = min(table.frames, 1000)
    head = table.read(0, count, range(len(table.names)))
    asked = {name.casefold() for name in certain}
    clocks = {
        i: rate
        for i, name in enumerate(table.names)
        if name.casefold() not in asked
        and (i == 0 or _CLOCK.match(name))
        and (rate := _clock(name, head[:, i])) is not None
    }
    kept = [i for i in range(len(table.names)) if i not in clocks]
    if not clocks or not kept:
        return table
    rate = table.rate or next((rate for rate in clocks.values() if np.isfinite(rate)), None)

    def read(start: int, frames: int, numbers: Sequence[int]) -> Values:
        return table.read(start, frames, [kept[number] for number in numbers])

    units = tuple(table.units[i] for i in kept) if table.units else ()
    return _Table(tuple(table.names[i] for i in kept), table.frames, read, rate, units)


def _together(columns: Sequence[_Column], wanted: Sequence[str]) -> _Table:
    """Make a table of a file's signals: those asked for, or all of the commonest length.

    Of lengths that are equally common the longest counts.
    """
    if not columns:
        raise AsdError(f"no signal in it: expected a column of at least {_SHORTEST} real numbers")
    _check_columns(len(columns))
    picked = [columns[i] for i in _chosen([c.name for c in columns], ",".join(wanted))] if wanted else []
    lengths = Counter(column.frames for column in picked or columns)
    if picked and len(lengths) > 1:
        raise AsdError(
            f"columns of {', '.join(f'{n} samples' for n in sorted(lengths))}: choose of one length"
        )
    frames = max(lengths, key=lambda length: (lengths[length], length))
    if not picked and len(columns) - lengths[frames] and lengths[frames] == 1:
        frames = max(lengths)
    kept = [column for column in picked or columns if column.frames == frames]
    rates = {column.rate for column in kept if column.rate}
    if len(rates) > 1:
        raise AsdError(f"columns of {', '.join(f'{r:g}' for r in sorted(rates))} Hz: choose with --column")

    def read(start: int, count: int, numbers: Sequence[int]) -> Values:
        return np.stack([np.asarray(kept[number].read(start, count)) for number in numbers], axis=1)

    names = tuple(column.name for column in kept)
    table = _Table(names, frames, read, rates.pop() if rates else None,
                   tuple(column.unit or _unit(column.name) for column in kept))  # fmt: skip
    return _without_clocks(table, wanted)


def _is_real(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "fiu" and dtype.names is None and dtype.itemsize <= 16


def _columns_of(name: str, values: Values, rate: float | None = None) -> Iterator[_Column]:
    """Give the columns of an array in memory; its longer side is time."""
    if values.ndim == 2 and values.shape[0] < values.shape[1]:
        values = values.T
    if not _is_real(values.dtype) or values.ndim not in (1, 2) or len(values) < _SHORTEST:
        return
    table = values.reshape(len(values), -1)
    _check_columns(table.shape[1])
    for i in range(table.shape[1]):
        label = name if table.shape[1] == 1 else f"{name}.{i}"
        yield _Column(label, len(table), partial(_slice, table[:, i]), rate)


def _slice(values: Any, start: int, count: int) -> Values:
    return np.asarray(values[start : start + count])


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


def _csv(raw: BinaryIO, wanted: Sequence[str]) -> _Table:
    text = _text(raw)
    frames, places = _lines(raw, text)

    def read(start: int, count: int, numbers: Sequence[int]) -> Values:
        return _parsed(raw, text, places, start, count)[:, list(numbers)]

    names = tuple(text.names[i] for i in text.numeric)
    return _without_clocks(_Table(names, frames, read, text.rate), wanted)


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
    _check_columns(len(fields))
    header = _fields(before.lstrip("#% "), separator)
    names = tuple(header) if len(header) == len(fields) else tuple(map(str, range(len(fields))))
    return _Text(begin, end, separator, decimal, names, numeric, rate, encoding)


def _fields(line: str, separator: str) -> list[str]:
    parts = line.split() if separator == r"\s+" else line.split(separator)
    return [part.strip().strip('"').strip() for part in parts]


def _is_number(field: str, decimal: str) -> bool:
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
    rows += (empty != b"\n") - _blank_lines(raw, text.end, min(_BLOCK, text.end - text.begin))
    found = rows, tuple(places)
    with _PLACING:
        if key:
            while len(_PLACES) >= 64:
                _PLACES.pop(next(iter(_PLACES)))
            _PLACES[key] = found
    return found


def _blank_lines(raw: BinaryIO, end: int, tail: int) -> int:
    """Count the empty lines at a file's end."""
    raw.seek(end - tail)
    rest = raw.read()
    kept = rest.rstrip(b" \t\r\n")
    return max(0, rest[len(kept) :].count(b"\n") - 1)


def _parsed(raw: BinaryIO, text: _Text, places: Sequence[int], start: int, count: int) -> Values:
    """Read rows of a text file as numbers, (n, C)."""
    import pandas as pd  # noqa: PLC0415 (where text is read)

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
    return frame.to_numpy()


# NPY


def _npy(raw: BinaryIO, _: Sequence[str]) -> _Table:
    try:
        version = np.lib.format.read_magic(raw)
        reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = reader[version](raw)
    except (ValueError, KeyError, SyntaxError, TypeError, EOFError) as error:
        raise AsdError(f"not an NPY file, or damaged: {(str(error).splitlines() or [''])[0]}") from error
    if dtype.hasobject:
        raise AsdError("an array of Python objects: reading it could run code; save numbers instead")
    if not _is_real(dtype) or len(shape) not in (1, 2):
        raise AsdError(f"an array of {dtype} of shape {shape}: expected real numbers, (T,) or (T, C)")
    begin = raw.tell()
    there, needed = raw.seek(0, io.SEEK_END) - begin, int(np.prod(shape, dtype=object)) * dtype.itemsize
    if needed != there:
        raise AsdError(f"cut short: its header tells of {needed} bytes of numbers, {there} are there")
    long = int(len(shape) == 2 and shape[0] < shape[1])
    frames, width = shape[long], shape[1 - long] if len(shape) == 2 else 1
    _check_columns(width)
    apart = len(shape) == 2 and fortran != bool(long)  # a column's samples lie side by side

    def values(first: int, count: int) -> Values:
        raw.seek(begin + first * dtype.itemsize)
        return np.frombuffer(raw.read(count * dtype.itemsize), dtype)

    def read(start: int, count: int, numbers: Sequence[int]) -> Values:
        if apart:
            return np.stack([values(number * frames + start, count) for number in numbers], axis=1)
        return values(start * width, count * width).reshape(count, width)[:, list(numbers)]

    return _without_clocks(_Table(tuple(map(str, range(width))), frames, read))


# MAT


def _mat(raw: BinaryIO, wanted: Sequence[str]) -> _Table:
    from scipy.io import loadmat  # noqa: PLC0415 (where such a file is read)

    head = raw.read(128)
    if head.startswith((b"MATLAB 7.3", b"\x89HDF")):
        return _hdf5(raw, wanted)
    _check_unpacked(raw, head)
    raw.seek(0)
    try:
        found = loadmat(raw, simplify_cells=True)  # type: ignore[arg-type]  # it takes open files
    except AsdError:
        raise
    except Exception as error:  # many kinds, of a parser of old formats
        reason = (str(error).splitlines() or [""])[0]
        raise AsdError(f"not a MAT file, or damaged: {type(error).__name__}: {reason}") from error
    plain = {name: value for name, value in found.items() if not name.startswith("__")}
    leaves = list(_leaves(plain, "", 0))
    rates = [float(v) for name, v in leaves if _is_plain(v) and _RATE.fullmatch(name.rpartition(".")[2])]
    rate = rates[0] if rates else None
    columns = [c for name, value in leaves if isinstance(value, np.ndarray)
               for c in _columns_of(name, value, rate)]  # fmt: skip
    return _together(columns, wanted)


def _is_plain(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating)


def _leaves(value: Any, name: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Give what structures of MATLAB hold, by dotted names."""
    if isinstance(value, Mapping) and depth < _DEEPEST:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key), depth + 1)
    else:
        yield name, value


def _check_unpacked(raw: BinaryIO, head: bytes) -> None:
    """Refuse a MAT file of version 5 whose compressed variables would fill the memory."""
    size = raw.seek(0, io.SEEK_END)
    if size > _MOST_WHOLE:
        raise AsdError(f"{size} bytes: a MAT file is read whole, up to {_MOST_WHOLE}; save as v7.3 or NPY")
    order = {b"IM": "little", b"MI": "big"}.get(head[126:128])
    if order is None:
        return  # version 4, which does not compress
    position, total = 128, 0
    while position + 8 <= size:
        raw.seek(position)
        tag = raw.read(8)
        kind, length = (int.from_bytes(tag[i : i + 4], order) for i in (0, 4))  # type: ignore[arg-type]
        if position + 8 + length > size:
            raise AsdError(f"cut short: a variable of {length} bytes begins at {position} of {size}")
        total += length if kind != 15 else _inflated(raw, length, _MOST_WHOLE - total)
        if total > _MOST_WHOLE:
            raise AsdError(f"more than {_MOST_WHOLE} bytes unpacked: save it as v7.3 or NPY, or shorter")
        position += 8 + length


def _inflated(raw: BinaryIO, length: int, most: int) -> int:
    """Count the bytes that a compressed variable unpacks to, keeping none; stop beyond `most`."""
    unpacker, total = zlib.decompressobj(), 0
    try:
        while length > 0 and total <= most:
            data = raw.read(min(length, _BLOCK))
            length -= len(data)
            while data and total <= most:
                total += len(unpacker.decompress(data, _BLOCK))
                data = unpacker.unconsumed_tail
    except zlib.error as error:
        raise AsdError(f"damaged: {error}") from error
    return total


# HDF5


def _hdf5(raw: BinaryIO, wanted: Sequence[str]) -> _Table:
    h5py = _library("h5py", "HDF5 and MAT v7.3")
    raw.seek(0)
    try:
        file = h5py.File(raw, "r")
    except (OSError, RuntimeError, ValueError) as error:
        raise AsdError(f"not an HDF5 file, or damaged: {error}") from error
    found = list(_datasets(h5py, file, "", 0, {}))
    rate = _attribute_rate(file) or next(
        (float(each[()].ravel()[0]) for name, each in found
         if each.size == 1 and _is_real(each.dtype) and _RATE.fullmatch(name.rpartition("/")[2])), None
    )  # fmt: skip
    columns = [column for name, each in found for column in _dataset_columns(name, each, rate)]
    return _together(columns, wanted)


def _datasets(
    h5py: Any, group: Any, path: str, depth: int, seen: dict[object, bool]
) -> Iterator[tuple[str, Any]]:
    """Walk an HDF5 file; links to other files are not followed, and each object is met once."""
    if depth > _DEEPEST:
        return
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink) or str(name).startswith("#"):
            continue
        each = group[name]
        key = h5py.h5o.get_info(each.id).addr
        if key in seen:
            continue
        seen[key] = True
        if len(seen) > _MOST_OBJECTS:
            raise AsdError(f"more than {_MOST_OBJECTS} objects: choose the signal and save it alone")
        label = f"{path}/{name}" if path else str(name)
        if isinstance(each, h5py.Group):
            yield from _datasets(h5py, each, label, depth + 1, seen)
        elif isinstance(each, h5py.Dataset):
            yield label, each


def _dataset_columns(name: str, each: Any, rate: float | None) -> Iterator[_Column]:
    shape: tuple[int, ...] = each.shape or ()
    if len(shape) not in (1, 2):
        return
    long = int(len(shape) == 2 and shape[0] < shape[-1])
    if not _is_real(each.dtype) or shape[long] < _SHORTEST:
        return
    if each.is_virtual or each.external:
        raise AsdError(f"{name}: its numbers lie in another file, which is not followed: copy them into this")
    chunk = int(np.prod(each.chunks or (1,), dtype=object)) * each.dtype.itemsize
    if chunk > _MOST_CHUNK:
        raise AsdError(f"{name}: chunks of {chunk} bytes, up to {_MOST_CHUNK} are read: save it anew")
    if each.chunks is None and each.size * each.dtype.itemsize > each.id.get_storage_size():
        raise AsdError(f"{name}: cut short: {each.size} numbers in {each.id.get_storage_size()} bytes")
    width = shape[1 - long] if len(shape) == 2 else 1
    _check_columns(width)
    unit = next((str(_text_of(each.attrs[key])) for key in ("unit", "units") if key in each.attrs), "")
    for i in range(width):

        def read(start: int, count: int, i: int = i) -> Values:
            span = slice(start, start + count)
            if len(shape) == 1:
                return np.asarray(each[span])
            return np.asarray(each[span, i] if long == 0 else each[i, span])

        label = name if width == 1 else f"{name}.{i}"
        yield _Column(label, shape[long], read, _attribute_rate(each) or rate, unit)


def _attribute_rate(each: Any) -> float | None:
    for key in each.attrs:
        if _RATE.fullmatch(str(key)):
            value = np.ravel(each.attrs[key])
            if value.size == 1 and value.dtype.kind in "fiu":
                return float(value[0])
    return None


def _text_of(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


# TDMS


def _tdms(raw: BinaryIO, wanted: Sequence[str]) -> _Table:
    nptdms = _library("nptdms", "TDMS")
    size = raw.seek(0, io.SEEK_END)
    raw.seek(0)
    try:
        file = nptdms.TdmsFile.open(raw)
        channels = [channel for group in file.groups() for channel in group.channels()]
    except Exception as error:  # many kinds, of a parser of segments
        raise AsdError(f"not a TDMS file, or damaged: {type(error).__name__}: {error}") from error
    columns = []
    for channel in channels[: _MOST_COLUMNS + 1]:
        if channel.dtype is None or not _is_real(np.dtype(channel.dtype)) or len(channel) < _SHORTEST:
            continue
        if len(channel) > size:
            raise AsdError(f"damaged: {channel.name} claims {len(channel)} samples in {size} bytes")
        step = channel.properties.get("wf_increment")
        rate = 1 / float(step) if isinstance(step, int | float) and step > 0 else None
        unit = str(channel.properties.get("unit_string", ""))
        name = channel.name if len({c.name for c in channels}) == len(channels) else (
            f"{channel.group_name}/{channel.name}"
        )  # fmt: skip
        columns.append(_Column(name, len(channel), partial(_tdms_read, channel), rate, unit))
    return _together(columns, wanted)


def _tdms_read(channel: Any, start: int, count: int) -> Values:
    return np.asarray(channel.read_data(start, count))


# Parquet


def _parquet(raw: BinaryIO, wanted: Sequence[str]) -> _Table:
    import pyarrow as pa  # noqa: PLC0415 (where such a file is read)
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        file = pq.ParquetFile(raw, page_checksum_verification=True)
        schema, footer = file.schema_arrow, file.metadata
    except (pa.ArrowException, OSError, ValueError) as error:
        raise AsdError(f"not a Parquet file, or damaged: {(str(error).splitlines() or [''])[0]}") from error
    real = [f for f in schema if pa.types.is_floating(f.type) or pa.types.is_integer(f.type)]
    if not real:
        raise AsdError(f"no column of numbers in it; it has {', '.join(schema.names[:20])}")
    _check_columns(len(real))
    firsts = np.cumsum([0, *(footer.row_group(i).num_rows for i in range(footer.num_row_groups))])

    def read(start: int, count: int, numbers: Sequence[int]) -> Values:
        groups = [i for i in range(len(firsts) - 1) if firsts[i] < start + count and firsts[i + 1] > start]
        names = [real[number].name for number in numbers]
        at, parts = int(firsts[groups[0]]) if groups else start, []
        try:
            for batch in file.iter_batches(_EVERY, row_groups=groups, columns=names):
                low, high = max(start - at, 0), min(start + count - at, len(batch))
                if low < high:
                    parts.append(np.stack([_numbers(batch.column(n), low, high) for n in names], axis=1))
                at += len(batch)
                if at >= start + count:
                    break
        except (pa.ArrowException, OSError, KeyError) as error:
            raise AsdError(f"damaged: {(str(error).splitlines() or [''])[0]}") from error
        return np.concatenate(parts) if parts else np.empty((0, len(names)))

    told = {k.decode("utf-8", "replace"): v for k, v in (schema.metadata or {}).items()}
    rate = next((_float(v) for k, v in told.items() if _RATE.fullmatch(k)), None)
    table = _Table(tuple(field.name for field in real), footer.num_rows, read, rate)
    return _without_clocks(table, wanted)


def _numbers(column: Any, low: int, high: int) -> Values:
    """Give a part of a column as float64, an empty cell as NaN."""
    return np.asarray(column.slice(low, high - low).to_numpy(zero_copy_only=False), dtype=np.float64)


def _float(text: bytes) -> float | None:
    try:
        return float(json.loads(text))
    except (ValueError, TypeError):
        return None


def _library(name: str, what: str) -> Any:
    from importlib import import_module  # noqa: PLC0415

    try:
        return import_module(name)
    except ImportError as error:
        raise AsdError(f"{what} needs {name}: pip install 'machine-asd[signals]'") from error


_FORMATS: Mapping[str, Callable[[BinaryIO, Sequence[str]], _Table]] = {
    ".csv": _csv, ".tsv": _csv, ".npy": _npy, ".mat": _mat, ".tdms": _tdms,
    ".h5": _hdf5, ".hdf5": _hdf5, ".parquet": _parquet,
}  # fmt: skip
