"""The same recording faster or slower, tempo and pitch together: another speed of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from numpy.random import Generator

from cache.base.options import Span, option
from finetune.data.stretch import at_speed
from finetune.synthesis.levels import fitted
from finetune.synthesis.method import Material, SyntheticSound, draw


@dataclass(frozen=True)
class Speed:
    """Up or down by the same share, with equal chance; a faster clip goes on from its start."""

    change: Span = option(Span(0.03, 0.15), "share by which the speed changes", least=0.0, most=0.5)

    clips: ClassVar[int] = 1
    is_fault: ClassVar[bool] = False

    def apply(self, rng: Generator, material: Material) -> SyntheticSound:
        """Change the speed; see `Method`."""
        factor = 1 + float(rng.choice([-1, 1])) * draw(rng, self.change)
        faster = at_speed(material.wave, factor)
        return SyntheticSound(fitted(faster, len(material.wave)), {"factor": factor})


METHOD = Speed
