"""Two recordings in one (mixup, Zhang et al. 2018, arXiv 1710.09412)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from numpy.random import Generator

from cache.base.options import Span, option
from extractors.demo.waves import unit_rms
from finetune.synthesis.levels import fitted
from finetune.synthesis.method import Material, SyntheticSound, draw


@dataclass(frozen=True)
class Mixup:
    """``w a + (1 - w) b``, both at the same level first: w says what is heard, not what was loud.

    A shorter second clip goes on from its start.
    """

    weight: Span = option(Span(0.5, 0.9), "w, the share of the first clip", least=0.0, most=1.0)

    clips: ClassVar[int] = 2
    is_fault: ClassVar[bool] = False

    def apply(self, rng: Generator, material: Material) -> SyntheticSound:
        """Mix; see `Method`."""
        first, second = material.waves
        weight = draw(rng, self.weight)
        other = unit_rms(fitted(second, len(first)))
        return SyntheticSound(weight * unit_rms(first) + (1 - weight) * other, {"weight": weight})


METHOD = Mixup
