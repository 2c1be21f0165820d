"""Scorers of scorers: several, each in units of its own training scores, or one a band."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.base.options import option
from cache.table import EmbeddingTable
from index.composite import CompositeScorer, Part, weighted_sum
from index.space import backbones

USUAL = "usual"
SPECTRA = "logspec"  # the backbone whose blocks have a usual member of their own
_THREE = {"min-distance": 1 / 3, "mahalanobis": 1 / 3, "ldn": 1 / 3}  # scorer to its share
_OF_SPECTRA, _OF_EMBEDDINGS = {"pooled": 1.0, **_THREE}, _THREE


@dataclass
class Fusion(CompositeScorer):
    """Mean or minimum of the members' z-scores, ``z = (s - mean) / std`` of training scores.

    The means and deviations are of each member's own left-out training scores, so no test clip
    and no label is needed. A member whose training scores do not vary is only centred.

    The usual members, ``min-distance``, ``mahalanobis`` and ``ldn``: their mean is first or second
    in most tables of ``benchmarks/scorers.md`` (and their minimum, arXiv 2606.19269, beat every
    single back-end on frozen BEATs over the seven machines of the 2023 development set). On each
    log spectrum of the backbone ``logspec``, ``pooled`` is one half and these three the other:
    ``pooled`` is the best there on recordings as they are, and they are in other noises
    (``benchmarks/mixtures.md``). Where a table has other blocks beside spectra, the spectra have
    two shares of three.

    A member ``NAME@BACKBONE`` sees the columns of one backbone only, and ``share=S`` among its
    options weighs it: ``pooled@logspec:share=2,ldn@efficientat:density_k=4`` is two parts of the
    spectra's score to one of the network's. A member fitted to several backbones one by one divides
    its share among them.
    """

    over: str = option(
        USUAL,
        "member scorers, NAME[@BACKBONE][:option=value...][:share=S], comma between; usual: what "
        "suits each backbone",
    )
    by: Literal["all", "backbone"] = option(
        "all", "each member sees all its columns at once, or is fitted backbone by backbone"
    )
    merging: Literal["mean", "min"] = option("mean", "of the members' z-scores; the minimum knows no shares")

    def members(self) -> list[str]:
        """List the texts of the member scorers, without backbone and share."""
        if self.over == USUAL:
            return list(_OF_SPECTRA)
        return [_Member.read(text).text for text in self.over.split(",")]

    def parts(self, table: EmbeddingTable) -> list[Part]:
        """One part a member, or one a member and backbone."""
        owners = list(backbones(table))
        if self.over != USUAL:
            members = [_Member.read(text) for text in self.over.split(",")]
            return [part for one in members for part in one.parts(table, owners, self.by)]
        spectra = [owner for owner in owners if _is_of(owner, SPECTRA)]
        others = [owner for owner in owners if owner not in spectra]
        joint = 1 if self.by == "all" else len(others)
        return [
            *(
                part
                for text, share in _OF_SPECTRA.items()
                for part in _Member(text, share=share).parts(table, spectra, "backbone")
            ),
            *(
                part
                for text, share in _OF_EMBEDDINGS.items()
                for part in _Member(text, share=share * joint).parts(table, others, self.by)
            ),
        ]

    def merge(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Minimum, or mean by shares, of the z-scores."""
        z = self.standardised(scores)
        if self.merging == "min":
            return np.asarray(z.min(axis=0))
        return weighted_sum(z, self._shares / self._shares.sum())

    def deciding(self, standardised: NDArray[np.float64]) -> NDArray[np.intp]:
        """Name the member that gave the minimum, or the highest one of a mean."""
        return np.asarray((standardised if self.merging == "mean" else -standardised).argmax(axis=0))


@dataclass(frozen=True)
class _Member:
    """A member as written: its scorer's text, the backbone it is for, if any, and its share."""

    text: str
    backbone: str = ""
    share: float = 1.0

    @classmethod
    def read(cls, text: str) -> _Member:
        """Read ``NAME[@BACKBONE][:option=value...][:share=S]``."""
        head, *options = text.strip().split(":")
        name, _, backbone = head.partition("@")
        given = [item for item in options if item.startswith("share=")]
        own = ":".join([name, *(item for item in options if item not in given)])
        try:
            share = float(given[-1].removeprefix("share=")) if given else 1.0
        except ValueError:
            share = 0.0
        if not 0 < share < np.inf:
            raise AsdError(f"{text.strip()!r}: {given[-1]}; expected share=<number above 0>")
        return cls(own, backbone, share)

    def parts(self, table: EmbeddingTable, owners: list[str], by: Literal["all", "backbone"]) -> list[Part]:
        """Fit it to the backbones it is for, at once or one by one."""
        meant = [owner for owner in owners if not self.backbone or _is_of(owner, self.backbone)]
        if not meant and self.backbone:
            raise AsdError(f"a member for {self.backbone!r}, and the backbones are {', '.join(owners)}")
        blocks = [(name.partition("/")[0], name) for name in table.blocks]
        if by == "all" and meant:
            label = f"{self.text} {self.backbone}".strip()
            every = [name for owner, name in blocks if owner in meant]
            return [Part(label, self.text, every, self.share)]
        owned = {one: [name for owner, name in blocks if owner == one] for one in meant}
        share = self.share / max(1, len(meant))
        return [Part(f"{self.text} {one}", self.text, names, share) for one, names in owned.items()]


def _is_of(owner: str, backbone: str) -> bool:
    """Whether columns called `owner` are of a backbone, or of a channel or part of it."""
    return owner == backbone or owner.startswith(f"{backbone}.")


@dataclass
class Beam(CompositeScorer):
    """``mean_f min_y D(x_f, y_f)`` over the blocks f of a table, with any scorer for the minimum.

    Extract with ``--bands keep``: each band is a block then. A table of one block gives the inner
    scorer's own scores.
    """

    inside: str = option("min-distance", "scorer of a band, name[:option=value...]")

    def members(self) -> list[str]:
        """Name the scorer inside."""
        return [self.inside]

    def parts(self, table: EmbeddingTable) -> list[Part]:
        """One part a block."""
        return [Part(name, self.inside, [name]) for name in table.blocks]

    def merge(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean over the blocks."""
        return weighted_sum(scores, np.full(len(scores), 1 / len(scores)))


CHOICES = {"beam": Beam, "fusion": Fusion}
