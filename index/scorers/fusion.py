"""Scores of several scorers or backbones, each in units of its own training scores."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cache.options import option
from cache.table import EmbeddingTable
from index.composite import CompositeScorer
from index.space import backbones


@dataclass
class Fusion(CompositeScorer):
    """Mean or minimum of the members' z-scores, ``z = (s - mean) / std`` of training scores.

    The means and deviations are of each member's own leave-one-out training scores, so no test clip
    and no label is needed. A member whose training scores do not vary is only centred.

    The default scorer, for two reasons: published, z-normalised fusion of such members beat every
    single back-end on frozen BEATs over the seven machines of the 2023 development set, where none
    of them won everywhere (arXiv 2606.19269, which takes the minimum); measured, the mean of these
    three is first or second in most tables of ``benchmarks/scorers.md``, the default table and the
    best concatenations among them, where the minimum falls behind it.
    """

    over: str = option(
        "min-distance,mahalanobis,ldn", "member scorers, name[:option=value...], comma between"
    )
    by: Literal["all", "backbone"] = option(
        "all", "each member sees all columns, or is fitted to each backbone's columns"
    )
    merging: Literal["mean", "min"] = option("mean", "of the members' z-scores")

    def members(self) -> list[str]:
        """List the texts of the member scorers."""
        return [text.strip() for text in self.over.split(",")]

    def parts(self, table: EmbeddingTable) -> list[tuple[str, str, list[str]]]:
        """One part a member, or one a member and backbone."""
        if self.by == "all":
            return [(text, text, list(table.blocks)) for text in self.members()]
        owned = {
            owner: [name for name in table.blocks if name.partition("/")[0] == owner]
            for owner in backbones(table)
        }
        pairs = product(self.members(), owned.items())
        return [(f"{text} {owner}", text, blocks) for text, (owner, blocks) in pairs]

    def merge(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Minimum or mean of the z-scores."""
        z = self.standardised(scores)
        return np.asarray(z.min(axis=0) if self.merging == "min" else z.mean(axis=0))

    def deciding(self, standardised: NDArray[np.float64]) -> NDArray[np.intp]:
        """Name the member that gave the minimum, or the highest one of a mean."""
        return np.asarray(
            (standardised if self.merging == "mean" else -standardised).argmax(axis=0)
        )


SCORER = Fusion
