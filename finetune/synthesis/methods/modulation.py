"""A load that comes and goes: the whole sound swells once a turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.random import Generator

from cache.base.options import Span, option
from finetune.synthesis.method import Material, SyntheticSound, draw, draw_ratio


@dataclass(frozen=True)
class Modulation:
    """``(1 + m cos(2 pi f t + phase)) x(t)``."""

    frequency: Span = option(Span(2.0, 40.0), "f, Hz", least=0.1, most=1000.0)
    depth: Span = option(Span(0.3, 0.9), "m", least=0.0, most=1.0)

    clips: ClassVar[int] = 1
    is_fault: ClassVar[bool] = True

    def apply(self, rng: Generator, material: Material) -> SyntheticSound:
        """Modulate the amplitude; see `Method`."""
        frequency, depth = draw_ratio(rng, self.frequency), draw(rng, self.depth)
        time = np.arange(len(material.wave)) / material.sample_rate + rng.random() / frequency
        swell = 1 + depth * np.cos(2 * np.pi * frequency * time)  # (T,)
        return SyntheticSound(swell * material.wave, {"frequency": frequency, "depth": depth})


METHOD = Modulation
