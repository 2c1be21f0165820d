"""Mean and nearest neighbour after whitening by one covariance that both domains share."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from cache.base.options import option
from cache.table import DOMAINS, EmbeddingTable
from index.covariance import Whitening, fit_covariance, whitening
from index.domains import TrainingSet, training_set, usual_distances
from index.knn import NearestNeighbours, SearchKind
from index.scorer import Neighbours, State
from index.space import SpaceOptions, restored

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """What the clips of a section, or those of some folds of it, say of normal.

    Attributes
    ----------
    whitening
        Of vectors in the scorer's space.
    means
        (2, R) whitened mean of each domain, NaN where it has no clips.
    medians
        (2,) median distance of a domain's clips to their nearest other one.
    references
        Domain to its whitened clips.
    """

    whitening: Whitening
    means: Floats
    medians: Floats
    references: dict[str, NearestNeighbours]

    def distances(self, vectors: NDArray[np.float32]) -> tuple[Floats, Floats, NDArray[np.intp]]:
        """Measure how far vectors are from each domain, infinite where it has no clips.

        Parameters
        ----------
        vectors
            (Q, D) in the scorer's space.

        Returns
        -------
        to_mean, to_nearest
            (Q, 2) distances after whitening.
        nearest
            (Q, 2) rows of the references.
        """
        white = self.whitening.apply(vectors)
        to_mean, to_nearest = np.full((2, len(vectors), len(DOMAINS)), np.inf)
        nearest = np.zeros((len(vectors), len(DOMAINS)), dtype=np.intp)
        for domain, reference in self.references.items():
            column = DOMAINS.index(domain)
            found = reference.search(white.astype(np.float32), 1)
            to_nearest[:, column], nearest[:, column] = found.distances[:, 0], found.rows[:, 0]
            to_mean[:, column] = np.sqrt(np.square(white - self.means[column]).sum(axis=1))
        return to_mean, to_nearest, nearest

    def terms(self, to_mean: Floats, to_nearest: Floats) -> Floats:
        """Take the nearer domain of both kinds of distance, the second in its own unit: (2, Q)."""
        return np.array([to_mean.min(axis=1), (to_nearest / self.medians).min(axis=1)])


@dataclass
class Pooled(SpaceOptions):
    """Mean of ``z(m)`` and ``z(k)`` in a space whitened by the covariance inside the domains.

    ``Sigma`` is Ledoit and Wolf's (2004) estimate from the clips of both domains, each less its
    domain's mean: ten target clips cannot carry a covariance of their own, and what varies inside a
    domain varies alike in both. ``m(x) = min_d sqrt((x - mu_d)' Sigma^-1 (x - mu_d))``; ``k(x) =
    min_d`` of the distance to the nearest clip of domain d after whitening by Sigma, divided by the
    median of the domain's own leave-one-out distances. A domain whose median is zero or unknown
    (one clip, or duplicates) takes the other's; where neither has one, distances stay as they are.

    ``z`` subtracts the mean and divides by the deviation of training scores of folds: everything,
    standardising included, is fitted again without the fold. Leaving clips out of a covariance that
    has seen them will not do: in more dimensions than clips it makes each of them an outlier of its
    own, and distances inside come out far smaller than those of unseen clips.

    Shrinkage makes Sigma invertible for any number of clips and values. Training clips of unknown
    domain count as source.
    """

    transductive: ClassVar[bool] = False

    folds: int = option(5, "times the scorer is fitted again without a part of its clips", least=2)
    search: SearchKind = option(
        "auto", "exact, by an inverted file, or inverted above 200,000 training clips a domain"
    )

    def fit(self, reference: EmbeddingTable, groups: NDArray[Any] | None = None) -> None:
        """Learn the normal clips of one section; see `Scorer.fit`.

        Parameters
        ----------
        reference
            (N, D), N >= 1.
        groups
            (N,) clips of equal value were recorded together and are left out together; each clip on
            its own where none are given, or all are of one group.
        """
        self._space = self.fit_space(reference)
        training = training_set(reference, self._space)
        self._fit = self._fitted(training)
        self._clip_ids = {d: training.clip_ids[rows] for d, rows in training.rows.items()}
        kept = np.concatenate([training.left_out(domain) for domain in training.rows])
        terms = self._left_out(reference, training, groups)[:, kept]  # (2, n)
        terms = terms if len(reference) > 1 else terms[:, :0]
        self._mean = terms.mean(axis=1) if terms.size else np.zeros(2)
        deviation = terms.std(axis=1) if terms.size else np.ones(2)
        self._deviation = np.where(deviation > 1e-12 * np.abs(self._mean), deviation, 1.0)
        self._train_scores = self._merged(terms)

    def train_scores(self) -> Floats:
        """Scores from folds fitted again, at most 4096 training clips a domain; see `Scorer`."""
        return self._train_scores

    def score(self, queries: NDArray[np.float32]) -> Floats:
        """Score (Q, D) embeddings: (Q,)."""
        return self.explain(queries).score

    def explain(self, queries: NDArray[np.float32]) -> Neighbours:
        """Name the nearest training clip of each domain, after whitening; see `Scorer.explain`."""
        to_mean, to_nearest, rows = self._fit.distances(self._space.apply(queries))
        clips = {d: self._clip_ids[d][rows[:, DOMAINS.index(d)]] for d in self._clip_ids}
        nobody = np.full(len(queries), "")
        return Neighbours(
            source_clip=clips.get("source", nobody),
            source_distance=to_nearest[:, 0],
            target_clip=clips.get("target", nobody),
            target_distance=to_nearest[:, 1],
            decided=np.array(DOMAINS)[(to_nearest / self._fit.medians).argmin(axis=1)],
            part=nobody,
            score=self._merged(self._fit.terms(to_mean, to_nearest)),
        )

    def state(self) -> State:
        """Arrays and indexes of the fitted scorer; see `Scorer.state`."""
        whitening = {f"whitening.{n}": np.asarray(v) for n, v in vars(self._fit.whitening).items()}
        state: State = {
            **self._space.state(),
            **whitening,
            "means": self._fit.means,
            "medians": self._fit.medians,
            "mean": self._mean,
            "deviation": self._deviation,
            "train_scores": self._train_scores,
        }
        for domain, reference in self._fit.references.items():
            state |= {domain: reference, f"{domain}.clip_ids": self._clip_ids[domain]}
        return state

    def restore(self, state: State) -> None:
        """Take back what `state` gave."""
        arrays = cast(dict[str, NDArray[Any]], state)
        self._space = restored("euclidean", arrays)
        parts = {item.name: arrays[f"whitening.{item.name}"] for item in fields(Whitening)}
        own = Whitening(**parts | {"rest": float(parts["rest"])})  # type: ignore[arg-type]
        held = [domain for domain in DOMAINS if domain in state]
        references = {domain: cast(NearestNeighbours, state[domain]) for domain in held}
        self._fit = Fit(own, arrays["means"], arrays["medians"], references)
        self._clip_ids = {domain: arrays[f"{domain}.clip_ids"] for domain in held}
        self._mean, self._deviation = arrays["mean"], arrays["deviation"]
        self._train_scores = arrays["train_scores"]

    def _merged(self, terms: Floats) -> Floats:
        """(2, Q) distances to the mean of their z-scores, (Q,)."""
        return np.asarray(((terms - self._mean[:, None]) / self._deviation[:, None]).mean(axis=0))

    def _fitted(self, training: TrainingSet) -> Fit:
        parts = {d: training.vectors[rows].astype(np.float64) for d, rows in training.rows.items()}
        means = {domain: part.mean(axis=0) for domain, part in parts.items()}
        inside = np.concatenate([part - means[domain] for domain, part in parts.items()])
        shared = fit_covariance(inside, None)
        if (shared.variances > 1e-10 * shared.variances.max(initial=0)).sum() < 2:
            shared = replace(shared, shrinkage=1.0)  # a line tells Ledoit and Wolf of no noise
        own = whitening(shared, np.array(list(means.values())))
        white_means = np.full((len(DOMAINS), own.width), np.nan)
        inner = {domain: np.empty(0) for domain in DOMAINS}
        references = {}
        for domain, part in parts.items():
            white_means[DOMAINS.index(domain)] = own.apply(means[domain][None])[0]
            white = own.apply(part).astype(np.float32)
            references[domain] = NearestNeighbours(white, self.search)
            if len(part) > 1:
                sample = np.searchsorted(training.rows[domain], training.left_out(domain))
                found = references[domain].search(white[sample], 1, sample[:, None])
                inner[domain] = found.distances[:, 0]
        units = np.array(list(usual_distances(inner).values()))
        return Fit(own, white_means, units, references)

    def _left_out(
        self, reference: EmbeddingTable, training: TrainingSet, groups: NDArray[Any] | None
    ) -> Floats:
        """(2, N) distances of every clip, by fits to the other folds."""
        terms = np.zeros((2, len(reference)))
        numbers = fold_numbers(np.concatenate(list(training.rows.values())), groups, self.folds)
        for number in range(numbers.max() + 1 if len(reference) > 1 else 0):
            rest, held = (np.flatnonzero(numbers != number), np.flatnonzero(numbers == number))
            others = reference.select(rest)
            space = self.fit_space(others)
            fit = self._fitted(training_set(others, space))
            to_mean, to_nearest, _ = fit.distances(space.apply(reference.embeddings[held]))
            terms[:, held] = fit.terms(to_mean, to_nearest)
        return terms


def fold_numbers(order: NDArray[np.intp], groups: NDArray[Any] | None, folds: int) -> NDArray[np.intp]:
    """Deal groups of clips out to folds, one after the other.

    Parameters
    ----------
    order
        (N,) rows in the order of dealing, domain by domain, so that each fold gets its share of a
        small domain.
    groups
        (N,) by row; clips of one group go to one fold. Every clip is its own group where none are
        given, or where there is only one.
    folds
        At most, at least 2.

    Returns
    -------
    ndarray
        (N,) fold of each row, from 0.
    """
    names = np.arange(len(order)) if groups is None or len(set(groups)) < 2 else groups
    place = {name: i for i, name in enumerate(dict.fromkeys(np.asarray(names)[order].tolist()))}
    return np.array([place[name] % folds for name in np.asarray(names).tolist()], dtype=np.intp)


SCORER = Pooled
