"""A defect in a rolling-element bearing: impacts that make a structure ring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.random import Generator

from cache.base.options import Span, option
from extractors.demo.waves import Wave, impulses, ring
from finetune.synthesis.levels import added
from finetune.synthesis.method import Material, SyntheticSound, draw, draw_ratio

_SLIP = 0.01  # standard deviation of an interval; 1 to 2 %, Randall & Antoni 2011, section 2
_UNEVEN = 0.2  # standard deviation of the logarithm of an impact's strength


@dataclass(frozen=True)
class Bearing:
    """A rolling element passes the defect at the fault frequency, slipping a little.

    Randall and Antoni, "Rolling element bearing diagnostics - a tutorial", Mechanical Systems and
    Signal Processing 25 (2011): impulse responses at intervals that vary at random from one to the
    next, so that the fault's frequency shows in the spectrum of the envelope.
    """

    frequency: Span = option(Span(30.0, 160.0), "of the impacts, Hz", least=1.0, most=1000.0)
    resonance: Span = option(Span(0.2, 0.7), "that rings, as a share of half the sample rate",
                              least=0.01, most=0.95)  # fmt: skip
    decay: Span = option(Span(0.0008, 0.003), "until it rings at 1/e, s", least=1e-4, most=0.1)
    level: Span = option(Span(-15.0, 0.0), "RMS of the fault against that of the clip, dB",
                          least=-60.0, most=40.0)  # fmt: skip

    clips: ClassVar[int] = 1
    is_fault: ClassVar[bool] = True

    def apply(self, rng: Generator, material: Material) -> SyntheticSound:
        """Add the fault; see `Method`."""
        frequency, decay = draw_ratio(rng, self.frequency), draw_ratio(rng, self.decay)
        resonance = draw(rng, self.resonance) * material.sample_rate / 2
        level, samples = draw(rng, self.level), len(material.wave)
        train = _impacts(rng, frequency, samples, material.sample_rate)
        part = ring(train, resonance, decay, material.sample_rate)
        drawn = {"frequency": frequency, "resonance": resonance, "decay": decay, "level": level}
        return SyntheticSound(added(material.wave, part, level), dict(drawn))


def _impacts(rng: Generator, frequency: float, samples: int, sample_rate: int) -> Wave:
    """Impulses at a mean frequency, Hz, at least one; (samples,)."""
    seconds = samples / sample_rate
    count = int(1.1 * frequency * seconds) + 8  # some fall behind the end
    intervals = rng.normal(1.0, _SLIP, count) / frequency  # (K,) s
    intervals[0] = rng.random() * min(1 / frequency, 0.9 * seconds)
    return impulses(np.cumsum(intervals), rng.lognormal(0, _UNEVEN, count), samples, sample_rate)


METHOD = Bearing
