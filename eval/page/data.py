"""Everything a page shows, as one plain structure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.base.text import parse_json
from cache.table import Section
from eval.judge import JudgeResult
from eval.metrics.intervals import Interval
from eval.metrics.rules import Rule
from eval.metrics.sections import SectionTruth, area_masks
from eval.page.sound import Playback
from eval.page.verdict import detail, headline
from eval.page.views import ClipView
from eval.results.names import PROXY
from eval.results.submission import Submission
from eval.results.tables import SystemResult
from eval.scoring.maps import map_path, read_columns

Points = list[tuple[float, float]]
_MAP = {"clip_id", "name", "split", "domain", "attributes", "x", "y", "method"}


@dataclass(frozen=True)
class Contents:
    """Contents of a page.

    Attributes
    ----------
    run, result
        The run and its figures.
    views
        Section to its clips, the most anomalous first.
    heard
        What can be played.
    """

    run: JudgeResult
    result: SystemResult
    views: Mapping[Section, Sequence[ClipView]]
    heard: Playback


def page_data(contents: Contents) -> dict[str, Any]:
    """Put everything into numbers, text and lists, for JSON."""
    result = contents.result
    summary = result.summary
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
        "means": {name: summary.mean[name] for name in result.columns},
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
        "label": label(section, contents.views),
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
        "roc": {name: [[round(x, 4), round(y, 4)] for x, y in curve] for name, curve in curves.items()},
        "map": _map(run, section, views),
    }


def _clip(view: ClipView, heard: Playback, section: Section) -> dict[str, Any]:
    """Put a clip into a structure; one whose neighbours cannot all be played is not played either."""
    recording = view.recording
    playable = (
        recording is not None
        and recording.clip_id in heard.sounds
        and view.name in heard.clips.get(section, ())
    )
    told = heard.differences.get((section, view.name)) if playable else None
    facts = ("name", "score", "domain", "condition", "error", "decided", "part")
    return {
        **{name: getattr(view, name) for name in facts},
        "id": recording.clip_id if recording else None,
        "called": view.decision,
        "attributes": list(view.attributes.items()),
        "p": view.p_value,
        "span": recording.span if recording else None,
        "sound": recording.clip_id if recording and playable else None,
        "difference": told and {k: round(v, 3) if isinstance(v, float) else v for k, v in vars(told).items()},
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


def label(section: Section, others: Iterable[Section]) -> str:
    """Name a section as people do: by its machine, with a number only where the machine has several."""
    several = sum(other.machine_type == section.machine_type for other in others) > 1
    return f"{section.machine_type} {section.number:02d}" if several else section.machine_type


def _map(run: JudgeResult, section: Section, views: Sequence[ClipView]) -> dict[str, Any] | None:
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


def roc_curves(scores: NDArray[np.float64], truth: SectionTruth | None, rule: Rule) -> dict[str, Points]:
    """Trace a section's ROC curves by their corners.

    Parameters
    ----------
    scores
        (N,) of its clips.
    truth
        What they are; ``None`` where that is not known.
    rule
        The year's.

    Returns
    -------
    dict
        ``auc``, ``auc_source`` and ``auc_target``, those that the clips allow, to points of
        (false positive rate, true positive rate) from (0, 0) to (1, 1), as the year's rule has it.
    """
    if truth is None:
        return {}
    from sklearn.metrics import roc_curve  # noqa: PLC0415 (a second, needed where the truth is known)

    curves: dict[str, Points] = {}
    for name, (low, high) in area_masks(truth, rule).items():
        if low.any() and high.any() and not name.startswith("pauc"):
            labels = np.repeat([0.0, 1.0], [low.sum(), high.sum()])
            false, true, _ = roc_curve(labels, np.concatenate([scores[low], scores[high]]))
            curves[name] = list(zip(false.tolist(), true.tolist(), strict=True))
    return curves


def implied_threshold(submission: Submission) -> float | None:
    """Find a score between the clips called normal and those called anomalous, if one divides them."""
    if submission.decisions is None:
        return None
    called = submission.decisions == 1
    if called.all() or not called.any():
        return None
    low, high = submission.scores[~called].max(), submission.scores[called].min()
    return float((low + high) / 2) if low < high else None


def _span(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]
