"""Two domains, one score: what the scorers share, and distances to nearest neighbours."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from cache.base.options import option
from cache.table import DOMAINS, EmbeddingTable, domain_or_source
from index.knn import Nearest, NearestNeighbours, SearchKind
from index.scorer import Neighbours, State
from index.space import Metric, Space, SpaceOptions, restored

_LEFT_OUT = 4096  # training clips a domain that are scored by leave-one-out at most


@dataclass(frozen=True)
class TrainingSet:
    """The training clips of a section in the scorer's space.

    Attributes
    ----------
    vectors
        (N, D) float32.
    rows
        Domain to its rows; only domains that have clips. Clips of unknown domain are source.
    clip_ids
        (N,).
    """

    vectors: NDArray[np.float32]
    rows: Mapping[str, NDArray[np.intp]]
    clip_ids: NDArray[np.str_]

    def without(self, left_out: NDArray[np.intp]) -> TrainingSet:
        """Return the set less some rows; the vectors keep their places."""
        kept = {d: np.setdiff1d(rows, left_out) for d, rows in self.rows.items()}
        rows = {domain: rows for domain, rows in kept.items() if rows.size}
        return TrainingSet(self.vectors, rows, self.clip_ids)

    def left_out(self, domain: str) -> NDArray[np.intp]:
        """Rows of a domain to leave out one by one: all, or 4096 evenly spaced ones."""
        rows = self.rows[domain]
        places = np.linspace(0, len(rows) - 1, min(len(rows), _LEFT_OUT))
        return rows[places.round().astype(np.intp)]


@dataclass(frozen=True)
class Memory:
    """What a scorer remembers of one domain.

    Attributes
    ----------
    neighbours
        M vectors in the scorer's space: the training clips and, for some scorers, others made of
        them.
    clip_ids
        (M,) the training clip that each vector is or comes nearest to.
    parents
        (M, P) rows of the training set that each vector is made of, padded with -1; empty once
        the scorer is fitted.
    """

    neighbours: NearestNeighbours
    clip_ids: NDArray[np.str_]
    parents: NDArray[np.intp]

    def made_of(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """(n, E) vectors that have each training row for a parent, padded with -1."""
        order = np.argsort(self.parents, axis=None, kind="stable")
        parents = self.parents.ravel()[order]
        first, last = np.searchsorted(parents, rows, "left"), np.searchsorted(parents, rows, "right")
        made = np.full((len(rows), max(1, int((last - first).max(initial=0)))), -1)
        for place, (start, stop) in enumerate(zip(first, last, strict=True)):
            made[place, : stop - start] = order[start:stop] // self.parents.shape[1]
        return made


def remember(
    training: TrainingSet, rows: NDArray[np.intp], search: SearchKind = "exact", recall: float = 1.0
) -> Memory:
    """Remember training clips as they are."""
    clips = NearestNeighbours(training.vectors[rows], search, recall)
    return Memory(clips, training.clip_ids[rows], rows[:, None])


@dataclass
class DomainScorer(SpaceOptions, ABC):
    """``min((d_s - offset_s) / scale_s, (d_t - offset_t) / scale_t)``.

    A subclass says what the distances d to a domain are, and may say offset and scale. A domain
    without training clips does not take part; training clips of unknown domain count as source.
    """

    transductive: ClassVar[bool] = False

    search: SearchKind = option(
        "auto", "exact, by an inverted file, or inverted above 200,000 training clips a domain"
    )
    recall: float = option(
        0.99, "least recall@1 of an inverted file, measured when built", least=0.0, most=1.0
    )

    @abstractmethod
    def learn(self, training: TrainingSet) -> None:
        """Learn what `distances` needs, beside the memories."""

    @abstractmethod
    def distances(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """(Q, D) vectors to (Q, 2) distances to source and target, infinite where there is none."""

    @abstractmethod
    def leave_one_out(self, training: TrainingSet, domain: str) -> NDArray[np.float64]:
        """(n, 2) distances of ``training.left_out(domain)``, each without itself."""

    def distances_and_nearest(
        self, vectors: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], dict[str, Nearest]]:
        """`distances`, and the remembered vectors nearest to each, nearest first, by domain."""
        found = {d: memory.neighbours.search(vectors, 1) for d, memory in self._memories.items()}
        return self.distances(vectors), found

    def memories(self, training: TrainingSet) -> dict[str, Memory]:
        """Remember each domain's clips as they are, unless a subclass adds to it."""
        return {
            domain: remember(training, rows, self.search, self.recall)
            for domain, rows in training.rows.items()
        }

    def calibrate(self) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """Choose offset and scale, of `inside` for instance; 0 and 1 unless a subclass says otherwise.

        Returns
        -------
        offset, scale
            Domain to value, 0 and 1 for one that is not named; scales are positive.
        """
        return {}, {}

    def inside(self) -> dict[str, NDArray[np.float64]]:
        """Domain to the leave-one-out distances of its training clips to their own domain, (n,).

        Empty where a domain has fewer than two.
        """
        own = {domain: d[:, DOMAINS.index(domain)] for domain, d in self._left_out.items()}
        return {domain: d[np.isfinite(d)] for domain, d in own.items()}

    def combine(self, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        """(Q, 2) distances to (Q, 2) values of which the smallest is the score."""
        return np.asarray((distances - self._offset) / self._scale)

    def fit(self, reference: EmbeddingTable) -> None:
        """Learn the normal clips of one section; see `Scorer.fit`."""
        self._space = self.fit_space(reference, self._metric)
        for name in ("_left_out", "_train_scores"):
            vars(self).pop(name, None)  # of an earlier fit
        self._training = training_set(reference, self._space)
        self._memories = self.memories(self._training)
        self.learn(self._training)
        offset, scale = self.calibrate()
        self._offset = np.array([offset.get(domain, 0.0) for domain in DOMAINS])
        self._scale = np.array([scale.get(domain, 1.0) for domain in DOMAINS])

    def train_scores(self) -> NDArray[np.float64]:
        """Leave-one-out scores of at most 4096 training clips a domain; see `Scorer`."""
        return self._train_scores

    def score(self, queries: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score (Q, D) embeddings: (Q,)."""
        distances = self.distances(self._space.apply(queries))
        return np.asarray(self.combine(distances).min(axis=1, initial=np.inf))

    def explain(self, queries: NDArray[np.float32]) -> Neighbours:
        """Score, and name the nearest training clip of each domain; see `Scorer.explain`."""
        distances, found = self.distances_and_nearest(self._space.apply(queries))
        values = self.combine(distances)
        clips = {domain: np.full(len(queries), "") for domain in DOMAINS}
        nearest = {domain: np.full(len(queries), np.inf) for domain in DOMAINS}
        for domain, near in found.items():
            clips[domain] = self._memories[domain].clip_ids[near.rows[:, 0]]
            nearest[domain] = self._space.distance(near.distances[:, 0])
        return Neighbours(
            source_clip=clips["source"],
            source_distance=nearest["source"],
            target_clip=clips["target"],
            target_distance=nearest["target"],
            decided=np.array(DOMAINS)[values.argmin(axis=1)],
            part=np.full(len(queries), ""),
            score=np.asarray(values.min(axis=1, initial=np.inf)),
        )

    def state(self) -> State:
        """Arrays and indexes of the fitted scorer; see `Scorer.state`."""
        state: State = {
            **self._space.state(),
            "offset": self._offset,
            "scale": self._scale,
            "train_scores": self._train_scores,
        }
        for domain, memory in self._memories.items():
            state |= {domain: memory.neighbours, f"{domain}.clip_ids": memory.clip_ids}
        return state

    def restore(self, state: State) -> None:
        """Take back what `state` gave."""
        arrays = cast(dict[str, NDArray[Any]], state)
        self._space = restored(self._metric, arrays)
        self._offset, self._scale = arrays["offset"], arrays["scale"]
        self._train_scores = arrays["train_scores"]
        nobody = np.empty((0, 1), dtype=np.intp)
        self._memories = {
            domain: Memory(cast(NearestNeighbours, state[domain]), arrays[f"{domain}.clip_ids"], nobody)
            for domain in DOMAINS
            if domain in state
        }

    @cached_property
    def _left_out(self) -> dict[str, NDArray[np.float64]]:
        """`leave_one_out` of each domain, when first asked for: most scorers of a fold never are."""
        left_out = {domain: self.leave_one_out(self._training, domain) for domain in self._training.rows}
        del self._training  # its vectors are needed no more
        return left_out

    @cached_property
    def _train_scores(self) -> NDArray[np.float64]:
        together = np.concatenate(list(self._left_out.values()))
        known = together[np.isfinite(together).any(axis=1)]
        return self.combine(known).min(axis=1) if len(known) else np.empty(0)

    @property
    def _metric(self) -> Metric:
        return cast(Metric, getattr(self, "metric", "euclidean"))


def usual_distances(own: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """Take the median distance inside each domain as its unit.

    Parameters
    ----------
    own
        Domain to the leave-one-out distances of its training clips to their own domain, (n,).

    Returns
    -------
    dict
        A domain whose median is zero or unknown (one clip, or duplicates) has the other's, and 1
        where neither has one.
    """
    medians = {domain: float(np.median(distances)) for domain, distances in own.items() if distances.size}
    usable = {domain: median for domain, median in medians.items() if median > 0}
    fallback = next(iter(usable.values()), 1.0)
    return {domain: usable.get(domain, fallback) for domain in own}


def training_set(reference: EmbeddingTable, space: Space) -> TrainingSet:
    """Put the (N, D) training clips of a section into a space."""
    of = np.array([domain_or_source(key.domain) for key in reference.keys])
    rows = {domain: np.flatnonzero(of == domain) for domain in DOMAINS}
    return TrainingSet(
        space.apply(reference.embeddings),
        {domain: found for domain, found in rows.items() if found.size},
        np.array(reference.clip_ids),
    )


@dataclass
class NeighbourScorer(DomainScorer):
    """A `DomainScorer` of distances to nearest neighbours.

    d is the mean distance to the k nearest vectors remembered of a domain, to all of them where
    there are fewer.
    """

    metric: Metric = option("euclidean", "distance between embeddings")
    k: int = option(1, "nearest neighbours averaged, per domain", least=1)

    def learn(self, training: TrainingSet) -> None:
        """Nothing: the memories are all it needs."""

    def distances(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Mean distances to the k nearest of each domain; see `DomainScorer.distances`."""
        return self._distances(self._memories, vectors)[0]

    def distances_and_nearest(
        self, vectors: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], dict[str, Nearest]]:
        """Both from one search; see `DomainScorer.distances_and_nearest`."""
        return self._distances(self._memories, vectors)

    def leave_one_out(self, training: TrainingSet, domain: str) -> NDArray[np.float64]:
        """Leave out whatever is made of a clip; see `DomainScorer.leave_one_out`."""
        rows = training.left_out(domain)
        distances = np.full((len(rows), len(DOMAINS)), np.inf)
        for name, memory in self._memories.items():
            excluded = memory.made_of(rows)
            left = len(memory.neighbours) - (excluded >= 0).sum(axis=1)
            for count in np.unique(np.minimum(left, self.k)):  # one k a call
                some = np.flatnonzero(np.minimum(left, self.k) == count)
                if count:
                    found = memory.neighbours.search(training.vectors[rows[some]], int(count), excluded[some])
                    mean = self._space.distance(found.distances).mean(axis=1)
                    distances[some, DOMAINS.index(name)] = mean
        return distances

    def cross_fit(self, training: TrainingSet, rows: NDArray[np.intp], folds: int) -> NDArray[np.float64]:
        """(n, 2) distances of rows to memories made without them, in interleaved folds."""
        distances = np.full((len(rows), len(DOMAINS)), np.inf)
        for fold in range(min(folds, len(rows))):
            some = rows[fold::folds]
            memories = self.memories(training.without(some))
            distances[fold::folds] = self._distances(memories, training.vectors[some])[0]
        return distances

    def _neighbours(self, vectors: NDArray[np.float32]) -> NearestNeighbours:
        return NearestNeighbours(vectors, self.search, self.recall)

    def _distances(
        self, memories: dict[str, Memory], vectors: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], dict[str, Nearest]]:
        distances = np.full((len(vectors), len(DOMAINS)), np.inf)
        every = {}
        for domain, memory in memories.items():
            found = memory.neighbours.search(vectors, min(self.k, len(memory.neighbours)))
            mean = self._space.distance(found.distances).mean(axis=1)
            distances[:, DOMAINS.index(domain)] = mean
            every[domain] = found
        return distances, every
