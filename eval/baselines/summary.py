"""Several runs of one system: mean and standard deviation of every figure."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cache.files.atomic import write_atomic

OFFICIAL = "official"  # the figure of all machines together
SHOWN = {"auc_source": "AUC source", "auc_target": "AUC target", "pauc": "pAUC"}
_ALL = ""  # in the place of a section


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of a figure over runs.

    Attributes
    ----------
    mean
        In [0, 1].
    deviation
        With n - 1 below; ``None`` for a single run.
    runs
        n.
    """

    mean: float
    deviation: float | None
    runs: int

    def percent(self) -> str:
        """Mean +- deviation, %."""
        tail = "" if self.deviation is None else f" +- {100 * self.deviation:.2f}"
        return f"{100 * self.mean:.2f}{tail}"


Figures = Mapping[str, Mapping[str, float | None]]  # section to figure to value; "" is all


def spread(values: Sequence[float]) -> Spread:
    """Give mean and standard deviation of one value or more."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), deviation, len(values))


@dataclass(frozen=True)
class Summary:
    """Several runs.

    Attributes
    ----------
    title
        The system's name.
    spreads
        Section (``""`` for the mean over sections) to figure to its spread; a figure that a run
        lacks is not there.
    facts
        What the reader needs to repeat it.
    """

    title: str
    spreads: Mapping[str, Mapping[str, Spread]]
    facts: Mapping[str, str]

    @property
    def sections(self) -> list[str]:
        """Sections of known truth, sorted."""
        return sorted(section for section in self.spreads if section != _ALL)

    def spread(self, section: str, figure: str) -> Spread | None:
        """Spread of a section's figure; section ``""`` for that of all."""
        return self.spreads.get(section, {}).get(figure)


def summarise_runs(title: str, runs: Sequence[Figures], facts: Mapping[str, str]) -> Summary:
    """Summarise the figures of one run or more, each of the same sections."""
    spreads: dict[str, dict[str, Spread]] = {}
    for section, figures in runs[0].items():
        spreads[section] = {}
        for figure in figures:
            values = [v for run in runs if (v := run[section][figure]) is not None]
            if len(values) == len(runs):
                spreads[section][figure] = spread(values)
    return Summary(title, spreads, facts)


def format_summary(summary: Summary) -> str:
    """Plain-text table of the sections and the official score, %."""
    rows = _rows(summary)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([summary.title, "", *lines, "", _closing(summary)])


def write_summary(directory: Path, summary: Summary) -> list[Path]:
    """Write ``summary.csv``, ``summary.json`` and ``summary.md``, each whole or not at all."""
    texts = {
        "summary.csv": _csv(summary),
        "summary.json": _json(summary),
        "summary.md": _markdown(summary),
    }
    for name, text in texts.items():
        write_atomic(directory / name, text.encode())
    return [directory / name for name in texts]


def _rows(summary: Summary) -> list[list[str]]:
    rows = [["section", *SHOWN.values()]]
    for section in [*summary.sections, _ALL]:
        found = [summary.spread(section, figure) for figure in SHOWN]
        rows.append([section or "harmonic mean", *("-" if s is None else s.percent() for s in found)])
    return rows


def _closing(summary: Summary) -> str:
    official = summary.spread(_ALL, OFFICIAL)
    return f"official score: {'-' if official is None else official.percent()}"


def _markdown(summary: Summary) -> str:
    header, *rows = _rows(summary)
    rule = ["---", *["---:"] * (len(header) - 1)]
    lines = [f"# {summary.title}", ""]
    lines += [f"| {' | '.join(row)} |" for row in (header, rule, *rows)]
    lines += ["", _closing(summary), "", "Mean and sample standard deviation over runs, %.", ""]
    return "\n".join([*lines, *(f"- {name}: {fact}" for name, fact in summary.facts.items())]) + "\n"


def _csv(summary: Summary) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["section", "figure", "mean", "deviation", "runs"])
    for section in [*summary.sections, _ALL]:
        for figure, found in summary.spreads.get(section, {}).items():
            deviation = "" if found.deviation is None else found.deviation
            writer.writerow([section or "all", figure, found.mean, deviation, found.runs])
    return text.getvalue()


def _json(summary: Summary) -> str:
    record = {
        "title": summary.title,
        "facts": dict(summary.facts),
        "sections": {
            section or "all": {figure: vars(found) for figure, found in figures.items()}
            for section, figures in summary.spreads.items()
        },
    }
    return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
