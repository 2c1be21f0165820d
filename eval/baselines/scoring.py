"""From residuals to a section's scores and threshold: which clips take which part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.table import Section, domain_or_source
from eval.baselines.distances import (
    Clips,
    Residuals,
    clip_score,
    fit_covariance,
    frames_score,
    mean_square,
)
from extractors.clips.listing import Clip
from index.threshold import Threshold, fit_threshold

MODES = ("mse", "mahalanobis")
FORMS = ("frames", "clip")
_PERCENTILE = 90.0  # of the gamma distribution; Dohi et al. 2023, eq. (1)


@dataclass(frozen=True)
class ResidualScoring:
    """How residuals become a score.

    Attributes
    ----------
    mode
        ``mse``, eq. (5), or ``mahalanobis``, the selective one.
    form
        Of the latter: ``frames``, eq. (6) as printed, or ``clip``, as the published table 2.
    shrinkage
        Of its covariances, in [0, 1]; ``None`` for what the clips themselves suggest.
    """

    mode: str
    form: str = "clip"
    shrinkage: float | None = 0.0

    @property
    def title(self) -> str:
        """What tables call it."""
        if self.mode == "mse":
            return "autoencoder, mse"
        amount = "auto" if self.shrinkage is None else f"{self.shrinkage:g}"
        return f"autoencoder, selective Mahalanobis, {self.form}, shrinkage {amount}"

    def fit(self, section: Section, domains: Mapping[str, Clips]) -> Callable[[Residuals], float]:
        """Learn from a section's training clips.

        Parameters
        ----------
        section
            Named where that fails.
        domains
            Domain to the residuals of its training clips, one domain or more.

        Returns
        -------
        Callable
            A clip's residuals to its score.

        Raises
        ------
        AsdError
            If a covariance cannot be inverted.
        """
        if self.mode == "mse":
            return mean_square
        covariances = {}
        for domain, clips in domains.items():
            try:
                covariances[domain] = fit_covariance(clips, self.shrinkage)
            except AsdError as error:
                raise AsdError(f"{section}, {domain}: {error}") from error
        score = frames_score if self.form == "frames" else clip_score
        return lambda residuals: score(residuals, covariances)


@dataclass(frozen=True, eq=False)
class BaselineScores:
    """What a run says of one section's test clips.

    Attributes
    ----------
    section
        Whose.
    clips, hashes
        N test clips, and the SHA-256 of each one's file.
    scores
        (N,) float64, higher is more anomalous.
    decisions
        (N,) 1 for anomalous.
    threshold
        Where normal ends; infinite where no clip was held out to learn it from.
    """

    section: Section
    clips: tuple[Clip, ...]
    hashes: tuple[str, ...]
    scores: NDArray[np.float64]
    decisions: NDArray[np.int64]
    threshold: Threshold


def decide(
    section: Section,
    read: tuple[Sequence[Clip], Sequence[str]],
    scores: Sequence[float],
    held_out: Sequence[float],
) -> BaselineScores:
    """Call test clips anomalous by the scores of clips that were held out from training.

    Parameters
    ----------
    section
        Whose clips.
    read
        N test clips, and the SHA-256 of each one's file.
    scores
        Theirs.
    held_out
        Scores of the training clips held out; may be none.
    """
    threshold = fit_threshold(np.array(held_out, dtype=np.float64), "gamma", _PERCENTILE)
    values = np.array(scores, dtype=np.float64)
    clips, hashes = read
    decisions = threshold.decide(values)
    return BaselineScores(section, tuple(clips), tuple(hashes), values, decisions, threshold)


def hold_out(clips: Sequence[Clip], seed: int) -> set[int]:
    """Choose the training clips that only the threshold sees.

    A tenth of the clips of every section and domain, rounded down; where that is none in a section
    of two clips or more, one of its larger domain. Whole clips: vectors of one clip are so alike
    that those left out would score as those trained on.

    Parameters
    ----------
    clips
        A machine's training clips.
    seed
        Chooses.

    Returns
    -------
    set of int
        Places in `clips`.
    """
    rng = np.random.default_rng(seed)
    chosen: set[int] = set()
    for domains in by_section(clips).values():
        counts = {domain: len(rows) // 10 for domain, rows in domains.items()}
        if not any(counts.values()):
            larger = max(domains, key=lambda domain: len(domains[domain]))
            counts[larger] = int(sum(map(len, domains.values())) > 1)
        for domain, rows in domains.items():
            chosen.update(rng.choice(rows, counts[domain], replace=False).tolist())
    return chosen


def by_section(clips: Sequence[Clip]) -> dict[Section, dict[str, list[int]]]:
    """Section to domain to places in `clips`, sections and domains sorted.

    A training clip of unknown domain counts as source.
    """
    found: dict[Section, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    order = sorted(range(len(clips)), key=lambda i: (clips[i].section, domain_or_source(clips[i].domain)))
    for i in order:
        found[clips[i].section][domain_or_source(clips[i].domain)].append(i)
    return {section: dict(domains) for section, domains in found.items()}
