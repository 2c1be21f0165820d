"""Whether normal operation has moved away from a bank: said from the history, nothing is changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.base.options import Options, documented, option
from cache.files.places import place
from cache.table import Section
from eval.monitor.evidence import STAKES, Evidence, Level, exceedance_levels, levels_of
from eval.monitor.history import History, utc
from index.bank import locate
from index.fitted import FittedSection

Floats = NDArray[np.float64]
FEWEST = 20  # unflagged clips that say anything

Direction = Literal["up", "down"]
_DIRECTIONS: tuple[tuple[Direction, float], ...] = (("up", 1.0), ("down", -1.0))


@documented
@dataclass(frozen=True, kw_only=True)
class DriftRequest(Options):
    """Banks, their histories, and how sure a report is."""

    pairs: tuple[Path, ...] = option(
        (), "a bank and the --state folder of its watch; of further machines too",
        flag="pairs", metavar="BANK HISTORY", read=place,
    )  # fmt: skip
    false_alarms: str = option(
        "1/10000", "one false report in so many unflagged clips at most, on average", metavar="RATE"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.pairs or len(self.pairs) % 2:
            raise AsdError("name a bank and its history, or several such pairs")


@dataclass(frozen=True)
class Change:
    """How clips differ from their nearest normal one since a drift began, against before.

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
    """What the history of one machine says about drift.

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
    def told(self) -> bool:
        """Whether there were clips enough."""
        return self.clips >= FEWEST

    @property
    def text(self) -> str:
        """A line, and a line a change."""
        skipped = f"; {self.other} clips of other versions of the bank left out" if self.other else ""
        if not self.told:
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
        If there is no bank or no history, or the bank is of windows.
    """
    found = locate(bank)
    recipe = found.recipe()
    drifts = []
    for one in History.below(history):
        rows = one.read().to_pylist()
        if not rows:
            continue
        section = Section(rows[0]["machine_type"], rows[0]["section"])
        fitted = found.read(section, recipe)
        mark = found.fingerprint(section)
        own = [row for row in rows if row["bank"] == mark]
        unflagged = sorted((row for row in own if row["decision"] == 0), key=lambda row: row["time"])
        drifts.append(_drift(section, fitted, unflagged, len(rows) - len(own), limit))
    return drifts


def _drift(
    section: Section, fitted: FittedSection, rows: Sequence[dict[str, Any]], other: int, limit: float
) -> Drift:
    nothing = Drift(section, len(rows), other, None, None, 0.0)
    if not nothing.told:
        return nothing
    levels_of(fitted)  # refused where clips are windows
    reference = below_threshold(fitted)
    groups = fitted.calibration.count or fitted.train_scores().size
    share = reference.size / fitted.train_scores().size
    scores = np.array([row["score"] for row in rows])
    most = 0.0
    for direction, sign in _DIRECTIONS:
        levels = exceedance_levels(sign * reference, max(1, round(groups * share)))
        values = running(levels, sign * scores)
        most = max(most, float(values.max()) / 2)
        reached = np.flatnonzero(values >= 2 * limit)
        if reached.size:
            first = began(levels, sign * scores, int(reached[0]))
            since = rows[first]["time"].timestamp()
            changes = changed(rows[:first], rows[first:])
            return Drift(section, len(rows), other, direction, since, float(values.max()) / 2, changes)
    return Drift(section, len(rows), other, None, None, most)


def below_threshold(fitted: FittedSection) -> Floats:
    """Give the bank's normal scores that are not flagged.

    Raises
    ------
    AsdError
        If it has no threshold.
    """
    scores = fitted.train_scores()
    if not np.isfinite(fitted.threshold.value):
        raise AsdError(f"{fitted.section}: the bank has no threshold, so that nothing was judged")
    return np.asarray(scores[scores <= fitted.threshold.value])


def running(levels: Sequence[Level], scores: Floats) -> Floats:
    """Give the evidence after each score, (n,)."""
    evidence = Evidence(levels)
    return np.array([evidence.add(float(score)) for score in scores])


def began(levels: Sequence[Level], scores: Floats, last: int) -> int:
    """Estimate where a change began that was found at a clip: the likeliest start of the likeliest bet.

    Parameters
    ----------
    levels, scores
        As of `running`.
    last
        Index of the clip at which it was found.

    Returns
    -------
    int
        Index of the first clip of the change, from 0 to `last`.
    """
    best, start = -np.inf, last
    for level in levels:
        if level.share >= 1:
            continue
        for stake in STAKES:
            gains = np.log(
                np.where(scores[: last + 1] >= level.score, 1 - stake + stake / level.share, 1 - stake)
            )
            before = np.concatenate([[0.0], np.cumsum(gains)])
            first = int(np.argmin(before[: last + 1]))
            if before[last + 1] - before[first] > best:
                best, start = float(before[last + 1] - before[first]), first
    return start


def changed(before: Sequence[dict[str, Any]], since: Sequence[dict[str, Any]]) -> tuple[Change, ...]:
    """Say which differences became more frequent, most first; those told of a tenth of the clips at least."""
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
    """Say what may be done, and whose drift is alone; nothing is done."""
    moved, told = [one for one in drifts if one.direction], [one for one in drifts if one.told]
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
