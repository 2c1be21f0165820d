"""Result tables: CSV and JSON for programs, Markdown and plain text for people."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

from cache.base.errors import listing
from cache.base.text import align_rows
from cache.table import CONDITIONS, DOMAINS, Section
from eval.metrics.intervals import Interval, Uncertainty
from eval.metrics.rules import DEFAULT, Rule
from eval.metrics.sections import FIGURES, SectionResult, Summary, summarise
from eval.results.folder import ResultsFolder
from eval.results.names import PROXY

TITLES = {
    "auc_source": "AUC source",
    "auc_target": "AUC target",
    "pauc": "pAUC",
    "pauc_source": "pAUC source",
    "pauc_target": "pAUC target",
    "auc": "AUC",
    "f1_source": "F1 source",
    "f1_target": "F1 target",
    "f1": "F1",
}
_USELESS = 0.3  # width of an interval of the official score: from fair to excellent
_SHOWN, _WORST = 60, 20  # sections that a terminal shows all of, or else so many
_BY_DOMAIN = ("f1_source", "f1_target")
# Where domains are unknown, the figures of all clips together are what there is to see.
_POOLED = ("auc", "f1")
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
    rule
        By which the official score is formed.
    uncertainty
        Its intervals, where there is an official score and they were asked for.
    part
        Which part of a data set this is; empty for the whole.
    proxy
        Whether test clips are synthetic; then every table says so.
    """

    title: str
    sections: Mapping[Section, SectionResult]
    facts: Mapping[str, str]
    unknown: Sequence[Section] = ()
    transductive: bool = False
    rule: Rule = DEFAULT
    uncertainty: Uncertainty | None = None
    part: str = ""
    proxy: bool = False

    @property
    def heading(self) -> str:
        """The title with its mark."""
        return self.title + self.mark

    @property
    def mark(self) -> str:
        """What stands behind the name of every total."""
        marks = [
            PROXY if self.proxy else "",
            self.part,
            "transductive" if self.transductive else "",
        ]
        return "".join(f" ({mark})" for mark in marks if mark)

    @cached_property
    def columns(self) -> dict[str, str]:
        """Figures to show with their titles."""
        found = self.sections.values()
        parts = [*self.rule.parts]
        if self.rule.year != 2020:
            parts += _BY_DOMAIN
        if not all(result.figures[name] is not None for result in found for name in self.rule.parts):
            parts += _POOLED
        return {name: TITLES[name] for name in dict.fromkeys(parts)}

    @cached_property
    def summary(self) -> Summary:
        """Official score and means over the sections of known truth."""
        return summarise(self.sections, self.rule)


def write_results(results: ResultsFolder, result: SystemResult) -> list[Path]:
    """Write ``results.csv``, ``results.json`` and ``results.md``.

    Parameters
    ----------
    results
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
        "results.json": json.dumps(_record(result), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "results.md": _markdown(result),
    }
    return [results.write(name, text.encode()) for name, text in texts.items()]


def format_table(result: SystemResult) -> str:
    """Plain-text table of the sections, the harmonic means and the official score, in %.

    Of very many sections those of the lowest figures are shown.
    """
    shown = _worst(result) if len(result.sections) > _SHOWN else sorted(result.sections)
    lines = align_rows(_rows(result, shown), 2)
    lines.insert(-1, lines[1])
    if len(shown) < len(result.sections):
        lines.insert(-2, f"the {len(shown)} lowest of {len(result.sections)} sections")
    return "\n".join([result.heading, "", *lines, "", *_closing(result)])


def _worst(result: SystemResult) -> list[Section]:
    """Sections of the lowest sums of what the official score is made of, the lowest first."""

    def height(section: Section) -> tuple[float, Section]:
        figures = result.sections[section].figures
        return sum(figures[name] or 0.0 for name in result.rule.parts), section

    return sorted(result.sections, key=height)[:_WORST]


def _rows(result: SystemResult, sections: Iterable[Section]) -> list[list[str]]:
    """Header, a row a section, the means of all; the same number of cells in each."""
    columns = result.columns
    rows = [["machine", "section", *columns.values()]]
    for section in sections:
        found = result.sections[section]
        cells = [percent(found.figures[name]) for name in columns]
        rows.append([section.machine_type, f"{section.number:02d}", *cells])
    mean = result.summary.mean
    return [*rows, [f"{result.rule.mean}{result.mark}", "", *(percent(mean[n]) for n in columns)]]


def _closing(result: SystemResult) -> list[str]:
    lines = [f"official score{result.mark}: {percent(result.summary.official)}"]
    if result.uncertainty:
        lines.append(interval_text(result.uncertainty))
    if result.unknown:
        lines.append(f"no ground truth: {listing(sorted(result.unknown))}")
    return lines


def interval_text(found: Uncertainty) -> str:
    """Say both intervals of the official score in %, and where they are too wide to be of use."""
    kinds = {"bootstrap": found.bootstrap, "jackknife": found.jackknife}
    spans = [f"{100 * span.low:.2f} to {100 * span.high:.2f} ({name})" for name, span in kinds.items()]
    said = f"{100 * found.level:.0f} % interval: {', '.join(spans)}"
    if found.bootstrap.high - found.bootstrap.low > _USELESS:
        said += "; so wide that the score says next to nothing: judge more clips whose truth is known"
    return said


def _markdown(result: SystemResult) -> str:
    lines = [
        f"# {one_line(result.heading)}",
        "",
        *markdown_rows(_rows(result, sorted(result.sections)), 2),
    ]
    for line in _closing(result):
        lines += ["", line]
    lines += ["", "Figures in %; - is a figure that the clips do not allow."]
    if result.proxy:
        lines += ["", "Proxy: the anomalies are synthetic; real ones may rank systems otherwise."]
    if result.transductive:
        lines += ["", "Transductive: scores use the test set's own statistics."]
    if result.facts:
        lines += ["", *(f"- {name}: {one_line(fact)}" for name, fact in result.facts.items())]
    return "\n".join(lines) + "\n"


def _csv(result: SystemResult) -> str:
    """Write a row a section, then the means; empty where there is no figure."""
    text = io.StringIO(newline="")
    header = ["machine_type", "section", *FIGURES, *_COUNTS, "transductive", "proxy"]
    writer = csv.DictWriter(text, header, restval="", lineterminator="\n")
    writer.writeheader()
    means = {"arithmetic mean": result.summary.arithmetic, "harmonic mean": result.summary.harmonic}
    rows: list[dict[str, object]] = [{"machine_type": kind, **mean} for kind, mean in means.items()]
    for row in chain(_section_rows(result), rows):
        flags = {"transductive": str(result.transductive).lower(), "proxy": _proxy(result)}
        writer.writerow({**row, **flags})
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


def _record(result: SystemResult) -> dict[str, object]:
    """Every figure at full precision; ``None`` becomes null."""
    found, parts, interval = result.uncertainty, dict[Section, Mapping[str, Interval]](), None
    if found is not None:
        both = {"bootstrap": _span(found.bootstrap), "jackknife": _span(found.jackknife)}
        parts, interval = dict(found.parts), {"level": found.level, **both}
    return {
        "title": result.title,
        "transductive": result.transductive,
        "proxy": _proxy(result) or None,
        "facts": dict(result.facts),
        "official_score": result.summary.official,
        "year": result.rule.year,
        "rule": result.rule.source,
        "part": result.part or None,
        "interval": interval,
        "harmonic_mean": dict(result.summary.harmonic),
        "arithmetic_mean": dict(result.summary.arithmetic),
        "sections": [
            {
                "machine_type": section.machine_type,
                "section": section.number,
                **of.figures,
                "intervals": {name: _span(part) for name, part in parts.get(section, {}).items()},
                "counts": {domain: dict(count) for domain, count in of.counts.items()},
            }
            for section, of in sorted(result.sections.items())
        ],
        "no_ground_truth": [str(section) for section in sorted(result.unknown)],
    }


def _proxy(result: SystemResult) -> str:
    return PROXY if result.proxy else ""


def _span(interval: Interval) -> list[float]:
    return [interval.low, interval.high]


def markdown_rows(rows: Sequence[Sequence[str]], names: int) -> list[str]:
    """Lay a table out in Markdown; parameters as of `cache.base.text.align_rows`."""
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
