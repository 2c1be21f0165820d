"""Smallest distance to a normal training clip of either domain: the mission's own score."""

from __future__ import annotations

from dataclasses import dataclass

from index.neighbours import NeighbourScorer


@dataclass
class MinDistance(NeighbourScorer):
    """``min(d_s, d_t)``.

    Standardising is the default because distances between unscaled embeddings are ruled by the few
    values that vary most, whether or not they tell a machine's state.
    """


SCORER = MinDistance
