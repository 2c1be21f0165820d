"""Distances to the training clips of both domains: what most scorers share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from cache.table import DOMAINS, EmbeddingTable
from index.knn import Nearest, NearestNeighbours
from index.options import option
from index.scorer import Neighbours, State
from index.space import Metric, Space, fit_space

_LEFT_OUT = 4096  # training clips a domain that are scored by leave-one-out at most


@dataclass(frozen=True)
class Memory:
    """The training clips of one domain.

    Attributes
    ----------
    neighbours
        Their vectors, in the scorer's space.
    clip_ids
        (n,) their ids.
    """

    neighbours: NearestNeighbours
    clip_ids: NDArray[np.str_]


@dataclass
class DomainScorer(ABC):
    """Smallest normalised distance to the source and the target training clips.

    ``min((d_s - offset_s) / scale_s, (d_t - offset_t) / scale_t)``, where d is the mean distance
    to the k nearest training clips of a domain (to all of them where it has fewer). A subclass
    says what offset and scale are. A domain without training clips does not take part; training
    clips of unknown domain count as source.
    """

    transductive: ClassVar[bool] = False

    metric: Metric = option("euclidean", "distance between embeddings")
    k: int = option(1, "nearest training clips averaged, per domain", least=1)
    standardise: bool = option(
        True, "divide each value by its standard deviation over the section's training clips"
    )

    @abstractmethod
    def calibrate(
        self, own: Mapping[str, NDArray[np.float64]]
    ) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """Choose offset and scale.

        Parameters
        ----------
        own
            Domain to the leave-one-out distances of its training clips to their own domain, (n,);
            empty where a domain has fewer than two.

        Returns
        -------
        offset, scale
            Domain to value, for the domains in `own`; scales are positive.
        """

    def fit(self, reference: EmbeddingTable) -> None:
        """Learn the normal clips of one section; see `Scorer.fit`."""
        self._space = fit_space(reference.embeddings, self.metric, standardise=self.standardise)
        vectors = self._space.apply(reference.embeddings)
        target = reference.domain_rows("target")
        rows = {"source": np.setdiff1d(np.arange(len(reference)), target), "target": target}
        ids = np.array(reference.clip_ids)
        self._memories = {
            domain: Memory(NearestNeighbours(vectors[rows[domain]]), ids[rows[domain]])
            for domain in DOMAINS
            if rows[domain].size
        }
        left_out = {domain: self._leave_one_out(domain) for domain in self._memories}
        own = {domain: d[:, DOMAINS.index(domain)] for domain, d in left_out.items()}
        finite = {domain: d[np.isfinite(d)] for domain, d in own.items()}
        offset, scale = self.calibrate(finite)
        self._offset = np.array([offset.get(domain, 0.0) for domain in DOMAINS])
        self._scale = np.array([scale.get(domain, 1.0) for domain in DOMAINS])
        scores = self._combine(np.concatenate(list(left_out.values())))
        self._train_scores = scores[np.isfinite(scores)]

    def train_scores(self) -> NDArray[np.float64]:
        """Leave-one-out scores of at most 4096 training clips a domain; see `Scorer`."""
        return self._train_scores

    def score(self, queries: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score (Q, D) embeddings: (Q,)."""
        return self._combine(self._distances(self._space.apply(queries)))

    def explain(self, queries: NDArray[np.float32]) -> Neighbours:
        """Name the nearest training clip of each domain; see `Scorer.explain`."""
        clips = {domain: np.full(len(queries), "") for domain in DOMAINS}
        nearest = {domain: np.full(len(queries), np.inf) for domain in DOMAINS}
        distances = np.full((len(queries), len(DOMAINS)), np.inf)
        vectors = self._space.apply(queries)
        for domain, memory in self._memories.items():
            found = memory.neighbours.search(vectors, min(self.k, len(memory.neighbours)))
            clips[domain] = memory.clip_ids[found.rows[:, 0]]
            nearest[domain] = self._space.distance(found.distances[:, 0])
            distances[:, DOMAINS.index(domain)] = self._mean(found)
        decided = self._normalised(distances).argmin(axis=1)
        return Neighbours(
            source_clip=clips["source"],
            source_distance=nearest["source"],
            target_clip=clips["target"],
            target_distance=nearest["target"],
            decided=np.array(DOMAINS)[decided],
        )

    def state(self) -> State:
        """Arrays and indexes of the fitted scorer; see `Scorer.state`."""
        state: State = {
            "centre": self._space.centre,
            "space_scale": self._space.scale,
            "offset": self._offset,
            "scale": self._scale,
            "train_scores": self._train_scores,
        }
        for domain, memory in self._memories.items():
            state |= {domain: memory.neighbours, f"{domain}_clip_ids": memory.clip_ids}
        return state

    def restore(self, state: State) -> None:
        """Take back what `state` gave."""
        arrays = {name: v for name, v in state.items() if not isinstance(v, NearestNeighbours)}
        self._space = Space(self.metric, arrays["centre"], arrays["space_scale"])
        self._offset, self._scale = arrays["offset"], arrays["scale"]
        self._train_scores = arrays["train_scores"]
        self._memories = {
            domain: Memory(cast(NearestNeighbours, state[domain]), arrays[f"{domain}_clip_ids"])
            for domain in DOMAINS
            if domain in state
        }

    def _normalised(self, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((distances - self._offset) / self._scale)

    def _combine(self, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        """(Q, 2) distances to source and target, infinite where there is none, to (Q,) scores."""
        return np.asarray(self._normalised(distances).min(axis=1))

    def _distances(
        self, vectors: NDArray[np.float32], own: tuple[str, NDArray[np.intp]] | None = None
    ) -> NDArray[np.float64]:
        """(Q, 2) mean distance to the k nearest of each domain, leaving own rows of one out."""
        distances = np.full((len(vectors), len(DOMAINS)), np.inf)
        for column, domain in enumerate(DOMAINS):
            if domain not in self._memories:
                continue
            neighbours = self._memories[domain].neighbours
            rows = own[1] if own and own[0] == domain else None
            k = min(self.k, len(neighbours) - (rows is not None))
            if k > 0:
                distances[:, column] = self._mean(neighbours.search(vectors, k, rows))
        return distances

    def _mean(self, found: Nearest) -> NDArray[np.float64]:
        return np.asarray(self._space.distance(found.distances).mean(axis=1))

    def _leave_one_out(self, domain: str) -> NDArray[np.float64]:
        """(n, 2) distances of a domain's training clips to all others, evenly spaced if many."""
        vectors = self._memories[domain].neighbours.vectors
        count = min(len(vectors), _LEFT_OUT)
        rows = np.linspace(0, len(vectors) - 1, count).round().astype(np.intp)
        return self._distances(np.array(vectors[rows]), (domain, rows))
