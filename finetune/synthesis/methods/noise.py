"""Noise of a place at a signal-to-noise ratio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from numpy.random import Generator

from cache.base.options import Span, option
from extractors.demo.waves import coloured_noise
from finetune.synthesis.levels import added
from finetune.synthesis.method import Material, SyntheticSound, draw

_LOWEST = 40.0  # Hz; below, microphones of the task record next to nothing


@dataclass(frozen=True)
class Noise:
    """Gaussian noise whose spectrum falls or rises by the octave."""

    snr: Span = option(Span(0.0, 15.0), "RMS of the clip against that of the noise, dB",
                        least=-40.0, most=60.0)  # fmt: skip
    slope: Span = option(Span(-6.0, 0.0), "dB an octave: 0 is white, -3 pink", least=-12.0, most=12.0)

    clips: ClassVar[int] = 1
    is_fault: ClassVar[bool] = False

    def apply(self, rng: Generator, material: Material) -> SyntheticSound:
        """Add noise; see `Method`."""
        snr, slope, rate = draw(rng, self.snr), draw(rng, self.slope), material.sample_rate
        noise = coloured_noise(rng, len(material.wave), slope, (_LOWEST, rate / 2), rate)
        return SyntheticSound(added(material.wave, noise, -snr), {"snr": snr, "slope": slope})


METHOD = Noise
