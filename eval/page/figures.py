"""Figures as files, ready for a paper: drawn with matplotlib, as PDF and PNG."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cache.table import DOMAINS, Section
from eval.judge import JudgeResult
from eval.metrics.official import MAX_FPR
from eval.metrics.sections import SectionTruth
from eval.page.data import Points, implied_threshold, roc_curves
from eval.results.folder import ResultsFolder
from eval.results.names import PROXY
from eval.results.submission import Submission
from eval.results.tables import SystemResult
from eval.scoring.maps import map_path, read_columns

_WIDTH = 3.4  # inches: one column of a two-column paper
_COLOURS = {"source": "#2b6cb0", "target": "#b7791f", "normal": "#4a8a84", "anomaly": "#c53030"}
_SMALL, _TITLE = 7, 8  # points
_LEGEND: dict[str, Any] = {"fontsize": _SMALL, "frameon": False}


def write_figures(results: ResultsFolder, run: JudgeResult, result: SystemResult) -> list[Path]:
    """Write every figure that a run allows, each as ``<name>.pdf`` and ``<name>.png``.

    Parameters
    ----------
    results
        The folder; figures go into ``figures/`` below it.
    run, result
        A judged submission and its figures.

    Returns
    -------
    list[Path]
        ``scores_*`` and ``roc_*`` a section, ``map_*`` where our own scoring wrote one,
        ``domains`` (source against target AUC, as figure 1 of Dohi et al. 2023 shows systems) and
        ``data_sets`` (development against evaluation, where both are there).
    """
    paths = []
    for name, figure in _figures(run, result):
        if result.proxy:
            figure.suptitle(PROXY, fontsize=_TITLE)
        for suffix in ("pdf", "png"):
            buffer = io.BytesIO()
            # Without a date the same run gives the same bytes.
            dated: Mapping[str, None] = {"CreationDate": None} if suffix == "pdf" else {}
            figure.savefig(buffer, format=suffix, dpi=300, metadata=dated)
            paths.append(results.write(f"figures/{name}.{suffix}", buffer.getvalue()))
    return paths


def _figures(run: JudgeResult, result: SystemResult) -> Iterator[tuple[str, Figure]]:
    for section in run.sections:
        submission, truth = run.read(section)
        curves = roc_curves(submission.scores, truth, run.rule)
        stem = f"{section.machine_type}_section_{section.number:02d}"
        yield f"scores_{stem}", _scores(submission, truth)
        if curves:
            yield f"roc_{stem}", _roc(section, curves)
        if map_path(run.directory, section).exists():
            yield f"map_{stem}", _map(run, section)
    shown = {s: r.figures for s, r in result.sections.items() if r.auc_source and r.auc_target}
    if shown:
        yield "domains", _domains(shown, result)
    sets: dict[str, SystemResult] = {}
    for name in ("development", "evaluation"):
        chosen = {section: one for section, one in result.sections.items() if run.data_set(section) == name}
        sets[name] = SystemResult(name, chosen, {}, rule=result.rule)
    if all(part.sections for part in sets.values()):
        yield "data_sets", _data_sets(sets)


def _axes(height: float, title: str = "", x: str = "", y: str = "") -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=_TITLE)
    axes.set_xlabel(x, fontsize=_SMALL)
    axes.set_ylabel(y, fontsize=_SMALL)
    axes.tick_params(labelsize=_SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _scores(submission: Submission, truth: SectionTruth | None) -> Figure:
    groups = {"test clips": submission.scores}
    if truth is not None:
        target = np.zeros_like(truth.anomaly) if truth.target is None else truth.target
        groups = {
            f"{name} {condition}".strip(): submission.scores[
                (target == domain) & (truth.anomaly == anomalous)
            ]
            for domain, name in enumerate([""] if truth.target is None else DOMAINS)
            for anomalous, condition in enumerate(("normal", "anomaly"))
        }
        groups = {name: values for name, values in groups.items() if values.size}
    figure, axes = _axes(0.7 + 0.4 * len(groups), str(submission.section), "anomaly score")
    jitter = np.random.default_rng(0)
    for place, (name, values) in enumerate(groups.items()):
        colour = _COLOURS.get(name.split()[-1], "#5c666e")
        heights = place + jitter.uniform(-0.25, 0.25, len(values))
        axes.scatter(values, heights, s=5, color=colour, alpha=0.55, linewidths=0)
        axes.plot([np.median(values)] * 2, [place - 0.35, place + 0.35], color="black")
    threshold = implied_threshold(submission)
    if threshold is not None:
        axes.axvline(threshold, color="black", linestyle=":", linewidth=1)
    axes.set_yticks(range(len(groups)), list(groups))
    axes.invert_yaxis()
    return figure


def _roc(section: Section, curves: Mapping[str, Points]) -> Figure:
    figure, axes = _axes(_WIDTH, str(section), "false positive rate", "true positive rate")
    styles = {"auc": ("both domains", "black"), "auc_source": ("source", _COLOURS["source"]),
              "auc_target": ("target", _COLOURS["target"])}  # fmt: skip
    for name, curve in curves.items():
        false, true = np.array(curve).T
        title, colour = styles[name]
        axes.plot(false, true, color=colour, linewidth=1, label=title)
        if name == "auc":
            ends = np.append(false[false <= MAX_FPR], MAX_FPR)
            # At a step the upper end counts, as in the area.
            heights = np.append(true[false <= MAX_FPR], np.interp(MAX_FPR, false, true))
            axes.fill_between(ends, heights, color="#2b6cb0", alpha=0.2, linewidth=0, label="pAUC")
    axes.plot([0, 1], [0, 1], color="#8b949b", linestyle=":", linewidth=1)
    axes.set_aspect("equal")
    axes.legend(**_LEGEND, loc="lower right")
    return figure


def _map(run: JudgeResult, section: Section) -> Figure:
    rows = read_columns(map_path(run.directory, section), {"split", "x", "y", "name"})
    figure, axes = _axes(0.8 * _WIDTH, str(section))
    submission, truth = run.read(section)
    known = {} if truth is None else dict(zip(submission.files, truth.anomaly.tolist(), strict=True))
    conditions: dict[bool | None, str] = {None: "test", False: "normal", True: "anomaly"}
    kinds = [
        "training" if row["split"] == "train" else conditions[known.get(str(row["name"]))] for row in rows
    ]
    looks = {"training": "#c4c8cb", "test": _COLOURS["source"],
             "normal": _COLOURS["normal"], "anomaly": _COLOURS["anomaly"]}  # fmt: skip
    for kind, colour in looks.items():
        places = [(row["x"], row["y"]) for row, its in zip(rows, kinds, strict=True) if its == kind]
        if places:
            x, y = np.array(places).T
            axes.scatter(x, y, s=7, color=colour, linewidths=0, label=kind)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.legend(**_LEGEND, markerscale=1.5)
    return figure


def _domains(shown: Mapping[Section, Mapping[str, float | None]], result: SystemResult) -> Figure:
    figure, axes = _axes(_WIDTH, x="AUC source, %", y="AUC target, %")
    spans = result.uncertainty.parts if result.uncertainty else {}
    for section, figures in shown.items():
        x, y = (100 * float(figures[f"auc_{domain}"] or 0) for domain in DOMAINS)
        own = spans.get(section, {})
        for name, at in (("auc_source", "h"), ("auc_target", "v")):
            if name in own:
                ends = [100 * own[name].low, 100 * own[name].high]
                line = (ends, [y, y]) if at == "h" else ([x, x], ends)
                axes.plot(*line, color=_COLOURS["source"], alpha=0.4, linewidth=1)
        axes.plot([x], [y], "o", color=_COLOURS["source"], markersize=4)
        axes.annotate(section.machine_type, (x, y), (4, 4), textcoords="offset points", fontsize=_SMALL)
    low = min([*axes.get_xlim(), *axes.get_ylim()])
    axes.plot([low, 100], [low, 100], color="#8b949b", linestyle=":", linewidth=1)
    return figure


def _data_sets(sets: Mapping[str, SystemResult]) -> Figure:
    columns = next(iter(sets.values())).columns
    figure, axes = _axes(0.6 + 0.3 * len(columns), x="%")
    colours = {"development": _COLOURS["normal"], "evaluation": _COLOURS["target"]}
    for name, part in sets.items():
        known = [(100 * value, row) for row, key in enumerate(columns)
                 if (value := part.summary.mean[key]) is not None]  # fmt: skip
        axes.plot(*zip(*known, strict=True), "o", color=colours[name], markersize=4, label=name)
    axes.set_yticks(range(len(columns)), list(columns.values()))
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.legend(**_LEGEND, loc="lower left")
    return figure
