"""Drift of normal operation away from a bank, found in the history; nothing is changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.table import Section
from eval.monitor.correct import GIVEN
from eval.monitor.evidence import Evidence, Level, exceedance_levels
from eval.monitor.history import History, utc
from index.bank import locate
from index.fitted import FittedSection

Floats = NDArray[np.float64]
FEWEST = 20  # unflagged clips that say anything
# Groupings in which no new clip is of a group that was left out: each is a recording of its own.
_APART = ("none", "file", GIVEN)

Direction = Literal["up", "down"]
_DIRECTIONS: tuple[tuple[Direction, float], ...] = (("up", 1.0), ("down", -1.0))


@dataclass(frozen=True)
class Change:
    """A kind of difference from the nearest normal clip, since a drift began and before.

    Attributes
    ----------
    kind
        Of `eval.scoring.difference.Difference`.
    share, before
        Of the unflagged clips since and before, in [0, 1].
    low, high
        Hz, medians since.
    decibels
        Median since.
    """

    kind: str
    share: float
    before: float
    low: float
    high: float
    decibels: float


@dataclass(frozen=True)
class Drift:
    """Drift of one machine, as far as its history shows.

    Attributes
    ----------
    section
        Which.
    clips
        Unflagged clips that the bank as it is now judged; they are what is looked at.
    other
        Clips that another version of it judged.
    direction
        Of their scores; ``None`` where they have not moved, as far as so few false alarms show.
    since
        When it began, s since 1970; ``None`` as above.
    evidence
        Largest, in clips a false alarm.
    changes
        What is different, most frequent first.
    """

    section: Section
    clips: int
    other: int
    direction: Direction | None
    since: float | None
    evidence: float
    changes: tuple[Change, ...] = ()

    @property
    def enough(self) -> bool:
        """Whether there were enough clips."""
        return self.clips >= FEWEST

    @property
    def text(self) -> str:
        """One line, and one more for each change."""
        skipped = f"; {self.other} clips of other versions of the bank left out" if self.other else ""
        if not self.enough:
            return (
                f"{self.section}: {self.clips} unflagged clips are too few to tell (from {FEWEST}){skipped}"
            )
        if self.direction is None or self.since is None:
            held = f"of {self.clips} unflagged clips (evidence {self.evidence:,.0f})"
            return f"{self.section}: not moved, {held}{skipped}"
        text = f"{self.section}: scores went {self.direction} since {utc(self.since)}"
        for change in self.changes[:3]:
            text += (
                f"\n  {change.kind} at {change.low:.0f} to {change.high:.0f} Hz, {change.decibels:+.0f} dB: "
                f"{100 * change.share:.0f} % of clips, before {100 * change.before:.0f} %"
            )
        return text + skipped


def drift(bank: Path, history: Path, limit: float) -> list[Drift]:
    """Look for drift in the histories below a folder.

    Flagged clips are left out, so that a fault is not taken for drift; what is left of normal scores is
    the part below the threshold, and the bank's own are cut there too. Scores that lie higher and scores
    that lie lower are looked for at half the rate each, so that both together keep it.

    Parameters
    ----------
    bank, history
        Folders.
    limit
        At least so many clips lie before a false report on average.

    Raises
    ------
    AsdError
        If there is no bank or no history, or the bank has no threshold.
    """
    found = locate(bank)
    recipe = found.recipe()
    drifts = []
    for one in History.below(history):
        rows = one.read().to_pylist()
        if not rows:
            continue
        section = Section(rows[0]["machine_type"], rows[0]["section"])
        mark = found.fingerprint(section)
        own = [row for row in rows if row["bank"] == mark]
        unflagged = sorted((row for row in own if row["decision"] == 0), key=lambda row: row["time"])
        known = Drift(section, len(unflagged), len(rows) - len(own), None, None, 0.0)
        drifts.append(_drift(known, found.read(section, recipe), unflagged, limit) if known.enough else known)
    return drifts


def _drift(known: Drift, fitted: FittedSection, rows: Sequence[dict[str, Any]], limit: float) -> Drift:
    scores = np.array([row["score"] for row in rows])
    windows = np.array([row["windows"] for row in rows])
    for direction, sign in _DIRECTIONS:
        # The largest of several windows is low only where each of them is: one is bet on.
        counts = windows if direction == "up" else np.ones_like(windows)
        levels = levels_below(fitted, sign, cut=bool(counts.max() == 1))
        values = running(levels, sign * scores, counts)
        evidence = float(values.max()) / 2
        reached = np.flatnonzero(values >= 2 * limit)
        if reached.size:
            first = began(levels, sign * scores, counts, int(reached[0]))
            since, changes = rows[first]["time"].timestamp(), changed(rows[:first], rows[first:])
            return replace(known, direction=direction, since=since, evidence=evidence, changes=changes)
        known = replace(known, evidence=max(known.evidence, evidence))
    return known


def levels_below(fitted: FittedSection, sign: float, *, cut: bool) -> list[Level]:
    """Bound how often the score of an unflagged clip is as high, or as low, as some of the bank's.

    Parameters
    ----------
    fitted
        The bank's section.
    sign
        1 for scores that are higher, -1 for lower ones.
    cut
        Whether the bank's own are cut at the threshold. The threshold of several windows' largest score is
        higher; uncut, the bounds hold for it too.

    Raises
    ------
    AsdError
        If there is no threshold.
    """
    if not np.isfinite(fitted.threshold.value):
        raise AsdError(f"{fitted.section}: the bank has no threshold, so that nothing was judged")
    scores = fitted.train_scores()
    if sign < 0 and fitted.calibration.grouping not in _APART:
        # A new clip may be like those of a group that the bank holds, which was judged without it: of such
        # clips nothing has moved, and their scores are as low as a clip's of that group left out alone.
        scores = fitted.scorer.train_scores()
    reference = scores[scores <= fitted.threshold.value] if cut else scores
    groups = fitted.calibration.count or fitted.recordings or scores.size
    return exceedance_levels(sign * reference, max(1, round(groups * (reference.size / scores.size))))


def running(levels: Sequence[Level], scores: Floats, windows: NDArray[np.intp]) -> Floats:
    """Return the evidence after each score, of so many windows, (n,)."""
    evidence = Evidence(levels)
    return np.array([evidence.add(float(one), int(many)) for one, many in zip(scores, windows, strict=True)])


def began(levels: Sequence[Level], scores: Floats, windows: NDArray[np.intp], last: int) -> int:
    """Estimate where a change began that was found at a clip: the likeliest start of the likeliest bet.

    Parameters
    ----------
    levels, scores, windows
        As of `running`.
    last
        Index of the clip at which it was found.

    Returns
    -------
    int
        Index of the first clip of the change, from 0 to `last`.
    """
    evidence = Evidence(levels)
    factors = [evidence.factors(float(scores[i]), int(windows[i])) for i in range(last + 1)]
    gains = np.log(factors)  # (clips, bets)
    before = np.concatenate([np.zeros((1, gains.shape[1])), np.cumsum(gains, axis=0)])
    first = np.argmin(before[:-1], axis=0)
    return int(first[np.argmax(before[-1] - before[:-1].min(axis=0))])


def changed(before: Sequence[dict[str, Any]], since: Sequence[dict[str, Any]]) -> tuple[Change, ...]:
    """List the differences that became more frequent, most first; each in a tenth of the clips or more."""
    counts = Counter(row["kind"] for row in since if row["kind"] not in ("", "none"))
    usual = Counter(row["kind"] for row in before)
    found = []
    for kind, count in counts.most_common():
        share = count / len(since)
        earlier = usual[kind] / len(before) if before else 0.0
        if share < 0.1 or share <= earlier:
            continue
        of_kind = [row for row in since if row["kind"] == kind]
        low, high, decibels = (
            float(np.median([row[name] for row in of_kind])) for name in ("low", "high", "decibels")
        )
        found.append(Change(kind, share, earlier, low, high, decibels))
    return tuple(sorted(found, key=lambda one: one.before - one.share))


def advice(drifts: Sequence[Drift]) -> list[str]:
    """Suggest what to do, and say if one machine alone has moved."""
    moved, told = [one for one in drifts if one.direction], [one for one in drifts if one.enough]
    lines = []
    if any(one.direction == "up" for one in moved):
        lines.append(
            "scores of normal clips rose: listen to some since then; if they are normal, `asd bank add BANK "
            "CLIPS --because ...` (or `calibrate`, where the sound is the same and only the threshold is off)"
        )
    if any(one.direction == "down" for one in moved):
        lines.append(
            "scores of normal clips fell: the threshold is higher than it need be; `asd bank calibrate BANK "
            "CLIPS --because ...` learns it from clips of now"
        )
    if len(told) > 1 and len(moved) == 1:
        lines.append(
            f"{moved[0].section} alone has moved, {len(told) - 1} others have not: look at that machine and "
            "its microphone first"
        )
    elif len(told) > 1 and len(moved) == len(told):
        lines.append("all have moved: look for what they share, season, load or recorder, first")
    return lines
