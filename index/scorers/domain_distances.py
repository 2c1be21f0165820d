"""Smallest distances to the domains: as they are, and in units of what is usual inside each domain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from index.domains import NeighbourScorer, usual_distances
from index.scorer import Neighbours


@dataclass
class MinDistance(NeighbourScorer):
    """``min(d_s, d_t)``.

    Standardising is the default because distances between unscaled embeddings are ruled by the few
    values that vary most, whether or not they tell a machine's state.
    """


@dataclass
class DomainScale(NeighbourScorer):
    """``min(d_s / m_s, d_t / m_t)``, m the median leave-one-out distance inside the domain.

    The few target clips lie further apart than the many source clips, so raw distances call target
    clips anomalous. A domain whose median is zero or unknown (one clip, or duplicates) takes the
    other's; where neither has one, distances stay as they are.
    """

    def calibrate(self) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """Scale by the median leave-one-out distance of each domain."""
        return {}, usual_distances(self.inside())


@dataclass
class DomainZTrain(NeighbourScorer):
    """``min((d_s - mu_s) / sigma_t, (d_t - mu_t) / sigma_t)``.

    mu is the mean of the leave-one-out distances of a domain's training clips to their own domain,
    sigma_t their standard deviation in the target. A domain of one clip takes the other's mean; a
    target that has no spread (one clip, duplicates) takes the source's, and 1 where neither has
    one.
    """

    def calibrate(self) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """Take the mean of each domain as offset, the target's deviation as scale."""
        own = self.inside()
        means = {domain: float(d.mean()) for domain, d in own.items() if d.size}
        usual = next(iter(means.values()), 0.0)
        spreads = [float(own[d].std()) for d in ("target", "source") if d in own and own[d].size]
        scale = next((spread for spread in spreads if spread > 0), 1.0)
        return {domain: means.get(domain, usual) for domain in own}, dict.fromkeys(own, scale)


@dataclass
class DomainZTest(NeighbourScorer):
    """``min(z_s, z_t)``, ``z_d = (d - mean) / std`` over the clips scored together (GenRep).

    Transductive: a clip's score depends on the other clips of the call, which the challenge's
    rules of 2025 forbid, so a single clip is refused. Training scores are z-scored over the
    left-out training clips in the same way. A domain whose distances do not vary gives 0.
    """

    transductive: ClassVar[bool] = True

    def combine(self, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        """Z-score each domain's distances over the (Q, 2) given."""
        values = np.full(distances.shape, np.inf)
        for column in range(distances.shape[1]):
            known = np.isfinite(distances[:, column])
            some = distances[known, column]
            if some.size:
                values[known, column] = (some - some.mean()) / (some.std() or 1.0)
        return values

    def score(self, queries: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score (Q, D) embeddings, Q >= 2: (Q,).

        Raises
        ------
        AsdError
            If there are fewer than two clips.
        """
        self._check_several(queries)
        return super().score(queries)

    def explain(self, queries: NDArray[np.float32]) -> Neighbours:
        """Score and explain two clips or more; see `Scorer.explain`."""
        self._check_several(queries)
        return super().explain(queries)

    def _check_several(self, queries: NDArray[np.float32]) -> None:
        if len(queries) < 2:
            raise AsdError(
                f"{len(queries)} clips to score, but this scorer is transductive: it uses the mean "
                "and spread of the clips scored together; score a set, or choose another scorer"
            )


CHOICES = {
    "domain-scale": DomainScale,
    "domain-z-test": DomainZTest,
    "domain-z-train": DomainZTrain,
    "min-distance": MinDistance,
}
