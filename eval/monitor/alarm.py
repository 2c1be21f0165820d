"""From judged clips to alarms: few, and each for a stated reason."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cache.base.errors import AsdError
from eval.monitor.evidence import Evidence, levels_of
from eval.monitor.request import VOTES, WatchOptions
from index.fitted import FittedSection, frequency
from index.threshold import PERIODS, share_of


@dataclass(frozen=True)
class AlarmRule:
    """Conditions for raising an alarm and for clearing it.

    Attributes
    ----------
    votes, window
        It is raised when at least `votes` of the last `window` judged clips are called abnormal; ``votes``
        0 leaves that to the evidence alone.
    limit
        It is raised when the evidence reaches so much, in clips a false alarm; ``None`` takes no evidence.
    clear
        It is over after so many clips in a row that are called normal (hysteresis), from 1.
    cool_down
        Seconds after an alarm in which no other one is sent, from 0.
    """

    votes: int = 3
    window: int = 5
    limit: float | None = None
    clear: int = 5
    cool_down: float = 3600.0

    def __post_init__(self) -> None:
        if not 0 <= self.votes <= self.window or self.window < 1:
            raise AsdError(
                f"{self.votes} of {self.window} clips: expected 0 <= votes <= window, window from 1"
            )
        if self.votes == 0 and self.limit is None:
            raise AsdError("neither votes nor evidence would ever raise an alarm: give one of them")
        if self.clear < 1 or not self.cool_down >= 0:
            raise AsdError(
                f"clear {self.clear}, cool-down {self.cool_down:g} s: expected from 1 clip and from 0 s"
            )


@dataclass(frozen=True)
class Event:
    """A change in an alarm, caused by a clip.

    Attributes
    ----------
    kind
        ``raised``, ``repeated`` (still abnormal when a cool-down ended) or ``cleared``.
    reason
        In words.
    time
        Of the clip, s since 1970.
    number
        Of the alarm, from 1: with the kind it names the event once and for all.
    """

    kind: Literal["raised", "repeated", "cleared"]
    reason: str
    time: float
    number: int


class Alarm:
    """An alarm's state over the clips of one machine; the same clips give the same events.

    Parameters
    ----------
    rule
        When it is raised.
    evidence
        Needed where the rule has a limit.
    """

    def __init__(self, rule: AlarmRule, evidence: Evidence | None = None) -> None:
        if rule.limit is not None and evidence is None:
            raise AsdError("an alarm by evidence needs the bank's normal scores")
        self.rule, self._evidence = rule, evidence
        self._votes: deque[bool] = deque(maxlen=rule.window)
        self._calm = 0
        self._sent: float | None = None
        self._told = False
        self.raised = False
        self.number = 0

    @property
    def evidence(self) -> float | None:
        """Current evidence; ``None`` if the rule uses none."""
        return None if self._evidence is None else self._evidence.value

    def add(self, time: float, score: float, abnormal: bool, windows: int = 1) -> Event | None:
        """Take in the next judged clip.

        Parameters
        ----------
        time
            Of its recording, s since 1970.
        score
            Finite.
        abnormal
            What the bank's threshold says of it.
        windows
            How many it was heard in, of which the score is the largest.

        Returns
        -------
        Event or None
            What is to be told, if anything.
        """
        self._votes.append(abnormal)
        self._calm = 0 if abnormal else self._calm + 1
        rule, reasons = self.rule, []
        if rule.votes and sum(self._votes) >= rule.votes:
            reasons.append(f"{sum(self._votes)} of the last {len(self._votes)} clips are abnormal")
        if self._evidence is not None:
            value = self._evidence.add(score, windows)
            if rule.limit is not None and value >= rule.limit:
                reasons.append(f"normal clips score as high together once in {rule.limit:,.0f} clips at most")
                self._evidence.reset()  # evidence that sufficed is used up
        if reasons:
            if not self.raised:
                self.raised, self._told = True, False
                self.number += 1
            if self._sent is not None and time - self._sent < rule.cool_down:
                return None
            kind: Literal["raised", "repeated"] = "repeated" if self._told else "raised"
            self._sent, self._told = time, True
            return Event(kind, "; ".join(reasons), time, self.number)
        if self.raised and self._calm >= rule.clear:
            self.raised = False
            self._votes.clear()
            if self._told:
                return Event("cleared", f"{self._calm} clips in a row are normal", time, self.number)
        return None

    def state(self) -> dict[str, Any]:
        """Return the state that `restore` takes, as JSON values."""
        return {
            "votes": list(self._votes),
            "calm": self._calm,
            "sent": self._sent,
            "told": self._told,
            "raised": self.raised,
            "number": self.number,
            "evidence": None if self._evidence is None else self._evidence.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises
        ------
        AsdError
            If it is not one, or of another bank's evidence.
        """
        try:
            votes = [bool(vote) for vote in state["votes"]]
            calm, number = int(state["calm"]), int(state["number"])
            raised, told = bool(state["raised"]), bool(state["told"])
            sent = None if state["sent"] is None else float(state["sent"])
            capital = state["evidence"]
        except (KeyError, TypeError, ValueError) as error:
            raise AsdError(f"not the state of an alarm ({error!r}): begin anew") from error
        if self._evidence is not None and capital is not None:
            self._evidence.restore(capital)
        self._votes = deque(votes, maxlen=self.rule.window)
        self._calm, self._sent, self._told = calm, sent, told
        self.raised, self.number = raised, number


def rule_of(asked: WatchOptions, fitted: FittedSection, windows: int = 1) -> AlarmRule:
    """Make the alarm rule for recordings of so many windows each.

    Raises
    ------
    AsdError
        If votes are none, or the bank cannot keep the rate, with the figures.
    """
    if asked.false_alarms is None:
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", (asked.votes or VOTES).strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise AsdError(f"--votes {asked.votes}: expected K/N with 1 <= K <= N, as {VOTES}")
        return AlarmRule(int(match[1]), int(match[2]), None, asked.clear, asked.cool_down)
    if asked.votes is not None:
        raise AsdError(
            f"--votes {asked.votes} would add alarms of its own to --false-alarms "
            f"{asked.false_alarms}, which is a promise: leave one out"
        )
    limit = 1 / share_of(asked.false_alarms, _interval(asked))
    delay = Evidence(levels_of(fitted)).clips_to(limit, windows)
    if delay > asked.within:
        raise AsdError(
            f"--false-alarms {asked.false_alarms} is one in {limit:,.0f} clips: of this bank's "
            f"{fitted.calibration.count or len(fitted.train_scores())} groups of normal clips, evidence "
            f"needs {delay} clips for it, all higher than any normal one, and --within {asked.within} are "
            "allowed: record more normal clips, accept more false alarms, or a longer delay"
        )
    return AlarmRule(0, 1, limit, asked.clear, asked.cool_down)


def _interval(asked: WatchOptions) -> float:
    """Seconds from clip to clip."""
    if asked.clip_interval is not None:
        return asked.clip_interval
    if asked.streams:
        return asked.seconds
    if (asked.false_alarms or "").partition("/")[2] in PERIODS:
        raise AsdError(
            f"--false-alarms {asked.false_alarms} is of a period: say with --clip-interval how many "
            "seconds lie between clips"
        )
    return 1.0


def promise_of(asked: WatchOptions, fitted: FittedSection, rule: AlarmRule, windows: int = 1) -> str:
    """State in one sentence the rate of false alarms and the delay that a rule promises."""
    groups = fitted.calibration.count or len(fitted.train_scores())
    if rule.limit is not None:
        delay = Evidence(levels_of(fitted)).clips_to(rule.limit, windows)
        each = f" of {windows} windows" if windows > 1 else ""
        # The least conformal p-value (Vovk et al. 2005), of the largest of several windows.
        rarest = 1 - (1 - 1 / (groups + 1)) ** windows
        return (
            f"alarm by evidence: at most one false alarm in {rule.limit:,.0f} normal clips on average "
            f"({asked.false_alarms}), if new recordings vary as the {groups} groups did; a fault takes at "
            f"least {delay} clips{each} (one clip alone shows nothing rarer than 1 in "
            f"{1 / rarest:.0f})"
        )
    from scipy.stats import binom  # noqa: PLC0415 (half a second that most commands do not need)

    if math.isinf(fitted.threshold.value):
        return "alarm by votes: this bank has no threshold, so that there will be no alarm"
    share = float(binom.sf(rule.votes - 1, rule.window, fitted.promised))
    return (
        f"alarm by votes, {rule.votes} of {rule.window}: about {frequency(fitted.promised)} normal clips "
        f"is flagged, which is {rule.votes} of {rule.window} at {frequency(share)} clips if they are "
        "independent; --false-alarms keeps a rate"
    )
