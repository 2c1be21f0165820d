"""Evidence that adds up over clips: what a bank's normal scores can promise about false alarms.

One clip's p-value cannot be smaller than one part in the number of normal clips plus one, so a bank of a few
hundred clips cannot keep "one false alarm a month" clip by clip. Several clips together can.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from index.fitted import FittedSection

Floats = NDArray[np.float64]

# Shares of the normal scores that the bets look at, beside the very highest score: a fault lifts all clips
# a little or some of them a lot.
_SHARES = (0.5, 0.25, 0.1, 0.05, 0.02)
_STAKES = (0.1, 0.3, 0.6, 0.9)  # part of the capital put on each clip; the best one depends on the fault
CONFIDENCE = 0.95  # that a bank's own scores are no luckier than the promise allows for


@dataclass(frozen=True)
class Level:
    """A score with the share of normal clips that lies at or above it.

    Attributes
    ----------
    score
        A normal clip's score.
    share
        Upper confidence bound of the share of all normal clips that score as high or higher, in (0, 1].
    """

    score: float
    share: float


def exceedance_levels(
    reference: Floats, groups: int | None = None, confidence: float = CONFIDENCE
) -> list[Level]:
    """Bound how often normal clips score as high as some of the reference scores.

    The share of a continuous distribution that lies at or above the k-th largest of n independent scores is
    Beta(k, n + 1 - k) distributed, whatever the distribution (order statistics; David and Nagaraja 2003,
    eq. 2.1.5), so its quantile is an upper bound of that confidence. The bounds hold together: each is
    given an equal part of the error (Bonferroni).

    Parameters
    ----------
    reference
        (n,) float64, n >= 1, the scores of normal clips that the scorer did not hear.
    groups
        Of how many independent groups (days, recordings) they are, where that is fewer than clips: the bounds
        are then those of as many scores as there are groups.
    confidence
        In (0, 1), that all bounds hold.

    Returns
    -------
    list of Level
        Ascending by score, each score once.

    Raises
    ------
    AsdError
        If there is no score, or one is not finite.
    """
    from scipy.stats import beta  # noqa: PLC0415 (half a second that most commands do not need)

    if not reference.size or not np.isfinite(reference).all():
        raise AsdError(
            f"{reference.size} normal scores, {int(np.sum(~np.isfinite(reference)))} of them not finite: "
            "evidence needs at least one and all finite; build the bank from more normal clips"
        )
    count = reference.size
    independent = min(groups or count, count)
    ordered = np.sort(reference)[::-1]
    ranks = sorted({1, *(max(1, math.ceil(share * count)) for share in _SHARES)})
    levels: dict[float, Level] = {}
    for rank in ranks:
        # The same share of fewer independent scores, rounded up.
        of_fewer = min(independent, math.ceil(rank * independent / count))
        error = (1 - confidence) / len(ranks)
        bound = float(beta.ppf(1 - error, of_fewer, independent + 1 - of_fewer))
        score = float(ordered[rank - 1])
        levels[score] = Level(score, max(bound, levels[score].share if score in levels else 0.0))
    return [levels[score] for score in sorted(levels)]


def levels_of(fitted: FittedSection) -> list[Level]:
    """Bound how often normal clips, or windows, score as high as some of a section's left-out ones."""
    return exceedance_levels(fitted.train_scores(), fitted.calibration.count or fitted.recordings or None)


class Evidence:
    """Capital that grows while scores are higher than normal ones, and alarms rarely when they are not.

    A Shiryaev-Roberts e-detector (Shin, Ramdas and Rinaldo 2022, arXiv 2203.03532, section 3): for each
    level and stake the capital follows ``M <- (M + 1) * (1 - stake + stake * [score >= level] / share)``. The
    factor's expectation is at most 1 where normal clips exceed the level at most as often as `share` says,
    so that the mean of the capitals, less the number of clips, never grows on average: the expected number
    of normal clips until it reaches a limit is at least that limit. The reference stays what it was when the
    bank was built: a fault is never learnt (the fixed reference of arXiv 2602.13848; the error of a finite
    reference is in the bounds). Clips must be as independent of each other as the reference's are.

    The score of a recording of several windows is the largest of theirs. It reaches a level at most as often
    as the windows do together: `share` times their number (Boole's inequality), however alike they are.

    Parameters
    ----------
    levels
        From `exceedance_levels`.
    """

    def __init__(self, levels: Sequence[Level]) -> None:
        pairs = [(level, stake) for level in levels if level.share < 1 for stake in _STAKES]
        if not pairs:
            raise AsdError(
                "these normal clips are too few for evidence: how often others score higher is not bounded; "
                "build the bank from more normal clips"
            )
        self._scores = np.array([level.score for level, _ in pairs])
        self._shares = np.array([level.share for level, _ in pairs])
        self._stakes = np.array([stake for _, stake in pairs])
        self._capital = np.zeros(len(pairs))

    def add(self, score: float, windows: int = 1) -> float:
        """Take in the next clip's score, or the largest of its windows'.

        Returns
        -------
        float
            The evidence now, from 0; at least so many normal clips lie before it on average.

        Raises
        ------
        AsdError
            If the score is not finite: a clip that was not judged is no evidence.
        """
        if not math.isfinite(score):
            raise AsdError(f"a score of {score}: the clip was not judged, leave it out")
        self._capital = np.minimum((self._capital + 1) * self.factors(score, windows), 1e300)
        return self.value

    def factors(self, score: float, windows: int = 1) -> Floats:
        """Return the factor of each bet's capital at a score, (levels x stakes,)."""
        shares = np.minimum(1.0, windows * self._shares)
        return 1 - self._stakes + np.where(score >= self._scores, self._stakes / shares, 0.0)

    @property
    def value(self) -> float:
        """Current evidence: the mean capital."""
        return float(self._capital.mean())

    def reset(self) -> None:
        """Start again from no evidence."""
        self._capital[:] = 0

    def state(self) -> list[float]:
        """Return the state that `restore` takes; it survives a JSON file without loss."""
        return [float(value) for value in self._capital]

    def restore(self, state: Sequence[float]) -> None:
        """Continue from a state of the same levels.

        Raises
        ------
        AsdError
            If it is of other levels, or not numbers from 0.
        """
        values = np.asarray(state, dtype=np.float64)
        if values.shape != self._capital.shape or not (np.isfinite(values) & (values >= 0)).all():
            raise AsdError(
                f"a state of {values.size} numbers does not fit {self._capital.size} capitals: it is of "
                "another bank; begin anew"
            )
        self._capital = values.copy()

    def clips_to(self, limit: float, windows: int = 1) -> int:
        """Count the clips, all above every level, from no evidence to a limit: the least delay."""
        capital, factors = np.zeros_like(self._capital), self.factors(math.inf, windows)
        for clips in range(1, 100_000):
            capital = np.minimum((capital + 1) * factors, 1e300)
            if capital.mean() >= limit:
                return clips
        raise AsdError(
            f"a limit of {limit:g} clips is out of reach of this bank: build it from more normal clips"
        )
