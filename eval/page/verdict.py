"""The verdict on one machine in two sentences, for the page and the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cache.base.text import counted
from cache.table import Section
from eval.metrics.sections import SectionResult
from eval.page.views import ClipView
from eval.scoring.difference import Difference
from eval.scoring.sections import surplus

# How well scores part anomalies from normal clips, by the lowest AUC of the official score.
_GRADES = ((0.9, "well"), (0.75, "fairly well"), (0.6, "poorly"))
_NEARLY_ALL = 0.8  # of the clips flagged: more likely the set-up than the machine
_NAMED = 5  # clips that a terminal names


@dataclass(frozen=True)
class MachineVerdict:
    """The verdict on one machine, for the terminal.

    Attributes
    ----------
    section
        Which.
    name
        As people call it: without a number where the machine has one section.
    clips
        How many were scored.
    flagged
        How many of them are called abnormal; ``None`` where nothing was judged.
    expected
        How many would be if all were normal; ``None`` where nobody says.
    worst
        Name, score and what is different (may be empty) of the most abnormal of the flagged clips.
    """

    section: Section
    name: str
    clips: int
    flagged: int | None
    expected: float | None
    worst: tuple[tuple[str, float, str], ...] = ()

    @property
    def text(self) -> str:
        """One line, and one more for each clip named."""
        if self.flagged is None:
            return f"{self.name}: {counted(self.clips, 'clip')} scored, not judged"
        verb = "sounds" if self.clips == 1 else "sound"
        said = f"{self.name}: {self.flagged} of {counted(self.clips, 'clip')} {verb} abnormal"
        if self.expected is not None:
            said += f"; {expectation(self.expected)} if all were normal"
        lines = [f"  {score:8.4g}  {clip}{f'  {told}' if told else ''}" for clip, score, told in self.worst]
        if self.flagged > len(self.worst) > 0:
            lines.append(f"  and {self.flagged - len(self.worst)} more")
        return "\n".join([said, *lines])


def verdict(
    section: Section,
    name: str,
    clips: Sequence[ClipView],
    differences: Mapping[tuple[Section, str], Difference],
    calibration: Mapping[str, Any] | None = None,
) -> MachineVerdict:
    """Sum up one machine.

    Parameters
    ----------
    section, name
        Which, and how people call it.
    clips
        Of it, the most abnormal first.
    differences
        Section and clip to what is different about it, where that was heard.
    calibration
        As of `detail`.
    """
    promised, called = (calibration or {}).get("promised"), flagged(clips)
    if called is None:
        return MachineVerdict(section, name, len(clips), None, None)
    abnormal = [view for view in clips if view.decision == 1]
    worst = [(view, differences.get((section, view.name))) for view in abnormal[:_NAMED]]
    return MachineVerdict(
        section, name, len(clips), called, None if promised is None else promised * len(clips),
        tuple((view.name, view.score, one.sentence if one else "") for view, one in worst),
    )  # fmt: skip


def flagged(clips: Sequence[ClipView]) -> int | None:
    """Count the clips called abnormal; ``None`` where nothing was judged."""
    if any(view.decision is None for view in clips):
        return None
    return sum(view.decision == 1 for view in clips)


def expectation(number: float) -> str:
    """Say how many clips would be flagged: ``about 2 would be``."""
    return "about 1 or none would be" if number < 1.5 else f"about {number:.0f} would be"


def headline(clips: Sequence[ClipView]) -> str:
    """Say how many clips sound abnormal."""
    total, called = len(clips), flagged(clips)
    if called is None:
        return f"{counted(total, 'clip')} scored, not judged"
    if total == 1:
        return "The one clip sounds abnormal" if called else "The one clip sounds normal"
    if called in (0, total):
        return f"All {total} clips sound {'abnormal' if called else 'normal'}"
    return f"{called} of {total} clips sound abnormal"


def detail(
    clips: Sequence[ClipView],
    result: SectionResult | None,
    parts: Sequence[str],
    cautions: Sequence[str] = (),
    calibration: Mapping[str, Any] | None = None,
) -> str:
    """Say how far the headline can be trusted.

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
        How often a normal clip is flagged, see `eval.results.description.SystemDescription`; ``None``
        where nothing was judged or nobody says.
    """
    known = calibration or {}
    if result is None:
        first = _without_truth(clips, known.get("promised"))
    else:
        areas = [result.figures[name] for name in parts if name.startswith("auc")]
        least = min((value for value in areas if value is not None), default=None)
        grade = next((word for limit, word in _GRADES if least is not None and least >= limit), "")
        first = "Too few clips of a kind to say how well the scores separate."
        if least is not None:
            first = f"Scores separate {grade}." if grade else "Scores are no better than chance."
        if flagged(clips) is not None:
            anomalies = sum(view.condition == "anomaly" for view in clips)
            misses = sum(view.error == "miss" for view in clips)
            alarms = sum(view.error == "false alarm" for view in clips)
            first = (
                f"{anomalies - misses} of {counted(anomalies, 'anomaly', 'anomalies')} found, "
                f"{counted(alarms, 'false alarm')} among "
                f"{counted(len(clips) - anomalies, 'normal clip')}. {first}"
            )
    sentences = [known["promise"], *cautions] if "promise" in known else cautions
    return first + "".join(f" {text[0].upper()}{text[1:]}." for text in sentences)


def _without_truth(clips: Sequence[ClipView], promised: float | None) -> str:
    called = flagged(clips)
    if promised is None or called is None:
        return "Nothing says which clips are truly abnormal: listen."
    said = f"{expectation(promised * len(clips)).capitalize()} flagged if all were normal. "
    more = surplus(called, len(clips), promised)
    if not called:
        return f"{said}No clip stands out. If you know of a faulty one, look how high it stands in the list."
    if more and called >= _NEARLY_ALL * len(clips):
        return (
            f"{said}The machine or the recording set-up is not as it was for the normal clips. Compare "
            "microphone, place and gain; if they are the same and the machine sounds as it should, record "
            "normal clips under these conditions."
        )
    if more:
        return (
            f"{said}Listen to the first, beside its nearest normal clip: these are too many for false alarms."
        )
    return (
        f"{said}Listen to the first, beside its nearest normal clip. If you hear nothing unusual, it is "
        "one of the expected false alarms; a higher percentile, or normal clips of more days, make them "
        "rarer."
    )
