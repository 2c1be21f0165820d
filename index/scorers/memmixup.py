"""A target memory enlarged by mixtures with the nearest source clips (GenRep)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cache.base.options import option
from index.domains import Memory, TrainingSet
from index.knn import NearestNeighbours
from index.neighbours import NeighbourScorer


@dataclass
class MemMixup(NeighbourScorer):
    """``min(d_s, d_t)`` with ``share * t + (1 - share) * s`` added to the target memory.

    Every target clip t is mixed with each of its `mixes` nearest source clips s (with all where
    there are fewer); without source or target clips nothing is added. A left-out clip takes its
    mixtures with it. A mixture is explained by its target clip.
    """

    mixes: int = option(990, "source clips mixed with each target clip, K_s", least=0)
    share: float = option(0.9, "of the target clip in a mixture, lambda", least=0.0, most=1.0)

    def memories(self, training: TrainingSet) -> dict[str, Memory]:
        """Remember clips, and mixtures beside the target's."""
        plain = super().memories(training)
        count = min(self.mixes, len(training.rows.get("source", ())))
        if not count or "target" not in plain:
            return plain
        source, target = training.rows["source"], training.rows["target"]
        vectors = training.vectors
        near = source[NearestNeighbours(vectors[source]).search(vectors[target], count).rows]
        made = self.share * vectors[target][:, None] + (1 - self.share) * vectors[near]  # (t, K, D)
        parents = np.stack([np.broadcast_to(target[:, None], near.shape), near], axis=-1)
        parents = parents.reshape(-1, 2)
        own = np.column_stack([target, np.full(len(target), -1)])
        every = np.concatenate([vectors[target], made.reshape(len(parents), -1)])
        together = np.concatenate([own, parents])
        clip_ids = training.clip_ids[together[:, 0]]
        return plain | {"target": Memory(self._neighbours(every.astype(np.float32)), clip_ids, together)}


SCORER = MemMixup
