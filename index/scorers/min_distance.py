"""Smallest distance to a normal training clip of either domain: the mission's own score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.domains import DomainScorer


@dataclass
class MinDistance(DomainScorer):
    """``min(d_s, d_t)``; the options are those of `DomainScorer`.

    Standardising is the default because distances between unscaled embeddings are ruled by the few
    values that vary most, whether or not they tell a machine's state.
    """

    def calibrate(
        self, own: Mapping[str, NDArray[np.float64]]
    ) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """Leave distances as they are."""
        return dict.fromkeys(own, 0.0), dict.fromkeys(own, 1.0)


SCORER = MinDistance
