"""A recording, or a loudspeaker of the plant, that is driven too hard: its peaks are cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.random import Generator

from cache.base.options import Span, option
from finetune.synthesis.method import Material, SyntheticSound, draw


@dataclass(frozen=True)
class Clipping:
    """Cut at the level that the largest samples reach."""

    share: Span = option(Span(0.02, 0.2), "of the samples, that are cut", least=0.0, most=0.9)

    clips: ClassVar[int] = 1
    is_fault: ClassVar[bool] = True

    def apply(self, rng: Generator, material: Material) -> SyntheticSound:
        """Clip; see `Method`."""
        share = draw(rng, self.share)
        limit = float(np.quantile(np.abs(material.wave), 1 - share))
        clipped = np.clip(material.wave, -limit, limit)
        return SyntheticSound(clipped if limit > 0 else material.wave, {"share": share})


METHOD = Clipping
