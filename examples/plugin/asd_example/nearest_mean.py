"""A scorer: how far a clip lies from the mean of the nearer domain's training clips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cache.base.options import option
from cache.table import EmbeddingTable
from index.scorer import Neighbours, State

_DOMAINS = ("source", "target")


@dataclass
class NearestMean:
    """``min over domains of |x - mean|_p``; a clip of unknown domain counts as source."""

    power: float = option(2.0, "p of the distance", least=1, most=10)

    transductive: ClassVar[bool] = False

    def fit(self, reference: EmbeddingTable) -> None:
        """Learn the mean of each domain, and each clip's distance to the mean of the others."""
        self._means = np.full((2, reference.embeddings.shape[1]), np.inf)
        self._clips = ["", ""]
        left_out = []
        domains = np.array([key.domain == "target" for key in reference.keys], dtype=int)
        for number in (0, 1):
            own = reference.embeddings[domains == number].astype(np.float64)
            if not len(own):
                continue
            self._means[number] = own.mean(0)
            ids = np.array(reference.clip_ids)[domains == number]
            self._clips[number] = str(ids[self._norm(own - own.mean(0)).argmin()])
            if len(own) > 1:  # the mean of the others lies n / (n - 1) times as far away
                left_out.append(self._norm(own - own.mean(0)) * len(own) / (len(own) - 1))
        self._left_out = np.concatenate(left_out) if left_out else np.empty(0)

    def train_scores(self) -> NDArray[np.float64]:
        """Distances of training clips to the mean of the others of their domain."""
        return self._left_out

    def score(self, queries: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score (Q, D) embeddings: (Q,)."""
        return np.asarray(self._distances(queries).min(0))

    def explain(self, queries: NDArray[np.float32]) -> Neighbours:
        """Name the training clip next to each domain's mean."""
        source, target = self._distances(queries)
        clips = [np.full(len(queries), clip) for clip in self._clips]
        decided = np.where(target < source, *reversed(_DOMAINS))
        return Neighbours(
            clips[0],
            source,
            clips[1],
            target,
            decided,
            np.full(len(queries), ""),
        )

    def state(self) -> State:
        """Everything that scoring needs."""
        clips = np.array(self._clips, dtype=np.str_)
        return {"means": self._means, "clips": clips, "left_out": self._left_out}

    def restore(self, state: State) -> None:
        """Take back what `state` gave."""
        self._means, self._left_out = np.asarray(state["means"]), np.asarray(state["left_out"])
        self._clips = [str(clip) for clip in np.asarray(state["clips"])]

    def _distances(self, queries: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.stack([self._norm(queries - mean) for mean in self._means])

    def _norm(self, differences: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((np.abs(differences) ** self.power).sum(1) ** (1 / self.power))


SCORER = NearestMean
