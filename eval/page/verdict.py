"""What an engineer wants to read first: one machine in two sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.metrics.sections import SectionResult
from eval.page.views import ClipView
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
