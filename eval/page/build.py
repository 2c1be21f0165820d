"""The page as one file: markup, style, script and data."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from cache.atomic import write_atomic
from eval.described import Described
from eval.judge import Run
from eval.page.data import Contents, page_data
from eval.page.listen import Heard, listen
from eval.page.recordings import Recordings
from eval.page.views import clip_views
from eval.tables import SystemResult

_LARGEST = 9_800_000  # bytes of a page: 10 MB less what playable clips add to the list
_SCRIPTS = ("dom.js", "charts.js", "figures.js", "spectrogram.js", "listen.js", "app.js")


@dataclass(frozen=True)
class Audible:
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
    path: Path, run: Run, result: SystemResult, described: Described, audible: Audible
) -> Path:
    """Write a self-contained page about one run, whole or not at all.

    Parameters
    ----------
    path
        The file.
    run, result, described
        The run, its figures and its description.
    audible
        What may be heard.
    """
    recordings = Recordings(audible.roots)
    views = {
        s: clip_views(run, s, recordings, judged=described.judged(s))
        for s in sorted(run.submissions)
    }
    silent = Contents(run, result, described, views, Heard({}, {}, []))
    text = render(page_data(silent))
    if audible.roots:
        heard = listen(views, audible.most, _LARGEST - len(text))
        text = render(page_data(replace(silent, heard=heard)))
    write_atomic(path, text.encode())
    return path


def render(data: dict[str, Any]) -> str:
    """Put data into the page.

    Whatever a name or an attribute holds stays text: the data stand in a script element of type
    JSON with every ``<`` escaped, and the script shows them as text nodes alone.
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    parts = {
        "/*style*/": _read("style.css"),
        "/*script*/": "\n".join(map(_read, _SCRIPTS)),
        "/*data*/": text.replace("<", "\\u003c"),
    }
    page = _read("page.html")
    for place, part in parts.items():  # the data last: what they hold is no place to fill
        page = page.replace(place, part)
    return page


def _read(name: str) -> str:
    return files("eval.page").joinpath(name).read_text(encoding="utf-8")
