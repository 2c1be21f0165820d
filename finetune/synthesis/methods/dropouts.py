"""A loose contact: the sound is gone for moments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.random import Generator

from cache.base.options import Span, option
from finetune.synthesis.method import Material, SyntheticSound, draw, draw_ratio


@dataclass(frozen=True)
class Dropouts:
    """Gaps of silence with sharp edges, one in each of equal parts of the clip."""

    share: Span = option(Span(0.03, 0.15), "of the clip's time, that is silent", least=0.001, most=0.5)
    length: Span = option(Span(0.01, 0.08), "of a gap, s", least=0.0005, most=1.0)

    clips: ClassVar[int] = 1
    is_fault: ClassVar[bool] = True

    def apply(self, rng: Generator, material: Material) -> SyntheticSound:
        """Cut gaps; see `Method`."""
        share, length = draw(rng, self.share), draw_ratio(rng, self.length)
        wave, samples = material.wave.copy(), len(material.wave)
        count = max(1, round(share * samples / (length * material.sample_rate)))
        gap = max(1, round(share * samples / count))
        for part in np.array_split(np.arange(samples), count):
            start = int(rng.integers(part[0], max(part[-1] + 2 - gap, part[0] + 1)))
            wave[start : start + gap] = 0.0
        drawn = {"share": share, "length": gap / material.sample_rate, "gaps": float(count)}
        return SyntheticSound(wave if wave.any() else material.wave, dict(drawn))


METHOD = Dropouts
