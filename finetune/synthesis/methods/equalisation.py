"""Another microphone, or the same one elsewhere: a smooth change of the spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.random import Generator
from scipy.fft import irfft, rfft
from scipy.interpolate import CubicSpline

from cache.base.options import Span, option
from finetune.synthesis.method import Material, SyntheticSound, draw

_LOWEST = 62.5  # Hz, the first knot


@dataclass(frozen=True)
class Equalisation:
    """Random gains an octave apart, joined by a cubic spline over the logarithm of frequency.

    Phases stay as they are. A straight line of `tilt` is added, as of a brighter or duller
    microphone.
    """

    deviation: Span = option(Span(1.0, 4.0), "standard deviation of the gains, dB", least=0.0, most=20.0)
    tilt: Span = option(Span(-1.5, 1.5), "dB an octave", least=-12.0, most=12.0)

    clips: ClassVar[int] = 1
    is_fault: ClassVar[bool] = False

    def apply(self, rng: Generator, material: Material) -> SyntheticSound:
        """Equalise; see `Method`."""
        deviation, tilt = draw(rng, self.deviation), draw(rng, self.tilt)
        samples, rate = len(material.wave), material.sample_rate
        octaves = np.arange(max(2, int(np.log2(rate / 2 / _LOWEST)) + 2))  # (K,) from 62.5 Hz
        gains = deviation * rng.standard_normal(len(octaves)) + tilt * octaves  # (K,) dB
        frequency = np.maximum(np.fft.rfftfreq(samples, 1 / rate), _LOWEST)  # (F,) Hz
        decibel = CubicSpline(octaves, gains)(np.log2(frequency / _LOWEST))  # (F,)
        wave = irfft(10 ** (decibel / 20) * rfft(material.wave), samples)
        return SyntheticSound(np.asarray(wave), {"deviation": deviation, "tilt": tilt})


METHOD = Equalisation
