"""Text tables as editors and spreadsheets of any system write them: the one reader of all.

Manifests, attribute files, groups, ground truth and submissions are tables of text. Comma,
semicolon or tab separates cells, and a first line ``sep=;`` says which, as Excel reads it; line
ends are those of any system, encodings those of `cache.base.text.decoded`. What does not fit is a fault
of its row: nothing is cut off or filled in.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from cache.base.errors import AsdError
from cache.base.text import decoded
from cache.files import objects, places

# Bounds, so that no file takes more memory than a machine has. A million clips with ten attributes
# take about 200 MB as a table.
MOST_BYTES = 2**28
MOST_ROWS = 2_000_000
MOST_COLUMNS = 1000
_LONGEST_LINE = 2**20  # characters
SEPARATORS = (",", ";", "\t")
_SAID = re.compile(r'\s*"?sep=([,;\t|])"?;*\s*', re.IGNORECASE)


@dataclass(frozen=True)
class TextTable:
    """A table with a header.

    Attributes
    ----------
    columns
        Names without surrounding space, each once.
    rows
        Number of a row, the first below the header being 1, to column to cell without surrounding
        space. Empty rows are left out, but counted.
    faults
        Number of a row that does not fit the header, to what is wrong with it.
    """

    columns: tuple[str, ...]
    rows: MutableMapping[int, dict[str, str]] = field(default_factory=dict)
    faults: MutableMapping[int, str] = field(default_factory=dict)


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """Read a text file of any system whole.

    Parameters
    ----------
    path
        The file.
    most
        Bytes that it may have.

    Raises
    ------
    AsdError
        If it cannot be read, is larger, or in an encoding that is not known.
    """
    try:
        return decoded(read_bytes(path, most))
    except OSError as error:
        raise AsdError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise AsdError(f"{path}: {error}") from error


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Read a file whole, whatever it says of its size.

    Raises
    ------
    OSError
        If it cannot be read.
    AsdError
        If it is larger than that many bytes.
    objects.Unreachable
        If a store does not answer.
    """
    with objects.reaching(path) if places.is_remote(path) else nullcontext():
        data = bytearray()
        with path.open("rb") as file:
            while block := file.read(2**20):
                data += block
                if len(data) > most:
                    raise AsdError(f"{path}: larger than {most:,} bytes; split it into several")
        return bytes(data)


def read_table(path: Path, *, short: bool = False) -> TextTable:
    """Read a table with a header.

    Parameters
    ----------
    path
        The file.
    short
        Whether rows may lack cells at their end; these are empty then.

    Raises
    ------
    AsdError
        If it cannot be read or its header names a column twice.
    """
    text = read_text(path)
    try:
        return _table(split_lines(text), short=short)
    except ValueError as error:
        raise AsdError(f"{path}: {error}") from error


def split_lines(text: str, separator: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """Split a table's text into cells.

    Parameters
    ----------
    text
        Of the file.
    separator
        Of cells; ``None`` takes what a first line ``sep=`` says, else what stands most often in
        the first line that is not empty.

    Yields
    ------
    int, list[str]
        Number of the line, from 1 (of a row of several lines, the last), and its cells as written;
        none of an empty line.

    Raises
    ------
    ValueError
        If quotes are not closed, or a line, a cell or the number of rows is beyond all bounds.
    """
    first, _, rest = text.partition("\n")
    said = _SAID.fullmatch(first)
    if said:
        text, separator = rest, said[1]
    if separator is None:
        header = re.sub('"[^"]*"', "", next(filter(str.strip, text.splitlines()), ""))
        separator = max(SEPARATORS, key=header.count)
    reader = csv.reader(_bounded(text), delimiter=separator, strict=True)
    try:
        for count, cells in enumerate(reader):
            if count > MOST_ROWS:
                raise ValueError(f"more than {MOST_ROWS:,} rows; split it into several files")
            yield reader.line_num + bool(said), cells
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num + bool(said)}: {error}") from error


def _bounded(text: str) -> Iterator[str]:
    for line in io.StringIO(text, newline=""):
        if len(line) > _LONGEST_LINE:
            raise ValueError(f"a line of {len(line):,} characters; {_LONGEST_LINE:,} are read")
        yield line


def _table(lines: Iterator[tuple[int, list[str]]], *, short: bool) -> TextTable:
    names: list[str] = []
    for _, cells in lines:
        names = _stripped(cells)
        if names:
            break
    columns = tuple(filter(None, names))
    check_columns(columns)
    rows: dict[int, dict[str, str]] = {}
    faults: dict[int, str] = {}
    for number, (_, cells) in enumerate(lines, 1):
        row = _stripped(cells)
        if not row:
            continue
        lacking = len(names) - len(cells)
        row += [""] * (len(names) - len(row))
        nameless = [cell for name, cell in zip(names, row, strict=False) if cell and not name]
        if len(row) > len(names):
            faults[number] = (
                f"{len(cells)} cells, the header has {len(names)}; put a cell that holds the "
                "separator in quotes"
            )
        elif lacking > 0 and not short:
            faults[number] = f"{len(cells)} cells, the header has {len(names)}; write empty ones too"
        elif nameless:
            faults[number] = f"the cell {nameless[0]!r} stands in a column without a name"
        else:
            rows[number] = {n: cell for n, cell in zip(names, row, strict=True) if n}
    return TextTable(columns, rows, faults)


def check_columns(columns: Sequence[str]) -> None:
    """Refuse a header that names a column twice, or too many.

    Raises
    ------
    ValueError
        With the name.
    """
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise ValueError(f"two columns are called {twice[0]!r}; rename or remove one")
    if len(columns) > MOST_COLUMNS:
        raise ValueError(f"{len(columns):,} columns; {MOST_COLUMNS:,} are read")


def _stripped(cells: Sequence[str]) -> list[str]:
    """Cells without surrounding space and without empty ones at the end."""
    row = [cell.strip() for cell in cells]
    while row and not row[-1]:
        row.pop()
    return row
