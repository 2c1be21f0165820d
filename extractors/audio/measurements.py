"""Signals in files of measuring systems and laboratories: MAT, HDF5, TDMS."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from cache.base.errors import AsdError
from extractors.audio.columns import (
    MOST_COLUMNS,
    RATE,
    SHORTEST,
    SignalColumn,
    SignalTable,
    check_columns,
    columns_of,
    is_real,
    together,
)

_MOST_WHOLE = 2**30  # bytes of a file, unpacked, that its format only lets us read whole
_MOST_CHUNK = 2**28  # bytes of a chunk of HDF5, unpacked
_MOST_OBJECTS, _DEEPEST = 20_000, 8
_BLOCK = 2**20  # bytes unpacked at once


def mat(raw: BinaryIO, wanted: Sequence[str]) -> SignalTable:
    """Read a MAT file; of version 7.3 it is HDF5."""
    from scipy.io import loadmat  # noqa: PLC0415 (where such a file is read)

    head = raw.read(128)
    if head.startswith((b"MATLAB 7.3", b"\x89HDF")):
        return hdf5(raw, wanted)
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
    rates = [
        float(v)
        for name, v in leaves
        if isinstance(v, int | float | np.integer | np.floating) and RATE.fullmatch(name.rpartition(".")[2])
    ]
    rate = rates[0] if rates else None
    columns = [c for name, value in leaves if isinstance(value, np.ndarray)
               for c in columns_of(name, value, rate)]  # fmt: skip
    return together(columns, wanted)


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


def hdf5(raw: BinaryIO, wanted: Sequence[str]) -> SignalTable:
    """Read an HDF5 file."""
    h5py = _library("h5py", "HDF5 and MAT v7.3")
    raw.seek(0)
    try:
        file = h5py.File(raw, "r")
    except (OSError, RuntimeError, ValueError) as error:
        raise AsdError(f"not an HDF5 file, or damaged: {error}") from error
    found = list(_datasets(h5py, file, "", 0, {}))
    rate = _attribute_rate(file) or next(
        (float(each[()].ravel()[0]) for name, each in found
         if each.size == 1 and is_real(each.dtype) and RATE.fullmatch(name.rpartition("/")[2])), None
    )  # fmt: skip
    columns = [column for name, each in found for column in _dataset_columns(name, each, rate)]
    return together(columns, wanted)


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


def _dataset_columns(name: str, each: Any, rate: float | None) -> Iterator[SignalColumn]:
    shape: tuple[int, ...] = each.shape or ()
    if len(shape) not in (1, 2):
        return
    long = int(len(shape) == 2 and shape[0] < shape[-1])
    if not is_real(each.dtype) or shape[long] < SHORTEST:
        return
    if each.is_virtual or each.external:
        raise AsdError(f"{name}: its numbers lie in another file, which is not followed: copy them into this")
    chunk = int(np.prod(each.chunks or (1,), dtype=object)) * each.dtype.itemsize
    if chunk > _MOST_CHUNK:
        raise AsdError(
            f"{name}: chunks of {chunk} bytes, and at most {_MOST_CHUNK} are read: save it with smaller ones"
        )
    if each.chunks is None and each.size * each.dtype.itemsize > each.id.get_storage_size():
        raise AsdError(f"{name}: cut short: {each.size} numbers in {each.id.get_storage_size()} bytes")
    width = shape[1 - long] if len(shape) == 2 else 1
    check_columns(width)
    unit = next((each.attrs[key] for key in ("unit", "units") if key in each.attrs), "")
    unit = unit.decode("utf-8", "replace") if isinstance(unit, bytes) else str(unit)
    rate = _attribute_rate(each) or rate
    if len(shape) == 1:
        yield SignalColumn(name, shape[0], each.__getitem__, rate, unit)
        return
    for i in range(width):
        read = partial(lambda at, span: each[span, at] if long == 0 else each[at, span], i)
        yield SignalColumn(name if width == 1 else f"{name}.{i}", shape[long], read, rate, unit)


def _attribute_rate(each: Any) -> float | None:
    for key in each.attrs:
        if RATE.fullmatch(str(key)):
            value = np.ravel(each.attrs[key])
            if value.size == 1 and value.dtype.kind in "fiu":
                return float(value[0])
    return None


def tdms(raw: BinaryIO, wanted: Sequence[str]) -> SignalTable:
    """Read a TDMS file."""
    nptdms = _library("nptdms", "TDMS")
    size = raw.seek(0, io.SEEK_END)
    raw.seek(0)
    try:
        file = nptdms.TdmsFile.open(raw)
        channels = [channel for group in file.groups() for channel in group.channels()]
    except Exception as error:  # many kinds, of a parser of segments
        raise AsdError(f"not a TDMS file, or damaged: {type(error).__name__}: {error}") from error
    columns = []
    for channel in channels[: MOST_COLUMNS + 1]:
        if channel.dtype is None or not is_real(np.dtype(channel.dtype)) or len(channel) < SHORTEST:
            continue
        if len(channel) > size:
            raise AsdError(f"damaged: {channel.name} claims {len(channel)} samples in {size} bytes")
        step = channel.properties.get("wf_increment")
        rate = 1 / float(step) if isinstance(step, int | float) and step > 0 else None
        unit = str(channel.properties.get("unit_string", ""))
        name = channel.name if len({c.name for c in channels}) == len(channels) else (
            f"{channel.group_name}/{channel.name}"
        )  # fmt: skip
        columns.append(SignalColumn(name, len(channel), channel.__getitem__, rate, unit))
    return together(columns, wanted)


def _library(name: str, what: str) -> Any:
    from importlib import import_module  # noqa: PLC0415

    try:
        return import_module(name)
    except ImportError as error:
        raise AsdError(f"{what} needs {name}: pip install 'machine-asd[signals]'") from error
