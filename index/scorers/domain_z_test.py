"""Distances to each domain, z-scored over the test clips themselves: transductive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from index.neighbours import NeighbourScorer
from index.scorer import Neighbours


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


SCORER = DomainZTest
