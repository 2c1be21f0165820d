"""Columns of numbers as signals: which are asked for, which are clocks, which belong together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError, listing

MOST_COLUMNS = 4096
SHORTEST = 16  # values; what has fewer is no signal
_CLOCK = re.compile(r"\W*(?:time|t|timestamps?|seconds?|zeit|elapsed)(?:\b|_)", re.IGNORECASE)
_PARTS = {"ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}  # of a second, in a clock's name
RATE = re.compile(r"fs|sr|samp(?:ling|le)?[ _]?(?:rate|freq(?:uency)?)(?:[ _]?hz)?", re.IGNORECASE)
_UNIT = re.compile(r"[\[(]([^\])]{1,20})[\])]\s*$")

Values = NDArray[Any]
Read = Callable[[int, int, Sequence[int]], Values]


@dataclass(frozen=True)
class SignalTable:
    """Columns of equal length: names, how many samples, a rate where the file tells one, a reader.

    ``read(start, count, numbers)`` gives (n, C) values of these columns.
    """

    names: tuple[str, ...]
    frames: int
    read: Read
    rate: float | None = None
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class SignalColumn:
    """One signal of a file that holds several, of any lengths."""

    name: str
    frames: int
    read: Callable[[slice], Any]
    rate: float | None = None
    unit: str = ""


def names_in(column: str) -> tuple[str, ...]:
    """Read ``NAME[,NAME...]``."""
    return tuple(part.strip() for part in column.split(",") if part.strip())


def columns_named(names: Sequence[str], column: str) -> list[int]:
    """Find columns by name, by name in other case, or by number."""
    found = []
    for part in names_in(column):
        exact = [i for i, name in enumerate(names) if name == part]
        loose = [i for i, name in enumerate(names) if name.casefold() == part.casefold()]
        plain = [
            i for i, name in enumerate(names) if _UNIT.sub("", name).strip().casefold() == part.casefold()
        ]
        number = [int(part)] if part.isascii() and part.isdigit() and int(part) < len(names) else []
        match = exact or loose or plain or number
        if len(match) != 1:
            there = listing(names, 20)
            raise AsdError(f"no one column {part!r}; it has {there}: choose with --column NAME or NUMBER")
        found += match
    return found or list(range(len(names)))


def unit_in(name: str) -> str:
    """Read the unit behind a column's name, as in ``acc [g]``; empty where none is."""
    match = _UNIT.search(name)
    return match[1].strip() if match else ""


def check_columns(count: int) -> None:
    """Refuse more columns than a table of signals has."""
    if count > MOST_COLUMNS:
        raise AsdError(
            f"{count} columns, and at most {MOST_COLUMNS} are read: transpose it if rows are signals"
        )


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
    part = next((share for unit, share in _PARTS.items() if unit_in(name) == unit or
                 name.lower().endswith(f"_{unit}")), 1.0)  # fmt: skip
    return 1 / (step * part)


def without_clocks(table: SignalTable, certain: Sequence[str] = ()) -> SignalTable:
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
    return SignalTable(tuple(table.names[i] for i in kept), table.frames, read, rate, units)


def together(columns: Sequence[SignalColumn], wanted: Sequence[str]) -> SignalTable:
    """Make a table of a file's signals: those asked for, or all of the commonest length.

    Of lengths that are equally common the longest counts.
    """
    if not columns:
        raise AsdError(f"no signal in it: expected a column of at least {SHORTEST} real numbers")
    check_columns(len(columns))
    picked = (
        [columns[i] for i in columns_named([c.name for c in columns], ",".join(wanted))] if wanted else []
    )
    lengths = Counter(column.frames for column in picked or columns)
    if picked and len(lengths) > 1:
        raise AsdError(
            f"columns of {listing(sorted(lengths))} samples: name some of one length with --column"
        )
    frames = max(lengths, key=lambda length: (lengths[length], length))
    if not picked and len(columns) - lengths[frames] and lengths[frames] == 1:
        frames = max(lengths)
    kept = [column for column in picked or columns if column.frames == frames]
    rates = {column.rate for column in kept if column.rate}
    if len(rates) > 1:
        told = ", ".join(f"{rate:g}" for rate in sorted(rates))
        raise AsdError(f"columns of {told} Hz: name some of one rate with --column")

    def read(start: int, count: int, numbers: Sequence[int]) -> Values:
        span = slice(start, start + count)
        return np.stack([np.asarray(kept[number].read(span)) for number in numbers], axis=1)

    names = tuple(column.name for column in kept)
    table = SignalTable(names, frames, read, rates.pop() if rates else None,
                   tuple(column.unit or unit_in(column.name) for column in kept))  # fmt: skip
    return without_clocks(table, wanted)


def is_real(dtype: np.dtype[Any]) -> bool:
    """Whether values of a kind are real numbers."""
    return dtype.kind in "fiu" and dtype.names is None and dtype.itemsize <= 16


def columns_of(name: str, values: Values, rate: float | None = None) -> Iterator[SignalColumn]:
    """Give the columns of an array in memory; its longer side is time."""
    if values.ndim == 2 and values.shape[0] < values.shape[1]:
        values = values.T
    if not is_real(values.dtype) or values.ndim not in (1, 2) or len(values) < SHORTEST:
        return
    table = values.reshape(len(values), -1)
    check_columns(table.shape[1])
    for i in range(table.shape[1]):
        label = name if table.shape[1] == 1 else f"{name}.{i}"
        yield SignalColumn(label, len(table), table[:, i].__getitem__, rate)
