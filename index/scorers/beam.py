"""One memory a band, scores averaged (BEAM)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache.base.options import option
from cache.table import EmbeddingTable
from index.composite import CompositeScorer, Part, weighted_sum


@dataclass
class Beam(CompositeScorer):
    """``mean_f min_y D(x_f, y_f)`` over the blocks f of a table, with any scorer for the minimum.

    Extract with ``--bands keep``: each band is a block then. A table of one block gives the inner
    scorer's own scores.
    """

    inside: str = option("min-distance", "scorer of a band, name[:option=value...]")

    def members(self) -> list[str]:
        """Name the scorer inside."""
        return [self.inside]

    def parts(self, table: EmbeddingTable) -> list[Part]:
        """One part a block."""
        return [Part(name, self.inside, [name]) for name in table.blocks]

    def merge(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean over the blocks."""
        return weighted_sum(scores, np.full(len(scores), 1 / len(scores)))


SCORER = Beam
