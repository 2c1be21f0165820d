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
    sides = [str.ljust] * names + [str.rjust] * (len(widths) - names)
    lines = [
        "  ".join(put(cell, width) for put, cell, width in zip(sides, row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def markdown_rows(rows: Rows, names: int) -> list[str]:
    """Lay a table out in Markdown; parameters as in `align_rows`."""
    header, *body = rows
    rule = [*["---"] * names, *["---:"] * (len(header) - names)]
    cells = [[one_line(cell).replace("|", "\\|") for cell in row] for row in (header, rule, *body)]
    return [f"| {' | '.join(row)} |" for row in cells]


def percent(value: float | None) -> str:
    """Give a figure in % with two decimals; a dash where there is none."""
    return "-" if value is None else f"{100 * value:.2f}"


def mean_and_deviation(mean: float | None, deviation: float | None) -> str:
    """Give both in %; the mean alone where no deviation is known."""
    return percent(mean) if deviation is None else f"{percent(mean)} ± {percent(deviation)}"


def one_line(text: str) -> str:
    """Put text on one line, every run of white space a blank."""
    return " ".join(text.split())
