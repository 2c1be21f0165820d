"""The pages as single files: the report of a run and the time line of a history."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any

from cache.base.text import parse_json
from cache.heard import Signal
from eval.judge import JudgeResult
from eval.page.data import Contents, page_data
from eval.page.sound import Playback, listen
from eval.page.views import RecordingIndex, clip_views
from eval.request import PlaybackOptions
from eval.results.clips import read_clips
from eval.results.folder import ResultsFolder
from eval.results.tables import SystemResult

_LARGEST = 9_800_000  # bytes of a page: 10 MB less what playable clips add to the list
_SCRIPTS = ("dom.js", "charts.js", "timeline.js", "figures.js", "spectrogram.js", "listen.js", "app.js")
_HISTORY_SCRIPTS = ("dom.js", "charts.js", "timeline.js", "history.js")
_DAY = 86_400  # s
_POINTS = 6000  # of a machine; of more, the highest of each moment are shown


def write_page(
    results: ResultsFolder, run: JudgeResult, result: SystemResult, audible: PlaybackOptions
) -> Contents:
    """Write a self-contained page about one run, whole or not at all.

    Parameters
    ----------
    results
        The folder where ``report.html`` goes.
    run, result
        The run and its figures.
    audible
        What may be heard.

    Returns
    -------
    Contents
        What it is made of; its `heard.faults` are recordings that are not played, each with the reason.
    """
    told = Signal.of(parse_json(run.described.facts.get("signal", "{}")))
    recordings = RecordingIndex(audible.roots, told)
    judged = run.described.judged
    views = {s: clip_views(run, s, recordings, judged=judged(s)) for s in run.sections}
    contents = Contents(run, result, views, Playback({}, {}, []))
    text = render(page_data(contents))
    if audible.roots:
        known = [read_clips(run.directory, section) for section in run.sections]
        hashes = {clip: sha for clips in known if clips for clip, sha in clips.hashes.items()}
        heard = listen(views, hashes, audible.most, _LARGEST - len(text))
        contents = replace(contents, heard=heard)
        text = render(page_data(contents))
    results.write("report.html", text.encode())
    return contents


def history_page(rows: Sequence[dict[str, Any]]) -> str:
    """Make a page of judgements.

    Parameters
    ----------
    rows
        Of `eval.monitor.history.History.read`, of one machine or several, at least one.

    Returns
    -------
    str
        HTML that loads nothing.
    """
    machines: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["time"]):
        machines.setdefault(f"{row['machine_type']} section {row['section']:02d}", []).append(row)
    shown = []
    for label, own in sorted(machines.items()):
        points = [
            [
                row["time"].timestamp(), row["score"], row["threshold"], row["decision"], row["clip"],
                row["sentence"], row["event"], row["reason"], row["bank"],
            ]
            for row in thinned(own)
        ]  # fmt: skip
        facts = {"label": label, "clips": len(own), "thinned": len(points) < len(own)}
        shown.append({**facts, "points": points, "days": day_counts(own)})
    times = [row["time"].timestamp() for row in rows]
    data = {"clips": len(rows), "first": min(times), "last": max(times), "machines": shown}
    return render(data, _HISTORY_SCRIPTS)


def day_counts(rows: Sequence[dict[str, Any]]) -> list[list[float]]:
    """Count by UTC day: its start, then normal, abnormal and unjudged clips, and alarms raised."""
    days: dict[int, list[float]] = {}
    for row in rows:
        day = int(row["time"].timestamp() // _DAY * _DAY)
        counts = days.setdefault(day, [day, 0, 0, 0, 0])
        counts[{0: 1, 1: 2, None: 3}[row["decision"]]] += 1
        counts[4] += row["event"] == "raised"
    return [days[day] for day in sorted(days)]


def thinned(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep all alarm events and bank changes, and of the rest the highest score of each moment."""
    if len(rows) <= _POINTS:
        return list(rows)
    kept = {i for i, row in enumerate(rows) if row["event"] or (i and row["bank"] != rows[i - 1]["bank"])}
    size = -(-len(rows) // _POINTS)
    for start in range(0, len(rows), size):
        moment = range(start, min(start + size, len(rows)))
        kept.add(max(moment, key=lambda i: rows[i]["score"] if rows[i]["score"] is not None else -1e308))
    return [rows[i] for i in sorted(kept)]


def render(data: dict[str, Any], scripts: Sequence[str] = _SCRIPTS) -> str:
    """Put data into the page.

    Whatever a name or an attribute holds stays text: the data stand in a script element of type
    JSON with every ``<`` escaped, and the script shows them as text nodes alone.
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    parts = {
        "/*style*/": _read("style.css"),
        "/*script*/": "\n".join(map(_read, scripts)),
        "/*data*/": text.replace("<", "\\u003c"),
    }
    page = _read("page.html")
    for place, part in parts.items():  # the data last: what they hold is no place to fill
        page = page.replace(place, part)
    return page


def _read(name: str) -> str:
    return files("eval.page").joinpath(name).read_text(encoding="utf-8")
