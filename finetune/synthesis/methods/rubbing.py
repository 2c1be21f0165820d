"""A rotor that touches its housing: scraping noise for a part of every turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.random import Generator

from cache.base.options import Span, option
from extractors.demo.waves import coloured_noise
from finetune.synthesis.levels import added
from finetune.synthesis.method import Material, SyntheticSound, draw, draw_ratio

_BAND = (0.15, 0.8)  # of the scraping, as shares of half the sample rate


@dataclass(frozen=True)
class Rubbing:
    """High noise under a raised-cosine window, once a turn."""

    frequency: Span = option(Span(2.0, 40.0), "turns a second", least=0.1, most=1000.0)
    contact: Span = option(Span(0.05, 0.3), "share of a turn", least=0.01, most=1.0)
    level: Span = option(Span(-18.0, -3.0), "RMS of the scraping against that of the clip, dB",
                          least=-60.0, most=40.0)  # fmt: skip

    clips: ClassVar[int] = 1
    is_fault: ClassVar[bool] = True

    def apply(self, rng: Generator, material: Material) -> SyntheticSound:
        """Add the scraping; see `Method`."""
        frequency, contact = draw_ratio(rng, self.frequency), draw(rng, self.contact)
        level, samples, rate = draw(rng, self.level), len(material.wave), material.sample_rate
        start = rng.random() * min(1 / frequency, 0.5 * samples / rate)  # s; one touch in any case
        turns = frequency * (np.arange(samples) / rate - start)  # (T,)
        place = np.minimum(turns % 1 / contact, 1.0)  # (T,) 0 to 1 while they touch, then 1
        band = (_BAND[0] * rate / 2, _BAND[1] * rate / 2)
        window = 0.5 * (1 - np.cos(2 * np.pi * place))  # (T,)
        part = window * coloured_noise(rng, samples, 0.0, band, rate)
        drawn = {"frequency": frequency, "contact": contact, "level": level}
        return SyntheticSound(added(material.wave, part, level), dict(drawn))


METHOD = Rubbing
