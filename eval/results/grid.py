"""Tables of text: aligned for a terminal, Markdown for a file."""

from __future__ import annotations

from collections.abc import Sequence

Rows = Sequence[Sequence[str]]


def align_rows(rows: Rows, names: int) -> list[str]:
    """Lay a table out in columns with a rule below its header.

    Parameters
    ----------
    rows
        The header first; the same number of cells in each.
    names
        How many columns from the left hold names, which stand to the left; figures to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_align(row, widths, names) for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def markdown_rows(rows: Rows, names: int) -> list[str]:
    """Lay a table out in Markdown; parameters as in `align_rows`."""
    header, *body = rows
    rule = [*["---"] * names, *["---:"] * (len(header) - names)]
    return [f"| {' | '.join(map(_cell, row))} |" for row in (header, rule, *body)]


def percent(value: float | None) -> str:
    """Give a figure in % with two decimals; a dash where there is none."""
    return "-" if value is None else f"{100 * value:.2f}"


def mean_and_deviation(mean: float | None, deviation: float | None) -> str:
    """Give both in %; the mean alone where no deviation is known."""
    return percent(mean) if deviation is None else f"{percent(mean)} ± {percent(deviation)}"


def one_line(text: str) -> str:
    """Put text on one line, every run of white space a blank."""
    return " ".join(text.split())


def _align(row: Sequence[str], widths: Sequence[int], names: int) -> str:
    cells = [
        cell.ljust(width) if place < names else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _cell(text: str) -> str:
    return one_line(text).replace("|", "\\|")
