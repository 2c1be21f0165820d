"""From what the autoencoder left over to scores, and how these are judged: arrays alone, no torch.

Residuals of a clip are ``e = psi - r(psi)``, (T, 5, 128): T vectors psi of five frames of 128 mel
bands, D = 640 values each. Equations are those of Dohi et al. 2023, "Description and discussion on
DCASE 2023 Challenge Task 2" (arXiv 2305.07828).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.facts import usual
from cache.table import EmbeddingTable, Section, domain_or_source
from extractors.clips.clip import Clip
from index.calibration import Calibration, folds_of
from index.covariance import Covariance, fit_streamed
from index.fitted import JudgedSection
from index.groups import group_clips
from index.request import ThresholdOptions
from index.threshold import ENOUGH, Threshold, fit_threshold

Floats = NDArray[np.float64]
Residuals = NDArray[np.float32]  # (T, 5, 128)
Clips = Callable[[], Iterator[Residuals]]  # gives the residuals of the same clips at every call

MAIN = -1  # in the place of a fold: the network that scores


def mean_square(residuals: Residuals) -> float:
    """Eq. (5): ``1/(D T) sum_t |psi_t - r(psi_t)|^2``."""
    return float(np.square(residuals, dtype=np.float64).mean())


def frame_distances(residuals: Residuals, covariance: Covariance) -> Floats:
    """``1/D`` of eqs. (7) and (8), (T,): a vector's distance is the sum over its five frames.

    Under the covariance of the mel bands, so that a vector of training clips has 1 on average.
    """
    vectors, stack, bands = residuals.shape
    found = covariance.squared_length(_rows(residuals)).reshape(vectors, stack)
    return np.asarray(found.sum(axis=1) / (stack * bands))


def clip_distance(residuals: Residuals, covariance: Covariance) -> Floats:
    """``d' S^-1 d``, (1,), d (128,) the mean residual over all frames of the clip."""
    return covariance.squared_length(_rows(residuals).mean(axis=0, keepdims=True))


_DISTANCES = {"frames": frame_distances, "clip": clip_distance}


def fit_covariance(clips: Clips, shrinkage: float | None) -> Covariance:
    """Fit the covariance of one domain's residuals, a variable a mel band.

    Every frame of every vector is an observation; about no mean: a residual is its own offset.

    Parameters
    ----------
    clips
        Residuals of the training clips.
    shrinkage
        In [0, 1]; ``None`` for what the clips suggest, see `index.covariance.fit_streamed`.

    Raises
    ------
    AsdError
        If the matrix cannot be inverted.
    """
    fitted = fit_streamed(lambda: map(_rows, clips()), shrinkage)
    if fitted.singular:
        raise AsdError(
            f"the covariance of {fitted.count} residuals of {len(fitted.mean)} bands cannot be inverted; "
            "give --shrinkage auto or a number above 0"
        )
    return fitted


@dataclass(frozen=True)
class ResidualScorer:
    """Scores of a section's clips.

    Attributes
    ----------
    form
        ``mse``, ``frames`` or ``clip``.
    covariances
        Domain to that of its residuals: of one domain or both. Where a section has no clips of one,
        the other decides alone.
    """

    form: str
    covariances: Mapping[str, Covariance]

    def score(self, residuals: Residuals) -> tuple[float, str]:
        """Score a clip, and name the domain whose distance it is; none of ``mse``.

        ``frames`` is eq. (6) as printed, ``1/(D T) sum_t min(D_s(psi_t), D_t(psi_t))``, and named is
        the domain that the whole clip is nearer to; ``clip`` is ``min(d' S_s^-1 d, d' S_t^-1 d)``.
        """
        if self.form == "mse":
            return mean_square(residuals), ""
        measure = _DISTANCES[self.form]
        found = np.array([measure(residuals, own) for own in self.covariances.values()])
        nearer = int(found.sum(axis=1).argmin())
        return float(found.min(axis=0).mean()), list(self.covariances)[nearer]


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

    def fit(self, section: Section, domains: Mapping[str, Clips]) -> ResidualScorer:
        """Learn from a section's training clips.

        Parameters
        ----------
        section
            Named where that fails.
        domains
            Domain to the residuals of its training clips, one domain or more.

        Raises
        ------
        AsdError
            If a covariance cannot be inverted.
        """
        if self.mode == "mse":
            return ResidualScorer("mse", {})
        covariances = {}
        for domain, clips in domains.items():
            try:
                covariances[domain] = fit_covariance(clips, self.shrinkage)
            except AsdError as error:
                raise AsdError(f"{section}, {domain}: {error}") from error
        return ResidualScorer(self.form, covariances)


@dataclass(frozen=True, eq=False)
class ThresholdPlan:
    """Which training clips of a section are scored unseen to learn its threshold, and by what.

    Attributes
    ----------
    judged
        What is known of the section before any clip is scored.
    rows
        (n,) the clips, as places in the machine's training clips.
    groups
        (n,) the group that each is left out with.
    folds
        (n,) the fold whose network does not know it; `MAIN` where the network that scores does not.
    """

    judged: JudgedSection
    rows: NDArray[np.intp]
    groups: NDArray[np.intp]
    folds: NDArray[np.intp]

    def learn(self, scores: Floats) -> JudgedSection:
        """Learn the threshold from the (n,) scores."""
        asked, known = self.judged.threshold, self.judged.calibration
        return replace(
            self.judged,
            threshold=fit_threshold(scores, asked.method, asked.percentile, self.groups),
            calibration=replace(known, scores=scores, groups=self.groups),
        )


def plan_threshold(
    table: EmbeddingTable,
    rows: NDArray[np.intp],
    held: Collection[int],
    limits: ThresholdOptions,
    folds: int,
) -> ThresholdPlan:
    """Choose the clips from which a section's threshold is learnt.

    Clips recorded together are left out together, as `index.calibration.calibrate` does it, in
    folds, each of which takes a training of its own. Where every clip is its own group and enough
    were not trained on, these serve.

    Parameters
    ----------
    table
        (N, 128) the section's training clips, by which they are grouped.
    rows
        (N,) their places in the machine's training clips.
    held
        Places of those that the network is not trained on.
    limits, folds
        How the threshold is learnt, and in how many folds.

    Raises
    ------
    AsdError
        If clips cannot be grouped so, or cannot show false alarms as rare as asked for.
    """
    groups = group_clips(table, limits.group)
    own = np.flatnonzero([row in held for row in rows.tolist()])
    alone = groups.count == len(table) and len(own) >= ENOUGH
    if alone or groups.count == 1:
        rows, numbers, fold = rows[own], groups.numbers[own], np.full(len(own), MAIN)
    else:
        numbers = groups.numbers
        fold = folds_of(numbers, np.array([key.domain == "target" for key in table.keys]), folds)
    judged = JudgedSection(
        section=table.section,
        threshold=Threshold(np.inf, limits.threshold, limits.asked_percentile()),
        clips=Counter(key.domain or "unknown" for key in table.keys),
        usual=usual(key.facts for key in table.keys),
        calibration=Calibration(limits.group, groups.told, len(np.unique(numbers))),
    )
    if limits.false_alarms is not None:
        judged.check_supported(limits.false_alarms)
    return ThresholdPlan(judged, rows, numbers, fold)


def hold_out(clips: Sequence[Clip], seed: int) -> set[int]:
    """Choose the training clips that the network is not trained on.

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


def _rows(residuals: Residuals) -> Floats:
    return residuals.reshape(-1, residuals.shape[-1]).astype(np.float64)
