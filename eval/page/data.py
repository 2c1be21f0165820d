"""Everything a page shows, as one plain structure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cache.base.text import parse_json
from cache.table import Section
from eval.judge import Run
from eval.metrics.intervals import Interval
from eval.metrics.sections import SectionResult
from eval.page.curves import implied_threshold, roc_curves
from eval.page.listen import Playback
from eval.page.views import ClipView
from eval.results.names import PROXY
from eval.results.tables import SystemResult
from eval.scoring.difference import Difference
from eval.scoring.maps import map_path, read_columns
from eval.scoring.sections import surplus

# How well scores part anomalies from normal clips, by the lowest AUC of the official score.
_GRADES = ((0.9, "well"), (0.75, "fairly well"), (0.6, "poorly"))


def headline(clips: Sequence[ClipView]) -> str:
    """Say how many clips sound abnormal."""
    total = len(clips)
    if any(view.decision is None for view in clips):
        return f"{_count(total)} scored, not judged"
    called = sum(view.decision == 1 for view in clips)
    if total == 1:
        return "The one test clip sounds abnormal" if called else "The one test clip sounds normal"
    if called in (0, total):
        return f"All {total} test clips sound {'abnormal' if called else 'normal'}"
    return f"{called} of {total} test clips sound abnormal"


def detail(
    clips: Sequence[ClipView],
    result: SectionResult | None,
    parts: Sequence[str],
    cautions: Sequence[str] = (),
    calibration: Mapping[str, Any] | None = None,
) -> str:
    """Say how far that can be trusted.

    Parameters
    ----------
    clips
        Of one section.
    result
        Its figures; ``None`` where the truth is unknown.
    parts
        Figures that enter the official score.
    cautions
        What must be known of the training clips, sentences without a full stop.
    calibration
        How often a normal clip is flagged, see `eval.results.description.Described`; ``None`` where nothing
        was judged or nobody says.
    """
    known = calibration or {}
    first = (
        _without_truth(clips, known.get("promised")) if result is None else _with_truth(clips, result, parts)
    )
    sentences = [known["promise"], *cautions] if "promise" in known else cautions
    return first + "".join(f" {text[0].upper()}{text[1:]}." for text in sentences)


def _with_truth(clips: Sequence[ClipView], result: SectionResult, parts: Sequence[str]) -> str:
    anomalies = sum(view.condition == "anomaly" for view in clips)
    normals = len(clips) - anomalies
    misses = sum(view.error == "miss" for view in clips)
    alarms = sum(view.error == "false alarm" for view in clips)
    text = ""
    if all(view.decision is not None for view in clips):
        text = (
            f"{anomalies - misses} of {_count(anomalies, 'anomaly', 'anomalies')} found, "
            f"{_count(alarms, 'false alarm', 'false alarms')} among "
            f"{_count(normals, 'normal clip', 'normal clips')}. "
        )
    return text + _grade(result, parts)


def _grade(result: SectionResult, parts: Sequence[str]) -> str:
    known = [result.figures[name] for name in parts if name.startswith("auc")]
    least = min((value for value in known if value is not None), default=None)
    if least is None:
        return "Too few clips of a kind to say how well the scores separate."
    grade = next((word for limit, word in _GRADES if least >= limit), "no better than chance")
    return f"Scores separate {grade}." if grade[0] != "n" else f"Scores are {grade}."


def _without_truth(clips: Sequence[ClipView], promised: float | None) -> str:
    flagged = sum(view.decision == 1 for view in clips)
    more = "" if promised is None else surplus(flagged, len(clips), promised)
    listen = "Nothing says which clips are truly abnormal: listen."
    return f"{more[0].upper()}{more[1:]}. {listen}" if more else listen


def _count(number: int, one: str = "clip", many: str = "clips") -> str:
    return f"{number} {one if number == 1 else many}"


_MAP = {"clip_id", "name", "split", "domain", "attributes", "x", "y", "method"}


@dataclass(frozen=True)
class Contents:
    """What a page is made of.

    Attributes
    ----------
    run, result
        The run and its figures.
    views
        Section to its clips, the most anomalous first.
    heard
        What can be played.
    """

    run: Run
    result: SystemResult
    views: Mapping[Section, Sequence[ClipView]]
    heard: Playback


def page_data(contents: Contents) -> dict[str, Any]:
    """Give everything as numbers, text and lists, for JSON."""
    result = contents.result
    summary = result.summary
    mean = summary.harmonic if result.rule.harmonic else summary.arithmetic
    found = result.uncertainty
    sections = sorted(contents.views)
    key = json.dumps([result.title, *map(str, sections), len(contents.heard.sounds)])
    return {
        "title": result.title,
        "key": hashlib.sha256(key.encode()).hexdigest()[:12],
        "transductive": result.transductive,
        "part": result.part,
        "proxy": PROXY if result.proxy else "",
        "official": summary.official,
        "level": found.level if found else None,
        "bootstrap": _span(found.bootstrap if found else None),
        "jackknife": _span(found.jackknife if found else None),
        "rule": {"year": result.rule.year, "source": result.rule.source, "mean": result.rule.mean},
        "columns": list(result.columns.items()),
        "parts": list(result.rule.parts),
        "means": {name: mean[name] for name in result.columns},
        "facts": list(result.facts.items()),
        "faults": list(contents.heard.faults),
        "sections": [_section(contents, section) for section in sections],
        "sounds": {key: asdict(sound) for key, sound in contents.heard.sounds.items()},
    }


def _section(contents: Contents, section: Section) -> dict[str, Any]:
    run, views = contents.run, contents.views[section]
    result = run.results.get(section)
    found = contents.result.uncertainty
    parts = found.parts.get(section, {}) if found else {}
    described = run.described
    told = described.thresholds.get(str(section))
    submission, truth = run.read(section)
    curves = roc_curves(submission.scores, truth, run.rule)
    return {
        "id": str(section),
        "label": _label(section, contents.views),
        "machine": section.machine_type,
        "number": section.number,
        "set": run.data_set(section),
        "threshold": implied_threshold(submission) if told is None else told,
        "headline": headline(views),
        "detail": detail(
            views,
            result,
            run.rule.parts,
            described.cautions.get(str(section), ()),
            described.calibration.get(str(section)) if described.judged(section) else None,
        ),
        "figures": result.figures if result else None,
        "intervals": {name: _span(interval) for name, interval in parts.items()},
        "clips": [_clip(view, contents.heard, section) for view in views],
        "roc": {name: _thin(curve) for name, curve in curves.items()},
        "map": _map(run, section, views),
    }


def _clip(view: ClipView, heard: Playback, section: Section) -> dict[str, Any]:
    known = view.recording is not None and view.recording.clip_id in heard.sounds
    playable = known and view.name in heard.clips.get(section, frozenset())
    return {
        "name": view.name,
        "id": view.recording.clip_id if view.recording else None,
        "score": view.score,
        "called": view.decision,
        "domain": view.domain,
        "condition": view.condition,
        "error": view.error,
        "attributes": list(view.attributes.items()),
        "p": view.p_value,
        "decided": view.decided,
        "part": view.part,
        "span": view.recording.span if view.recording else None,
        "sound": view.recording.clip_id if playable and view.recording else None,
        "difference": _told(heard.differences.get((section, view.name)) if playable else None),
        "near": [
            {
                "domain": near.domain,
                "told": near.recording is None or near.recording.domain is not None,
                "clip": near.clip_id,
                "distance": near.distance,
                "sound": near.clip_id if near.clip_id in heard.sounds else None,
                "attributes": list(near.recording.attributes.items()) if near.recording else [],
            }
            for near in view.neighbours
        ],
    }


def _label(section: Section, others: Iterable[Section]) -> str:
    """Name a section as people do: by its machine, with a number only where the machine has several."""
    several = sum(other.machine_type == section.machine_type for other in others) > 1
    return f"{section.machine_type} {section.number:02d}" if several else section.machine_type


def _told(difference: Difference | None) -> dict[str, Any] | None:
    if difference is None:
        return None
    return {
        key: round(value, 3) if isinstance(value, float) else value
        for key, value in asdict(difference).items()
    }


def _map(run: Run, section: Section, views: Sequence[ClipView]) -> dict[str, Any] | None:
    rows = read_columns(map_path(run.directory, section), _MAP)
    if not rows:
        return None
    known = {view.name: view for view in views}
    points = []
    for row in rows:
        view = known.get(str(row["name"])) if row["split"] == "test" else None
        domain = (view.domain if view else None) or row["domain"]
        condition = view.condition if view else "normal"
        attributes = dict(view.attributes) if view else parse_json(row["attributes"])
        place = [round(float(row[axis]), 3) for axis in ("x", "y")]
        points.append([*place, row["split"], domain, condition, attributes, row["clip_id"]])
    return {"method": str(rows[0]["method"]), "points": points}


def _thin(curve: Sequence[tuple[float, float]]) -> list[list[float]]:
    return [[round(x, 4), round(y, 4)] for x, y in curve]


def _span(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]
