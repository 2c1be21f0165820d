"""The page as one file: markup, style, script and data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from cache.base.text import parse_json
from cache.heard import Signal
from eval.judge import JudgeResult
from eval.page.data import Contents, page_data
from eval.page.listen import Playback, listen
from eval.page.views import RecordingIndex, clip_views
from eval.results.clips import read_clips
from eval.results.folder import ResultsFolder
from eval.results.tables import SystemResult

_LARGEST = 9_800_000  # bytes of a page: 10 MB less what playable clips add to the list
_SCRIPTS = ("dom.js", "charts.js", "timeline.js", "figures.js", "spectrogram.js", "listen.js", "app.js")
HISTORY = ("dom.js", "charts.js", "timeline.js", "history.js")  # of a page about a history


@dataclass(frozen=True)
class PlaybackOptions:
    """What may be heard in a page.

    Attributes
    ----------
    roots
        Data roots with the recordings; none, and the page is silent.
    most
        Clips a section at most, and as many false alarms and as many misses.
    """

    roots: tuple[Path, ...] = ()
    most: int = 12


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
