"""Log-distances less the part that local density explains (log-LDN with VarMin)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.densities import Densities
from index.scorer import State
from index.scorers.ldn import Ldn


@dataclass
class VarMin(Ldn):
    """``min_y (log D(x, y) - alpha b_y)``, b_y the log density of training clip y.

    ``alpha = Cov(d, b) / Var(b)`` over the training clips, each left out: d the log-distance to its
    nearest other clip, b the log density there without itself; this alpha leaves the training
    scores the least variance (arXiv 2603.04605). It is 0 where densities do not vary and at least
    0, which keeps dense regions from being favoured. A distance of 0 between training clips counts
    as the smallest density above 0; scores end at the logarithm of a thousandth of what that would
    give.
    """

    def prepare(self, densities: Densities) -> None:
        """Choose alpha."""
        distance, density = (np.log(values) for values in densities.nearest_pairs())
        spread = float(density.var()) if density.size else 0.0
        covariance = float(np.mean((distance - distance.mean()) * density)) if spread else 0.0
        self._alpha = max(0.0, covariance / spread) if spread > 1e-20 else 0.0
        self._floor = 1e-3 * densities.smallest * float(self.gain(np.array([densities.largest]))[0])

    def gain(self, density: NDArray[np.float64]) -> NDArray[np.float64]:
        """Factor of the distance whose logarithm is ``-alpha b``."""
        return np.asarray(density**-self._alpha)

    def combine(self, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logarithms of normalised distances; infinity stays."""
        return np.log(np.maximum(distances, self._floor))

    def state(self) -> State:
        """Add alpha; see `Scorer.state`."""
        return super().state() | {"alpha": np.array([self._alpha, self._floor])}

    def restore(self, state: State) -> None:
        """Take back what `state` gave."""
        super().restore(state)
        self._alpha, self._floor = (float(value) for value in np.asarray(state["alpha"]))


SCORER = VarMin
