"""Distances in units of what is usual inside each domain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.neighbours import NeighbourScorer


@dataclass
class DomainScale(NeighbourScorer):
    """``min(d_s / m_s, d_t / m_t)``, m the median leave-one-out distance inside the domain.

    The few target clips lie further apart than the many source clips, so raw distances call target
    clips anomalous. A domain whose median is zero or unknown (one clip, or duplicates) takes the
    other's; where neither has one, distances stay as they are.
    """

    def calibrate(
        self, own: Mapping[str, NDArray[np.float64]]
    ) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """Scale by the median leave-one-out distance of each domain."""
        medians = {domain: float(np.median(d)) for domain, d in own.items() if d.size}
        usable = {domain: median for domain, median in medians.items() if median > 0}
        fallback = next(iter(usable.values()), 1.0)
        return dict.fromkeys(own, 0.0), {domain: usable.get(domain, fallback) for domain in own}


SCORER = DomainScale
