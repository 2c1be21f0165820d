"""Faults: of a machine (bearing, shaft, rotor, load), and of the recording (clipping, a loose contact)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.random import Generator

from cache.base.options import Span, option
from extractors.audio.waves import coloured_noise, impulses, jitter, ring, slow, with_part
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
        seconds = samples / material.sample_rate
        count = int(1.1 * frequency * seconds) + 8  # some fall behind the end
        intervals = rng.normal(1.0, _SLIP, count) / frequency  # (K,) s
        intervals[0] = rng.random() * min(1 / frequency, 0.9 * seconds)  # one in any case
        gains = rng.lognormal(0, _UNEVEN, count)
        train = impulses(np.cumsum(intervals), gains, samples, material.sample_rate)
        part = ring(train, resonance, decay, material.sample_rate)
        drawn = {"frequency": frequency, "resonance": resonance, "decay": decay, "level": level}
        return SyntheticSound(with_part(material.wave, part, level), dict(drawn))


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
        samples, rate = len(material.wave), material.sample_rate
        wander = _WANDER * slow(rng, samples, _KNOTS, rate)  # (T,)
        turns = np.cumsum((1 + wander) * frequency / rate)  # (T,)
        tones = np.zeros(samples)
        for order in range(1, _ORDERS + 1):
            gain, phase = jitter(rng, 3.0) / order, rng.random()
            if order == 1 or order * frequency < 0.45 * rate:  # the first in any case
                tones += gain * np.cos(2 * np.pi * (order * turns + phase))
        drawn = {"frequency": frequency, "level": level}
        return SyntheticSound(with_part(material.wave, tones, level), dict(drawn))


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
        return SyntheticSound(with_part(material.wave, part, level), dict(drawn))


@dataclass(frozen=True)
class Modulation:
    """``(1 + m cos(2 pi f t + phase)) x(t)``."""

    frequency: Span = option(Span(2.0, 40.0), "f, of the modulation, Hz", least=0.1, most=1000.0)
    depth: Span = option(Span(0.3, 0.9), "m, depth of the modulation", least=0.0, most=1.0)

    clips: ClassVar[int] = 1
    is_fault: ClassVar[bool] = True

    def apply(self, rng: Generator, material: Material) -> SyntheticSound:
        """Modulate the amplitude; see `Method`."""
        frequency, depth = draw_ratio(rng, self.frequency), draw(rng, self.depth)
        time = np.arange(len(material.wave)) / material.sample_rate + rng.random() / frequency
        swell = 1 + depth * np.cos(2 * np.pi * frequency * time)  # (T,)
        return SyntheticSound(swell * material.wave, {"frequency": frequency, "depth": depth})


@dataclass(frozen=True)
class Clipping:
    """Cut at the level that the largest samples reach."""

    share: Span = option(Span(0.02, 0.2), "of the samples, that are cut", least=0.0, most=0.9)

    clips: ClassVar[int] = 1
    is_fault: ClassVar[bool] = True

    def apply(self, rng: Generator, material: Material) -> SyntheticSound:
        """Clip; see `Method`."""
        share = draw(rng, self.share)
        limit = float(np.quantile(np.abs(material.wave), 1 - share))
        clipped = np.clip(material.wave, -limit, limit)
        return SyntheticSound(clipped if limit > 0 else material.wave, {"share": share})


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


CHOICES = {
    "bearing": Bearing,
    "clipping": Clipping,
    "dropouts": Dropouts,
    "harmonics": Harmonics,
    "modulation": Modulation,
    "rubbing": Rubbing,
}
