"""Misalignment or looseness: tones at multiples of the shaft's frequency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.random import Generator

from cache.base.options import Span, option
from extractors.demo.waves import Wave, jitter, slow
from finetune.synthesis.levels import added
from finetune.synthesis.method import Material, SyntheticSound, draw, draw_ratio

_ORDERS = 10
_WANDER = 0.002  # standard deviation of the speed, as a share: a motor under changing load
_KNOTS = 0.5  # changes of speed a second


@dataclass(frozen=True)
class Harmonics:
    """Orders 1 to 10 of a shaft, the n-th at about 1/n of the first."""

    frequency: Span = option(Span(15.0, 120.0), "of the shaft, Hz", least=1.0, most=2000.0)
    level: Span = option(Span(-15.0, 0.0), "RMS of the tones against that of the clip, dB",
                          least=-60.0, most=40.0)  # fmt: skip

    clips: ClassVar[int] = 1
    is_fault: ClassVar[bool] = True

    def apply(self, rng: Generator, material: Material) -> SyntheticSound:
        """Add the tones; see `Method`."""
        frequency, level = draw_ratio(rng, self.frequency), draw(rng, self.level)
        tones = _tones(rng, frequency, len(material.wave), material.sample_rate)
        drawn = {"frequency": frequency, "level": level}
        return SyntheticSound(added(material.wave, tones, level), dict(drawn))


def _tones(rng: Generator, frequency: float, samples: int, sample_rate: int) -> Wave:
    """Sum the orders below half the sample rate, the first in any case; (samples,)."""
    wander = _WANDER * slow(rng, samples, _KNOTS, sample_rate)  # (T,)
    turns = np.cumsum((1 + wander) * frequency / sample_rate)  # (T,)
    total = np.zeros(samples)
    for order in range(1, _ORDERS + 1):
        gain, phase = jitter(rng, 3.0) / order, rng.random()
        if order == 1 or order * frequency < 0.45 * sample_rate:
            total += gain * np.cos(2 * np.pi * (order * turns + phase))
    return total


METHOD = Harmonics
