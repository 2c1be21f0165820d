"""The clips of a page: score, truth, reasons, attributes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from cache.base.errors import AsdError
from cache.base.text import composed
from cache.heard import PLAIN, Signal, split_id
from cache.table import DOMAINS, Section
from eval.judge import JudgeResult
from eval.results.truth import clip_name
from eval.scoring.maps import read_columns
from eval.scoring.sections import reasons_path
from extractors.audio.hearing import Hearing
from extractors.clips.listing import SUPPLEMENTS, Clip, list_clips, parse_name, parse_tail


class RecordingIndex:
    """Clips of data roots, where there are any.

    Parameters
    ----------
    roots
        Data roots; none, and nothing can be heard.
    signal
        How files of numbers were read.
    """

    def __init__(self, roots: Sequence[Path], signal: Signal = PLAIN) -> None:
        clips = Hearing(signal=signal).cut(list_clips(roots, SUPPLEMENTS)).clips if roots else ()
        self._by_id = {clip.clip_id: clip for clip in clips}
        # Another system's files name test clips without their folder.
        self._by_name = {
            (clip.section, composed(PurePosixPath(clip.clip_id).stem)): clip
            for clip in clips
            if clip.split == "test"
        }

    def by_id(self, clip_id: str) -> Clip | None:
        """Find a clip by its path below the data root; a window of one, too."""
        file_id, span = split_id(clip_id)
        clip = self._by_id.get(file_id)
        return clip if clip is None or span is None else replace(clip, clip_id=clip_id, span=span)

    def by_name(self, section: Section, name: str) -> Clip | None:
        """Find a test clip by its base name, with or without suffix."""
        stem = composed(PurePosixPath(name).name)
        known = self._by_name.get((section, stem))
        return known or self._by_name.get((section, PurePosixPath(stem).stem))


_REASONS = {
    "clip_id", "name", "p_value", "decided", "part",
    *(f"{domain}_{what}" for domain in DOMAINS for what in ("clip", "distance")),
}  # fmt: skip


@dataclass(frozen=True)
class NeighbourView:
    """The nearest normal training clip of one domain."""

    domain: str
    clip_id: str
    distance: float
    recording: Clip | None = None


@dataclass(frozen=True, eq=False)
class ClipView:
    """One test clip.

    Attributes
    ----------
    name
        As the submission calls it.
    score, decision
        Decision 1 is anomalous; ``None`` where there are none.
    domain, condition
        ``None`` where unknown.
    attributes
        Operating conditions, name to value.
    recording
        Its audio file, where it was found.
    p_value, decided, part, neighbours
        Why, where our own scoring says so.
    """

    name: str
    score: float
    decision: int | None
    domain: str | None = None
    condition: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    recording: Clip | None = None
    p_value: float | None = None
    decided: str = ""
    part: str = ""
    neighbours: tuple[NeighbourView, ...] = ()

    @property
    def error(self) -> str:
        """``false alarm``, ``miss`` or nothing."""
        if self.condition == "normal" and self.decision == 1:
            return "false alarm"
        return "miss" if self.condition == "anomaly" and self.decision == 0 else ""


def clip_views(
    run: JudgeResult, section: Section, recordings: RecordingIndex, *, judged: bool = True
) -> list[ClipView]:
    """Collect scores, truth and reasons of a section's clips, the most anomalous first.

    Where nothing was `judged`, the decisions of 0 that a submission must hold are not shown.
    """
    rows = read_columns(reasons_path(run.directory, section), _REASONS)
    reasons = {str(row["name"]): row for row in rows}
    submission, truth = run.read(section)
    decisions = submission.decisions if judged else None
    views = []
    for i, name in enumerate(submission.files):
        reason: Mapping[str, Any] = reasons.get(name, {})
        found = recordings.by_id(str(reason.get("clip_id", ""))) or recordings.by_name(section, name)
        attributes = dict(found.attributes) if found else {}
        if not attributes:
            original = truth.originals[i] if truth is not None else None
            with suppress(AsdError):
                stem = PurePosixPath(clip_name(original or name)).stem
                attributes = parse_tail(parse_name(stem, "test").tail)
        views.append(
            ClipView(
                name,
                float(submission.scores[i]),
                None if decisions is None else int(decisions[i]),
                domain=None if truth is None or truth.target is None else DOMAINS[int(truth.target[i])],
                condition=None if truth is None else "anomaly" if truth.anomaly[i] else "normal",
                attributes=attributes,
                recording=found,
                p_value=None if reason.get("p_value") is None else float(reason["p_value"]),
                decided=str(reason.get("decided", "")),
                part=str(reason.get("part", "")),
                neighbours=_neighbours(reason, recordings),
            )
        )
    return sorted(views, key=lambda view: (-view.score, view.name))


def _neighbours(reason: Mapping[str, Any], recordings: RecordingIndex) -> tuple[NeighbourView, ...]:
    named = [(d, str(reason.get(f"{d}_clip", "")), reason.get(f"{d}_distance")) for d in DOMAINS]
    return tuple(
        NeighbourView(domain, clip, float(distance), recordings.by_id(clip))
        for domain, clip, distance in named
        if clip and distance is not None and math.isfinite(distance)
    )
