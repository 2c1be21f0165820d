"""The ranking as text: plain for the terminal, Markdown, CSV and JSON for files."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from cache.base.text import align_rows
from eval.metrics.uncertainty import Comparison
from eval.ranking.systems import Entry, Ranking, Spread, System
from eval.results.folder import ResultsFolder
from eval.results.names import PROXY
from eval.results.tables import TITLES, markdown_rows, mean_and_deviation, percent


def write_ranking(results: ResultsFolder, ranking: Ranking) -> list[Path]:
    """Write ``ranking.csv``, ``ranking.json`` and ``ranking.md``, each whole or not at all."""
    lines = ["# Ranking", "", *markdown_rows(_rows(ranking), 2)]
    for entry in ranking.entries:
        if len(entry.system.runs) > 1:
            rows = markdown_rows(_section_rows(entry.system), 2)
            lines += ["", f"## {_runs_title(entry.system)}", "", *rows]
    lines += [line for text in _statements(ranking) for line in ("", text)]
    lines += ["", "Figures in %; - is a figure that the clips do not allow."]
    texts = {
        "ranking.csv": _csv(ranking),
        "ranking.json": json.dumps(_record(ranking), indent=2, allow_nan=False) + "\n",
        "ranking.md": "\n".join(lines) + "\n",
    }
    return [results.write(name, text.encode()) for name, text in texts.items()]


def format_ranking(ranking: Ranking) -> str:
    """Write the ranking, every system of several runs, and what the comparisons say as plain text."""
    blocks = ["\n".join(align_rows(_rows(ranking), 2))]
    for entry in ranking.entries:
        if len(entry.system.runs) > 1:
            rows = align_rows(_section_rows(entry.system), 2)
            blocks.append("\n".join([_runs_title(entry.system), "", *rows]))
    return "\n\n".join([*blocks, *_statements(ranking)])


def statement(best: str, other: str, found: Comparison | None) -> str:
    """Say plainly whether two systems differ."""
    if found is None:
        return f"{best} and {other} cannot be compared: they share no section of the same clips"
    span = f"{100 * found.interval.low:+.2f} to {100 * found.interval.high:+.2f}"
    facts = (
        f"difference {100 * found.difference:+.2f}, {100 * found.level:.4g} % interval {span}, "
        f"paired over the clips of {found.sections} sections"
    )
    if found.differs:
        first, second = (best, other) if found.difference > 0 else (other, best)
        return f"{first} is better than {second} ({facts})"
    return f"no difference shown between {best} and {other} ({facts})"


def _rows(ranking: Ranking) -> list[list[str]]:
    rule = ranking.entries[0].system.rule
    titles = [TITLES[name] for name in rule.parts]
    level = f"{100 * ranking.level:.0f} % interval"
    rows = [["rank", "system", "runs", "sections", "official score", level, *titles]]
    for place, entry in enumerate(ranking.entries, 1):
        system, span = entry.system, entry.interval
        rows.append(
            [
                str(place) if system.official else "-",
                _marked(system),
                str(len(system.runs)),
                f"{len(system.runs[0].results)}{' (part)' if system.runs[0].part else ''}",
                _mean(system.official),
                f"{percent(span.low)} to {percent(span.high)}" if span else "-",
                *(_mean(system.means[name]) for name in rule.parts),
            ]
        )
    return rows


def _section_rows(system: System) -> list[list[str]]:
    parts = system.rule.parts
    rows = [["machine", "section", *(TITLES[name] for name in parts)]]
    for section, figures in system.sections.items():
        cells = [_mean(figures[name]) for name in parts]
        rows.append([section.machine_type, f"{section.number:02d}", *cells])
    means = [_mean(system.means[name]) for name in parts]
    return [*rows, [system.rule.mean, "", *means]]


def _runs_title(system: System) -> str:
    return f"{_marked(system)}: mean ± standard deviation over {len(system.runs)} runs"


def _marked(system: System) -> str:
    """Return the system's name, marked if its figures are of synthetic anomalies."""
    return f"{system.name} ({PROXY})" if system.is_proxy else system.name


def _statements(ranking: Ranking) -> list[str]:
    best = ranking.entries[0].system.name
    return [statement(best, other, found) for other, found in ranking.comparisons.items()]


def _mean(found: Spread | None) -> str:
    return "-" if found is None else mean_and_deviation(found.mean, found.deviation)


def _csv(ranking: Ranking) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    kinds = ("mean", "deviation")
    names = [*ranking.entries[0].system.means]
    columns = [f"{name}_{kind}" for name in ("official", *names) for kind in kinds]
    writer.writerow(["system", "runs", "low", "high", *columns, "proxy"])
    for entry in ranking.entries:
        system, span = entry.system, entry.interval
        found = [system.official, *system.means.values()]
        cells = [getattr(one, kind) if one else None for one in found for kind in kinds]
        ends = [span.low, span.high] if span else [None, None]
        mark = PROXY if system.is_proxy else ""
        writer.writerow([system.name, len(system.runs), *ends, *cells, mark])
    return text.getvalue()


def _record(ranking: Ranking) -> dict[str, object]:
    best, comparisons = ranking.entries[0].system.name, []
    for other, found in ranking.comparisons.items():
        told: dict[str, object] = {
            "first": best,
            "second": other,
            "statement": statement(best, other, found),
        }
        if found is not None:
            told["interval"] = [found.interval.low, found.interval.high]
            told |= {name: getattr(found, name) for name in ("difference", "level", "differs", "sections")}
        comparisons.append(told)
    systems = [_system(entry) for entry in ranking.entries]
    return {"level": ranking.level, "systems": systems, "comparisons": comparisons}


def _system(entry: Entry) -> dict[str, object]:
    system, span = entry.system, entry.interval
    return {
        "name": system.name,
        "runs": [str(run.directory) for run in system.runs],
        "part": system.runs[0].part or None,
        "proxy": PROXY if system.is_proxy else None,
        "official_score": _spread(system.official),
        "interval": [span.low, span.high] if span else None,
        "means": {name: _spread(found) for name, found in system.means.items()},
        "sections": [
            {
                "machine_type": section.machine_type,
                "section": section.number,
                **{name: _spread(found) for name, found in figures.items()},
            }
            for section, figures in system.sections.items()
        ],
    }


def _spread(found: Spread | None) -> dict[str, float | None] | None:
    return None if found is None else vars(found).copy()
