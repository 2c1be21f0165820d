"""Scorers made of scorers: their columns, their state and whose reason counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
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
        for name in ("_units", "_train_scores"):
            vars(self).pop(name, None)  # of an earlier fit

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
        mean, deviation = self._units
        return np.asarray((scores - mean[:, None]) / deviation[:, None])

    def state(self) -> State:
        """States of the parts, their names in front; see `Scorer.state`."""
        state: State = {
            "names": np.array(self._names),
            "texts": np.array(self._texts),
            "shares": self._shares,
            "width": np.array(self._width),
            "mean": self._units[0],
            "deviation": self._units[1],
            "train_scores": self._train_scores,
        }
        for place, (scorer, columns) in enumerate(zip(self._scorers, self._columns, strict=True)):
            state[f"part{place}.columns"] = columns
            state |= {f"part{place}.{name}": value for name, value in scorer.state().items()}
        return state

    def restore(self, state: State) -> None:
        """Take back what `state` gave."""
        self._names, self._texts = (np.asarray(state[name]).tolist() for name in ("names", "texts"))
        self._units = np.asarray(state["mean"]), np.asarray(state["deviation"])
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

    @cached_property
    def _units(self) -> tuple[Floats, Floats]:
        """Mean and deviation of each part's training scores, (parts,), when first asked for."""
        train = np.array([scorer.train_scores() for scorer in self._scorers])  # (parts, n)
        if not train.size:
            return np.zeros(len(train)), np.ones(len(train))
        mean, deviation = train.mean(axis=1), train.std(axis=1)
        # A part whose scores differ by rounding alone has no spread to be measured in.
        return mean, np.where(deviation <= 1e-9 * np.abs(mean), 1.0, deviation)

    @cached_property
    def _train_scores(self) -> Floats:
        train = np.array([scorer.train_scores() for scorer in self._scorers])
        return self.merge(train) if train.size else np.empty(0)

    def _check(self, queries: NDArray[np.float32]) -> None:
        if queries.ndim != 2 or queries.shape[1] != self._width:
            raise AsdError(
                f"embeddings of shape {queries.shape} against training clips of {self._width} "
                "values; extract both with one recipe"
            )
