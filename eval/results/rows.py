"""Two-column CSV files: rows by clip name, and every fault of a bad file."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from cache.base.errors import AsdError, listing
from cache.base.text import decoded
from cache.files.text_tables import SEPARATORS, read_bytes, split_lines
from extractors.clips.clip import RECORDING_SUFFIXES

T = TypeVar("T")

_SHOWN = 5  # clips named of a long list
_DECIMAL_COMMA = re.compile(r"\s*[+-]?[0-9]+,[0-9]+(?:[eE][+-]?[0-9]+)?\s*")


@dataclass(frozen=True)
class Rows(Generic[T]):
    """What a two-column file holds, and what is wrong with it.

    Attributes
    ----------
    names
        First column of every line, of bad lines too, to the number of its first line.
    values
        First column to value, of good lines.
    faults
        One a bad line.
    """

    names: dict[str, int] = field(default_factory=dict)
    values: dict[str, T] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def read_rows(path: Path, parse: Callable[[str], T], read: Callable[[Path], bytes] = read_bytes) -> Rows[T]:
    """Read rows ``file,value``, as `cache.files.text_tables` reads tables of text.

    Parameters
    ----------
    path
        A file without a header; commas, semicolons or tabs separate. Behind the latter two a
        number may have a decimal comma. Empty lines mean nothing.
    parse
        Value's text to value; a ``ValueError`` says what is wrong with it.
    read
        Gives the file's bytes; an `AsdError` says why they are not to be used.

    Returns
    -------
    Rows
        Values by file in the order of lines; one fault a bad line, none raised.
    """
    try:
        text = decoded(read(path))
    except OSError as error:
        return Rows(faults=[f"{path.name}: {error.strerror or error}"])
    except ValueError as error:
        return Rows(faults=[f"{path.name}: not a CSV file in UTF-8: {error}"])
    except AsdError as error:
        return Rows(faults=[str(error)])
    # The form of the challenge has commas; another separator must fit better.
    rows = min((_rows(path.name, text, mark, parse) for mark in SEPARATORS), key=_misfit)
    if not rows.names and not rows.faults:
        rows.faults.append(f"{path.name}: no rows")
    return rows


def _rows(name: str, text: str, separator: str, parse: Callable[[str], T]) -> Rows[T]:
    rows = Rows[T]()
    try:
        for number, line in split_lines(text, separator):
            if separator != "," and len(line) == 2 and _DECIMAL_COMMA.fullmatch(line[1]):
                line[1] = line[1].replace(",", ".")
            fault = _add_row(rows, line, number, parse)
            if fault:
                rows.faults.append(f"{name}, line {number}: {fault}")
    except ValueError as error:
        rows.faults.append(f"{name}: not a CSV file: {error}")
    return rows


def _misfit(rows: Rows[T]) -> tuple[int, bool]:
    """Compare ways to split a file: by bad lines, then by whether the names are of recordings."""
    return len(rows.faults), not all(name.lower().endswith(RECORDING_SUFFIXES) for name in rows.names)


def join_rows(parts: Sequence[Rows[T]]) -> Rows[T]:
    """Rows of several files as those of one; a name in two files is a fault."""
    joined = Rows[T]()
    for part in parts:
        both = [name for name in part.names if name in joined.names]
        joined.names.update(part.names)
        joined.values.update(part.values)
        joined.faults.extend(part.faults)
        if both:
            joined.faults.append(f"clips in two files: {some(both)}")
    return joined


def flag(text: str) -> int:
    """Read ``0`` or ``1``."""
    if text.strip() not in ("0", "1"):
        raise ValueError(f"{text!r} is neither 0 nor 1")
    return int(text)


def name_differences(first: Collection[str], second: Collection[str], called: tuple[str, str]) -> list[str]:
    """Say which names stand in only one of two collections: a line a side, none if equal."""
    sides = ((first, second, called[1]), (second, first, called[0]))
    gone = [(sorted(set(here) - set(there)), name) for here, there, name in sides]
    return [f"{len(names)} clips not in {name}: {some(names)}" for names, name in gone if names]


def some(names: Sequence[str]) -> str:
    """Name the first few of a list and count the rest."""
    return listing([*map(repr, names)], _SHOWN)


def raise_faults(title: str, faults: Sequence[str]) -> None:
    """Raise one error of all faults, if there are any."""
    if faults:
        raise AsdError("\n  ".join([f"{title}:", *faults]))


def _add_row(rows: Rows[T], line: list[str], number: int, parse: Callable[[str], T]) -> str | None:
    """Take one line in; what is wrong with it, if anything."""
    if not any(cell.strip() for cell in line):
        return None
    name, *values = line
    first = rows.names.setdefault(name, number)
    if first != number:
        return f"{name!r} stands in line {first} already"
    if len(values) != 1:
        return f"{len(line)} columns, expected 2"
    try:
        rows.values[name] = parse(values[0])
    except ValueError as error:
        return str(error)
    return None
