"""Distances less what is usual inside each domain, in units of the target's spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.neighbours import NeighbourScorer


@dataclass
class DomainZTrain(NeighbourScorer):
    """``min((d_s - mu_s) / sigma_t, (d_t - mu_t) / sigma_t)``.

    mu is the mean of the leave-one-out distances of a domain's training clips to their own domain,
    sigma_t their standard deviation in the target. A domain of one clip takes the other's mean; a
    target that has no spread (one clip, duplicates) takes the source's, and 1 where neither has
    one.
    """

    def calibrate(
        self, own: Mapping[str, NDArray[np.float64]]
    ) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """Take the mean of each domain as offset, the target's deviation as scale."""
        means = {domain: float(d.mean()) for domain, d in own.items() if d.size}
        usual = next(iter(means.values()), 0.0)
        spreads = [float(own[d].std()) for d in ("target", "source") if d in own and own[d].size]
        scale = next((spread for spread in spreads if spread > 0), 1.0)
        return {domain: means.get(domain, usual) for domain in own}, dict.fromkeys(own, scale)


SCORER = DomainZTrain
