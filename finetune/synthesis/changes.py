"""Changes of a normal sound: speed, pitch, noise of a place, microphone, two recordings in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.random import Generator
from scipy.fft import irfft, rfft
from scipy.interpolate import CubicSpline

from cache.base.options import Span, option
from extractors.audio.waves import at_speed, coloured_noise, fitted, mixed, unit_rms, with_part
from finetune.data.signals import SHORTEST, at_pitch
from finetune.synthesis.method import Material, SyntheticSound, draw


@dataclass(frozen=True)
class SpeedChange:
    """Up or down by the same share, with equal chance; a faster clip goes on from its start."""

    change: Span = option(Span(0.03, 0.15), "share by which the speed changes", least=0.0, most=0.5)

    clips: ClassVar[int] = 1
    is_fault: ClassVar[bool] = False

    def apply(self, rng: Generator, material: Material) -> SyntheticSound:
        """Change the speed; see `Method`."""
        factor = 1 + float(rng.choice([-1, 1])) * draw(rng, self.change)
        faster = at_speed(material.wave, factor)
        return SyntheticSound(fitted(faster, len(material.wave)), {"factor": factor})


@dataclass(frozen=True)
class PitchShift:
    """Up or down by the same interval, with equal chance."""

    semitones: Span = option(Span(0.5, 2.0), "interval, semitones", least=0.0, most=12.0)

    clips: ClassVar[int] = 1
    is_fault: ClassVar[bool] = False

    def apply(self, rng: Generator, material: Material) -> SyntheticSound:
        """Shift the pitch; see `Method`."""
        semitones = float(rng.choice([-1, 1])) * draw(rng, self.semitones)
        samples = len(material.wave)
        whole = fitted(material.wave, max(samples, SHORTEST))
        shifted = at_pitch(whole, 2 ** (semitones / 12))
        return SyntheticSound(fitted(shifted, samples), {"semitones": semitones})


@dataclass(frozen=True)
class MixedPair:
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
        return SyntheticSound(mixed(unit_rms(first), other, weight), {"weight": weight})


_LOWEST = 40.0  # Hz; below, microphones of the task record next to nothing


@dataclass(frozen=True)
class AmbientNoise:
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
        return SyntheticSound(with_part(material.wave, noise, -snr), {"snr": snr, "slope": slope})


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


CHOICES = {
    "equalisation": Equalisation,
    "mixup": MixedPair,
    "noise": AmbientNoise,
    "pitch": PitchShift,
    "speed": SpeedChange,
}
