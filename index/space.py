"""The space distances are measured in: centred, standardised, blocks balanced, unit length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.base.options import option
from cache.table import EmbeddingTable

Metric = Literal["euclidean", "cosine", "chord"]
Blocks = Literal["equal", "unit", "joined"]


@dataclass(frozen=True)
class Space:
    """A transform of embeddings fitted on training clips.

    Attributes
    ----------
    metric
        ``cosine`` and ``chord`` put every vector on the unit sphere (the zero vector stays where it
        is); a chord is the Euclidean distance there.
    centre, scale
        (D,) float64: ``(x - centre) / scale`` comes first.
    spans
        (blocks, 2) int columns that are each put to a length of its weight, or none.
    weights
        (blocks,) float64, square roots of the blocks' shares of a squared distance.
    """

    metric: Metric
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    spans: NDArray[np.intp]
    weights: NDArray[np.float64]

    def apply(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Transform (N, D) embeddings.

        Raises
        ------
        AsdError
            If they have another width than the training clips.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != len(self.centre):
            raise AsdError(
                f"embeddings of shape {embeddings.shape} against training clips of "
                f"{len(self.centre)} values; extract both with one recipe"
            )
        applied = np.empty(embeddings.shape, dtype=np.float32)
        for rows in _chunks(embeddings):
            moved = (embeddings[rows].astype(np.float64) - self.centre) / self.scale
            for (start, stop), weight in zip(self.spans, self.weights, strict=True):
                moved[:, start:stop] = weight * _unit(moved[:, start:stop])
            applied[rows] = _unit(moved) if self.metric != "euclidean" else moved
        return applied

    def distance(self, euclidean: NDArray[np.float64]) -> NDArray[np.float64]:
        """Euclidean distance between transformed vectors to this space's own distance.

        The cosine distance ``1 - cos(x, y)`` of unit vectors is ``|x - y|^2 / 2``.
        """
        return euclidean**2 / 2 if self.metric == "cosine" else euclidean

    def state(self) -> dict[str, NDArray[Any]]:
        """Its arrays by name."""
        names = ("centre", "scale", "spans", "weights")
        return {f"space.{name}": getattr(self, name) for name in names}


def restored(metric: Metric, state: Mapping[str, Any]) -> Space:
    """Build a space from `Space.state`."""
    names = ("centre", "scale", "spans", "weights")
    return Space(metric, *(state[f"space.{name}"] for name in names))


@dataclass
class SpaceOptions:
    """The options that make a space, shared by all scorers."""

    standardise: bool = option(
        True, "divide each value by its standard deviation over the section's training clips"
    )
    blocks: Blocks = option(
        "equal",
        "of several backbones: equal mean square length over the training clips, each of unit "
        "length in every clip, or joined as they are",
    )
    block_weights: str = option("", "shares of a squared distance, e.g. beats=1,panns=0.5")

    def fit_space(self, reference: EmbeddingTable, metric: Metric = "euclidean") -> Space:
        """Fit a space to the training clips of a section.

        Parameters
        ----------
        reference
            (N, D), N >= 1; its blocks are grouped by backbone, bands together.
        metric
            ``euclidean``, ``cosine`` or ``chord``.

        Returns
        -------
        Space
            Centred for Euclidean distances in any case, which changes none of them but spares
            float32 the digits of a common offset; not centred on the plain unit sphere.

        Raises
        ------
        AsdError
            If a block weight is not of a block or not a number above 0.
        """
        centre, scale = _moments(reference.embeddings, metric, standardise=self.standardise)
        groups = backbones(reference)
        roots = np.sqrt(_parse_weights(self.block_weights, list(groups)))
        spans = np.array(list(groups.values()), dtype=np.intp)
        if self.blocks == "unit":
            return Space(metric, centre, scale, spans, roots)
        for (start, stop), root in zip(spans, roots, strict=True):
            length = 1.0
            if self.blocks == "equal" and len(groups) > 1:
                columns = slice(start, stop)
                block = reference.embeddings[:, columns]
                middle, unit = centre[columns], scale[columns]
                squares = [np.square((block[rows] - middle) / unit).sum() for rows in _chunks(block)]
                length = (float(np.sum(squares)) / len(block)) ** 0.5 or 1.0  # of a row, on average
            scale[start:stop] *= length / root
        return Space(metric, centre, scale, np.empty((0, 2), dtype=np.intp), np.empty(0))


def backbones(table: EmbeddingTable) -> dict[str, tuple[int, int]]:
    """Columns of each backbone: a name before ``/`` is shared by the bands of one backbone."""
    groups: dict[str, tuple[int, int]] = {}
    for name, (start, stop) in table.blocks.items():
        owner = name.partition("/")[0]
        groups[owner] = (groups.get(owner, (start, stop))[0], stop)
    return groups


def _chunks(embeddings: NDArray[np.float32]) -> Iterator[slice]:
    """Rows of about 16 million values at a time: float64 copies stay small."""
    step = max(1, (1 << 24) // max(1, embeddings.shape[1]))
    for start in range(0, len(embeddings), step):
        yield slice(start, start + step)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))
    return np.asarray(vectors / np.where(length > 0, length, 1.0))


def _moments(
    reference: NDArray[np.float32], metric: Metric, *, standardise: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    width = reference.shape[1]
    mean = reference.mean(axis=0, dtype=np.float64)
    if not standardise:
        return mean if metric == "euclidean" else np.zeros(width), np.ones(width)
    squares = [np.square(reference[rows] - mean).sum(axis=0) for rows in _chunks(reference)]
    deviation = np.sqrt(np.sum(squares, axis=0) / len(reference))
    # A constant float32 column has a rounding error for a deviation, not a spread.
    constant = deviation <= 1e-6 * np.abs(mean)
    return mean, np.where(constant, 1.0, deviation)


def _parse_weights(text: str, names: list[str]) -> NDArray[np.float64]:
    weights = dict.fromkeys(names, 1.0)
    for item in filter(None, text.split(",")):
        name, _, value = item.partition("=")
        try:
            weights[name] = float(value)
        except ValueError:
            weights[name] = 0.0
        if name not in names or not 0 < weights[name] < np.inf:
            raise AsdError(
                f"--block-weights {item!r}: expected <block>=<number above 0>, the blocks are "
                f"{', '.join(names)}"
            )
    return np.array([weights[name] for name in names])
