"""What a scorer is, and the scorers there are: a file in ``index/scorers/`` each, or kin in one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from cache.base.options import parse
from cache.base.plugins import Plugins

if TYPE_CHECKING:  # names of scorers, on a help page, are had without NumPy
    import numpy as np
    from numpy.typing import NDArray

    from cache.table import EmbeddingTable
    from index.knn import NearestNeighbours

State: TypeAlias = "dict[str, NDArray[Any] | NearestNeighbours]"

# No back-end wins everywhere; a fusion does about as well as the best of its members (arXiv 2606.19269).
# On the default's log spectra it takes `pooled` for each spacing of bands, see `index.scorers.fusion`
# and what was measured in benchmarks/scorers.md.
DEFAULT = "fusion"

_PLUGINS = Plugins("index.scorers", "scorer", "machine_asd.scorers", {
    "beam": "index.scorers.fusion:Beam",
    "domain-scale": "index.scorers.domain_distances:DomainScale",
    "domain-z-test": "index.scorers.domain_distances:DomainZTest",
    "domain-z-train": "index.scorers.domain_distances:DomainZTrain",
    "fusion": "index.scorers.fusion:Fusion",
    "genrep": "index.scorers.memories:GenRep",
    "kmeans": "index.scorers.memories:KMeans",
    "knn-smote": "index.scorers.memories:KnnSmote",
    "ldn": "index.scorers.local_density:Ldn",
    "memmixup": "index.scorers.memories:MemMixup",
    "min-distance": "index.scorers.domain_distances:MinDistance",
    "varmin": "index.scorers.local_density:VarMin",
})  # fmt: skip


@dataclass(frozen=True)
class Neighbours:
    """What each of Q queries scores, and why.

    Attributes
    ----------
    source_clip, target_clip
        (Q,) id of the nearest training clip of each domain, ``""`` where the domain has none.
    source_distance, target_distance
        (Q,) float64 distance to it, before any normalisation; infinite where there is none.
    decided
        (Q,) ``source`` or ``target``: the domain that gave the score.
    part
        (Q,) the band, backbone or member scorer that decided; ``""`` where there is one only.
    score
        (Q,) float64, the same bits as `Scorer.score` gives; left out by a scorer that does not have it
        at hand, see `explained`.
    """

    source_clip: NDArray[np.str_]
    source_distance: NDArray[np.float64]
    target_clip: NDArray[np.str_]
    target_distance: NDArray[np.float64]
    decided: NDArray[np.str_]
    part: NDArray[np.str_]
    score: NDArray[np.float64] = field(default_factory=lambda: import_module("numpy").empty(0))


class Scorer(Protocol):
    """Reference embeddings to the anomaly score of a query; higher is always more anomalous.

    An implementation is a dataclass whose fields are its options.
    """

    @property
    def transductive(self) -> bool:
        """Whether a score depends on the other queries of a call, which the challenge forbids."""

    def fit(self, reference: EmbeddingTable) -> None:
        """Learn the normal clips of one section, (N, D), N >= 1, both domains or one."""

    def train_scores(self) -> NDArray[np.float64]:
        """Leave-one-out scores of training clips, finite, (n,): what unseen normals would get."""

    def score(self, queries: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score (Q, D) embeddings: (Q,)."""

    def explain(self, queries: NDArray[np.float32]) -> Neighbours:
        """Score (Q, D) embeddings and name the training clips they were nearest to, in one pass."""

    def state(self) -> State:
        """Everything a fitted scorer needs to score again, its options apart."""

    def restore(self, state: State) -> None:
        """Take back what `state` gave."""


def explained(scorer: Scorer, queries: NDArray[np.float32]) -> Neighbours:
    """Score (Q, D) embeddings and say why, whether or not the scorer does both in one pass."""
    found = scorer.explain(queries)
    return found if len(found.score) == len(queries) else replace(found, score=scorer.score(queries))


def names() -> list[str]:
    """Names to choose from; none of them is imported."""
    return _PLUGINS.names()


def find(name: str) -> type[Scorer]:
    """Import one scorer.

    Raises
    ------
    AsdError
        If there is none of that name, or the package that offers it is broken.
    """
    return cast(type[Scorer], _PLUGINS.part(name, "SCORER"))


def parse_member(text: str) -> Scorer:
    """Build a scorer from text: ``name`` or ``name:option=value:option=value``.

    Raises
    ------
    AsdError
        If the scorer or an option is unknown or a value is not of its kind.
    """
    return parse(text, find)
