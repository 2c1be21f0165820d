"""Mahalanobis distance to the normal clips of the nearer domain."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.base.options import option
from cache.table import DOMAINS
from index.covariance import Covariance, fit_covariance
from index.domains import DomainScorer, TrainingSet
from index.knn import check_finite
from index.scorer import State


@dataclass
class Mahalanobis(DomainScorer):
    """``min(m_s, m_t)``, m the Mahalanobis distance to a domain's mean under its own covariance.

    Each covariance is shrunk towards a multiple of the identity by Ledoit and Wolf (2004), which
    makes one of ten target clips usable and one of more values than clips invertible. A domain of
    one clip takes the other's covariance about its own mean; a single clip in all, the identity.
    Training scores are left out in closed form with the shrinkage kept.

    The nearest clips that explain a score are the nearest by Euclidean distance.
    """

    shrinkage: str = option("auto", "of the covariances: auto (Ledoit-Wolf) or a number in (0, 1]")

    def learn(self, training: TrainingSet) -> None:
        """Fit a covariance to each domain."""
        amount = self._amount()
        self._covariances = {
            domain: fit_covariance(training.vectors[rows], amount) for domain, rows in training.rows.items()
        }
        largest = max(self._covariances.values(), key=lambda covariance: covariance.count)
        for domain, own in self._covariances.items():
            if own.count == 1:
                borrowed = vars(largest) | {"mean": own.mean, "count": 1}
                self._covariances[domain] = Covariance(**borrowed)

    def distances(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Mahalanobis distances to both means; see `DomainScorer.distances`."""
        check_finite(vectors, "query")
        distances = np.full((len(vectors), len(DOMAINS)), np.inf)
        for domain, covariance in self._covariances.items():
            distances[:, DOMAINS.index(domain)] = np.sqrt(covariance.squared(vectors))
        return distances

    def leave_one_out(self, training: TrainingSet, domain: str) -> NDArray[np.float64]:
        """Distances to means and covariances without the clip itself."""
        vectors = training.vectors[training.left_out(domain)]
        distances = self.distances(vectors)
        own = self._covariances[domain]
        left_out = np.sqrt(own.squared_left_out(vectors)) if own.count > 1 else np.inf
        distances[:, DOMAINS.index(domain)] = left_out
        return distances

    def state(self) -> State:
        """Add the covariances; see `Scorer.state`."""
        state = super().state()
        for domain, covariance in self._covariances.items():
            state |= {f"{domain}.{name}": np.asarray(v) for name, v in vars(covariance).items()}
        return state

    def restore(self, state: State) -> None:
        """Take back what `state` gave."""
        super().restore(state)
        names = [item.name for item in fields(Covariance)]
        self._covariances = {}
        for domain in self._memories:
            mean, axes, variances, *numbers = (np.asarray(state[f"{domain}.{n}"]) for n in names)
            shrinkage, level, count = (number.item() for number in numbers)
            self._covariances[domain] = Covariance(mean, axes, variances, shrinkage, level, count)

    def _amount(self) -> float | None:
        if self.shrinkage == "auto":
            return None
        try:
            amount = float(self.shrinkage)
        except ValueError:
            amount = 0.0
        if not 0 < amount <= 1:
            raise AsdError(f"--shrinkage {self.shrinkage!r}: expected auto or a number in (0, 1]")
        return amount


SCORER = Mahalanobis
