"""GenRep: MemMixup and the test set's own z-score per domain; transductive."""

from __future__ import annotations

from dataclasses import dataclass

from index.scorers.domain_z_test import DomainZTest
from index.scorers.memmixup import MemMixup


@dataclass
class GenRep(MemMixup, DomainZTest):
    """MemMixup (990 mixtures of 0.9) scored by `DomainZTest`.

    GenRep keeps the bands of BEATs apart: extract with ``--bands keep``. Transductive, and refuses
    to score a single clip.
    """


SCORER = GenRep
