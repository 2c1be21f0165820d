"""Scorers made of scorers: their columns, their state and whose reason counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.table import EmbeddingTable
from index.scorer import Neighbours, State, explained, parse_member

Floats = NDArray[np.float64]


def weighted_sum(scores: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add the parts of each query, (P, Q) scores times (P,) shares: (Q,).

    Along rows in memory: across them, NumPy adds in an order that depends on the number of queries.
    """
    return np.asarray(np.ascontiguousarray((shares[:, None] * scores).T).sum(axis=1))


class Part(NamedTuple):
    """One scorer of several.

    Attributes
    ----------
    name
        What explanations call it.
    text
        ``name[:option=value...]``.
    blocks
        Of the table, that it sees.
    share
        Of the whole, before all shares are divided by their sum.
    """

    name: str
    text: str
    blocks: list[str]
    share: float = 1.0


@dataclass
class CompositeScorer(ABC):
    """Several scorers, each on its own columns.

    The part with the highest score in units of its own training scores explains a clip, unless a
    subclass says otherwise.
    """

    @abstractmethod
    def parts(self, table: EmbeddingTable) -> list[Part]:
        """List the parts for a table of these blocks."""

    @abstractmethod
    def merge(self, scores: Floats) -> Floats:
        """(parts, Q) scores to (Q,)."""

    def deciding(self, standardised: Floats) -> NDArray[np.intp]:
        """(parts, Q) z-scores to the part that explains each clip, (Q,)."""
        return np.asarray(standardised.argmax(axis=0))

    @property
    def transductive(self) -> bool:
        """Whether a part is."""
        return any(parse_member(text).transductive for text in self.members())

    @abstractmethod
    def members(self) -> Sequence[str]:
        """Scorer texts among the options."""

    def fit(self, reference: EmbeddingTable) -> None:
        """Fit every part; see `Scorer.fit`."""
        planned = self.parts(reference)
        self._names = [part.name for part in planned]
        self._texts = [part.text for part in planned]
        self._shares = np.array([part.share for part in planned])
        self._columns = [
            np.concatenate([np.arange(*reference.blocks[name]) for name in part.blocks]) for part in planned
        ]
        self._width = reference.width
        self._scorers = [parse_member(text) for text in self._texts]
        for scorer, part in zip(self._scorers, planned, strict=True):
            scorer.fit(reference.columns(part.blocks))
        train = np.array([scorer.train_scores() for scorer in self._scorers])  # (parts, n)
        empty = not train.size
        self._mean = np.zeros(len(train)) if empty else train.mean(axis=1)
        deviation = np.ones(len(train)) if empty else train.std(axis=1)
        # A part whose scores differ by rounding alone has no spread to be measured in.
        steady = deviation <= 1e-9 * np.abs(self._mean)
        self._deviation = np.where(steady, 1.0, deviation)
        self._train_scores = np.empty(0) if empty else self.merge(train)

    def train_scores(self) -> Floats:
        """Merge the leave-one-out scores of the parts; see `Scorer.train_scores`."""
        return self._train_scores

    def score(self, queries: NDArray[np.float32]) -> Floats:
        """Score (Q, D) embeddings: (Q,)."""
        self._check(queries)
        scores = [
            scorer.score(np.ascontiguousarray(queries[:, columns]))
            for scorer, columns in zip(self._scorers, self._columns, strict=True)
        ]
        return self.merge(np.array(scores))

    def explain(self, queries: NDArray[np.float32]) -> Neighbours:
        """Take the reason of the part that decided; see `Scorer.explain`."""
        self._check(queries)
        reasons = [
            explained(scorer, np.ascontiguousarray(queries[:, columns]))
            for scorer, columns in zip(self._scorers, self._columns, strict=True)
        ]
        scores = np.array([reason.score for reason in reasons])
        which = self.deciding(self.standardised(scores))
        rows = np.arange(len(queries))
        picked = {
            item.name: np.array([getattr(reason, item.name) for reason in reasons])[which, rows]
            for item in fields(Neighbours)
        }
        own = {"part": np.array(self._names)[which], "score": self.merge(scores)}
        return Neighbours(**(picked | own))

    def standardised(self, scores: Floats) -> Floats:
        """(parts, Q) scores in units of each part's own training scores."""
        return np.asarray((scores - self._mean[:, None]) / self._deviation[:, None])

    def state(self) -> State:
        """States of the parts, their names in front; see `Scorer.state`."""
        state: State = {
            "names": np.array(self._names),
            "texts": np.array(self._texts),
            "shares": self._shares,
            "width": np.array(self._width),
            "mean": self._mean,
            "deviation": self._deviation,
            "train_scores": self._train_scores,
        }
        for place, (scorer, columns) in enumerate(zip(self._scorers, self._columns, strict=True)):
            state[f"part{place}.columns"] = columns
            state |= {f"part{place}.{name}": value for name, value in scorer.state().items()}
        return state

    def restore(self, state: State) -> None:
        """Take back what `state` gave."""
        arrays = {name: np.asarray(state[name]) for name in ("names", "texts", "mean", "deviation")}
        self._names, self._texts = arrays["names"].tolist(), arrays["texts"].tolist()
        self._mean, self._deviation = arrays["mean"], arrays["deviation"]
        self._train_scores = np.asarray(state["train_scores"])
        self._shares = np.asarray(state["shares"])
        self._width = int(np.asarray(state["width"]))
        self._scorers = [parse_member(text) for text in self._texts]
        self._columns = []
        for place, scorer in enumerate(self._scorers):
            prefix = f"part{place}."
            own = {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
            self._columns.append(np.asarray(own.pop("columns")))
            scorer.restore(own)

    def _check(self, queries: NDArray[np.float32]) -> None:
        if queries.ndim != 2 or queries.shape[1] != self._width:
            raise AsdError(
                f"embeddings of shape {queries.shape} against training clips of {self._width} "
                "values; extract both with one recipe"
            )
