"""Result tables: CSV and JSON for programs, Markdown and plain text for people."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from cache.atomic import write_atomic
from cache.table import CONDITIONS, DOMAINS, Section
from eval.sections import FIGURES, SectionResult, Summary, summarise

_SHOWN = {
    "auc_source": "AUC source",
    "auc_target": "AUC target",
    "pauc": "pAUC",
    "f1_source": "F1 source",
    "f1_target": "F1 target",
}
# Where domains are unknown, the figures of all clips together are what there is to see.
_POOLED = {"auc": "AUC", "f1": "F1"}
# Columns of clip counts: condition and domain.
_COUNTS = {
    f"{condition}_{domain}": (condition, domain)
    for domain in (*DOMAINS, "unknown")
    for condition in CONDITIONS
}


@dataclass(frozen=True)
class SystemResult:
    """The results of one system.

    Attributes
    ----------
    title
        The system's name.
    sections
        Section to its figures.
    facts
        What the reader needs to know or to repeat it: recipe, scorer, command ...
    unknown
        Sections that were scored but have no ground truth.
    transductive
        Whether scores use the test set's own statistics; then every table says so.
    """

    title: str
    sections: Mapping[Section, SectionResult]
    facts: Mapping[str, str]
    unknown: Sequence[Section] = ()
    transductive: bool = False

    @property
    def heading(self) -> str:
        """The title, marked where the system is transductive."""
        return self.title + self.mark

    @property
    def mark(self) -> str:
        """What stands behind the name of every total."""
        return " (transductive)" if self.transductive else ""

    @property
    def summary(self) -> Summary:
        """Official score and means over the sections of known truth."""
        return summarise(self.sections.values())


def write_results(directory: Path, result: SystemResult) -> list[Path]:
    """Write ``results.csv``, ``results.json`` and ``results.md``.

    Parameters
    ----------
    directory
        The folder; made where it does not exist.
    result
        What to write.

    Returns
    -------
    list[Path]
        The three files, each written whole or not at all.
    """
    texts = {
        "results.csv": _csv(result),
        "results.json": json.dumps(_record(result), indent=2, ensure_ascii=False, allow_nan=False)
        + "\n",
        "results.md": _markdown(result),
    }
    for name, text in texts.items():
        write_atomic(directory / name, text.encode())
    return [directory / name for name in texts]


def format_table(result: SystemResult) -> str:
    """Plain-text table of the sections, the harmonic means and the official score, in %."""
    rows = _rows(result)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_align(row, widths) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    lines.insert(-1, lines[1])
    return "\n".join([result.heading, "", *lines, "", *_closing(result)])


def _rows(result: SystemResult) -> list[list[str]]:
    """Header, a row a section, the harmonic means; the same number of cells in each."""
    sections = result.sections.values()
    by_domain = all(r.auc_source is not None and r.auc_target is not None for r in sections)
    columns = _SHOWN if by_domain else {**_SHOWN, **_POOLED}
    rows = [["machine", "section", *columns.values()]]
    for section, found in sorted(result.sections.items()):
        cells = [_percent(found.figures[name]) for name in columns]
        rows.append([section.machine_type, f"{section.number:02d}", *cells])
    means = [_percent(result.summary.harmonic[name]) for name in columns]
    return [*rows, [f"harmonic mean{result.mark}", "", *means]]


def _closing(result: SystemResult) -> list[str]:
    lines = [f"official score{result.mark}: {_percent(result.summary.official)}"]
    if result.unknown:
        lines.append(f"no ground truth: {', '.join(map(str, sorted(result.unknown)))}")
    return lines


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _align(row: Sequence[str], widths: Sequence[int]) -> str:
    """Names to the left, figures to the right."""
    cells = [
        cell.ljust(width) if place < 2 else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _markdown(result: SystemResult) -> str:
    header, *rows = _rows(result)
    rule = ["---", "---", *["---:"] * (len(header) - 2)]
    lines = [f"# {_one_line(result.heading)}", ""]
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in (header, rule, *rows)]
    for line in _closing(result):
        lines += ["", line]
    lines += ["", "Figures in %; - is a figure that the clips do not allow."]
    if result.transductive:
        lines += ["", "Transductive: scores use the test set's own statistics."]
    if result.facts:
        lines += ["", *(f"- {name}: {_one_line(fact)}" for name, fact in result.facts.items())]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return _one_line(text).replace("|", "\\|")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _csv(result: SystemResult) -> str:
    """Write a row a section, then the means; empty where there is no figure."""
    text = io.StringIO(newline="")
    header = ["machine_type", "section", *FIGURES, *_COUNTS, "transductive"]
    writer = csv.DictWriter(text, header, restval="", lineterminator="\n")
    writer.writeheader()
    for row in chain(_section_rows(result), _mean_rows(result)):
        writer.writerow({**row, "transductive": str(result.transductive).lower()})
    return text.getvalue()


def _section_rows(result: SystemResult) -> Iterator[dict[str, object]]:
    for section in sorted({*result.sections, *result.unknown}):
        row: dict[str, object] = {
            "machine_type": section.machine_type,
            "section": f"{section.number:02d}",
        }
        found = result.sections.get(section)
        if found is not None:
            for column, (condition, domain) in _COUNTS.items():
                row[column] = found.counts.get(domain, {}).get(condition, 0)
            row |= found.figures
        yield row


def _mean_rows(result: SystemResult) -> Iterator[dict[str, object]]:
    yield {"machine_type": "arithmetic mean", **result.summary.arithmetic}
    yield {"machine_type": "harmonic mean", **result.summary.harmonic}


def _record(result: SystemResult) -> dict[str, object]:
    """Every figure at full precision; ``None`` becomes null."""
    return {
        "title": result.title,
        "transductive": result.transductive,
        "facts": dict(result.facts),
        "official_score": result.summary.official,
        "harmonic_mean": dict(result.summary.harmonic),
        "arithmetic_mean": dict(result.summary.arithmetic),
        "sections": [
            {
                "machine_type": section.machine_type,
                "section": section.number,
                **found.figures,
                "counts": {domain: dict(count) for domain, count in found.counts.items()},
            }
            for section, found in sorted(result.sections.items())
        ],
        "no_ground_truth": [str(section) for section in sorted(result.unknown)],
    }
