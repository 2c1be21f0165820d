"""How two machines sound, healthy and worn: the physics behind the synthetic data set.

A fan is order-locked: tones at multiples of the shaft's and the blades' frequency, and flow noise
that the blades modulate. A valve is a pattern in time: an opening and a closing click, each a few
decaying resonances, and a puff of air between them. Each fault is the mechanism an engineer listens
for, and its severity sets how far it stands out. Levels are chosen, not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.fft import irfft, rfft
from scipy.signal import lfilter

Wave = NDArray[np.float64]
Band = tuple[float, float]  # lower and upper edge, Hz

SAMPLE_RATE = 16_000  # Hz, the task's own
BLADES = 7  # of the fan
BEARING_ORDER = 3.585  # outer-race impacts a shaft turn: deep-groove bearing 6205, its geometry
BEARING_RESONANCE = 3_000.0  # Hz, the housing that the impacts make ring

# (Hz, seconds to 1/e, gain) of each resonance that a click excites
_OPENING = ((1_800.0, 0.006, 1.0), (4_200.0, 0.003, 0.6))
_CLOSING = ((1_100.0, 0.010, 1.0), (2_900.0, 0.004, 0.5))
_RATTLE = ((5_200.0, 0.003, 1.0), (3_500.0, 0.004, 0.7))


@dataclass(frozen=True)
class Fault:
    """What is wrong with a machine, and how badly.

    Attributes
    ----------
    kind
        One of the machine's `faults`.
    severity
        In [0, 1]: from hardly audible to plain.
    """

    kind: str
    severity: float


class Operation(Protocol):
    """A machine at one operating point; its fields are the attributes in a clip's name."""

    faults: ClassVar[tuple[str, ...]]

    def sound(self, rng: Generator, samples: int, fault: Fault | None = None) -> Wave:
        """Return (samples,) of the machine alone at 16 kHz, RMS 1; no fault is a healthy one."""
        ...


@dataclass(frozen=True)
class Fan:
    """An axial fan of seven blades.

    Attributes
    ----------
    speed
        Of the shaft, revolutions a minute.
    """

    speed: int
    faults: ClassVar[tuple[str, ...]] = ("bearing", "imbalance", "rubbing")

    def sound(self, rng: Generator, samples: int, fault: Fault | None = None) -> Wave:
        """Return (samples,) of the fan alone at 16 kHz, RMS 1."""
        turns = self._turns(rng, samples)  # (T,) revolutions
        flow = coloured_noise(rng, samples, rng.normal(-4.5, 0.4), (150.0, 6_000.0))
        flow *= 1 + 0.3 * np.cos(2 * np.pi * BLADES * turns)
        healthy = unit_rms(_tones(rng, turns)) + 0.9 * _jitter(rng, 1.5) * flow
        if fault is None:
            return unit_rms(healthy)
        worn, quiet, loud = _FAN_FAULTS[fault.kind]
        level = _ratio(quiet + (loud - quiet) * fault.severity)
        return unit_rms(unit_rms(healthy) + level * worn(rng, turns))

    def _turns(self, rng: Generator, samples: int) -> Wave:
        offset = rng.normal(0, 0.003)  # a controller holds a speed within half a per cent
        wander = 0.002 * _slow(rng, samples, 0.5)  # (T,)
        speed = (1 + offset + wander) * self.speed / 60  # (T,) Hz
        return np.cumsum(speed) / SAMPLE_RATE + rng.random()


@dataclass(frozen=True)
class Valve:
    """A solenoid valve that opens and closes at a fixed interval.

    Attributes
    ----------
    interval
        Between two openings, milliseconds.
    pressure
        Of the air behind it, bar: moves the puff of air and the closing click.
    """

    interval: int
    pressure: int
    faults: ClassVar[tuple[str, ...]] = ("leak", "sluggish", "rattle")

    def sound(self, rng: Generator, samples: int, fault: Fault | None = None) -> Wave:
        """Return (samples,) of the valve alone at 16 kHz, RMS 1."""
        amount = {fault.kind: fault.severity} if fault else {}
        slow = amount.get("sluggish", 0.0)
        opens, closes = self._actuations(rng, samples, 0.3 * slow)  # (K,) s each
        force = np.sqrt(self.pressure / 4) * _ratio(-12 * slow)
        sound = _jitter(rng, 1.0) * _strikes(rng, opens, samples, _OPENING)
        sound += force * _jitter(rng, 1.0) * _strikes(rng, closes, samples, _CLOSING)
        hiss = coloured_noise(rng, samples, 0.0, (1_500.0, 7_000.0))  # (T,)
        puffs = self.pressure / 4 * _jitter(rng, 1.5) * _puffs(opens, samples)  # (T,)
        sound = unit_rms(sound + 0.2 * puffs * hiss)
        if "leak" in amount:
            sound += _ratio(-20 + 16 * amount["leak"]) * hiss
        if "rattle" in amount:
            bounces = (opens[:, None] + rng.gamma(2.0, 0.015, (len(opens), 8))).ravel()  # (8K,) s
            worn = unit_rms(_strikes(rng, bounces, samples, _RATTLE))
            sound += _ratio(-20 + 16 * amount["rattle"]) * worn
        return unit_rms(sound)

    def _actuations(self, rng: Generator, samples: int, delay: float) -> tuple[Wave, Wave]:
        period = self.interval / 1000  # s
        count = int(samples / SAMPLE_RATE / period)
        opens = period * (np.arange(count) + rng.uniform(0, 0.3) + rng.normal(0, 0.01, count))
        return opens, opens + period * (0.4 + delay + rng.normal(0, 0.01, count))


@dataclass(frozen=True)
class Place:
    """Where a machine is recorded: the background noise.

    Attributes
    ----------
    slope
        Of the spectrum, dB an octave.
    band
        Lower and upper edge, Hz.
    gusts
        How much its level swings, as a share of the level.
    """

    slope: float
    band: Band
    gusts: float

    def sound(self, rng: Generator, samples: int) -> Wave:
        """Return (samples,) of background at 16 kHz, RMS 1."""
        level = np.exp(self.gusts * _slow(rng, samples, 1.0))  # (T,)
        slope = self.slope + rng.normal(0, 0.4)
        return unit_rms(level * coloured_noise(rng, samples, slope, self.band))


def coloured_noise(rng: Generator, samples: int, slope: float, band: Band) -> Wave:
    """Make Gaussian noise with a sloping, band-limited spectrum.

    Parameters
    ----------
    rng
        Where the randomness comes from.
    samples
        Length at 16 kHz.
    slope
        Inside the band, dB an octave.
    band
        Lower and upper edge, Hz, with skirts of 24 dB an octave.

    Returns
    -------
    Wave
        (samples,) float64, RMS 1.
    """
    frequency = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)  # (F,) Hz
    frequency[0] = frequency[1]
    skirts = (1 + (band[0] / frequency) ** 8) * (1 + (frequency / band[1]) ** 8)  # (F,)
    gain = frequency ** (slope / (20 * np.log10(2))) / np.sqrt(skirts)  # (F,)
    return unit_rms(irfft(gain * rfft(rng.standard_normal(samples)), samples))


def unit_rms(wave: Wave) -> Wave:
    """Scale (T,) to a root mean square of 1."""
    return wave / np.sqrt(np.mean(wave**2))


def _ratio(decibel: float) -> float:
    return float(10 ** (decibel / 20))


def _jitter(rng: Generator, decibel: float) -> float:
    return _ratio(rng.normal(0, decibel))


def _slow(rng: Generator, samples: int, rate: float) -> Wave:
    """Return (samples,) of a slow random course of about RMS 1, `rate` bends a second."""
    knots = rng.standard_normal(int(samples / SAMPLE_RATE * rate) + 2)  # (K,)
    return np.interp(np.linspace(0, len(knots) - 1, samples), np.arange(len(knots)), knots)


def _tones(rng: Generator, turns: Wave) -> Wave:
    """Sum the first four harmonics of the shaft and of the blades: (T,) turns to (T,)."""
    shaft = [(order, 0.3 / order) for order in range(1, 5)]
    blades = [(BLADES * order, 1 / order) for order in range(1, 5)]
    return sum(
        (
            gain * _jitter(rng, 1.5) * np.cos(2 * np.pi * (order * turns + rng.random()))
            for order, gain in shaft + blades
        ),
        np.zeros_like(turns),
    )


def _bearing(rng: Generator, turns: Wave) -> Wave:
    """Impacts of the rollers on a pit in the outer race, slipping by a per cent."""
    passes = BEARING_ORDER * turns  # (T,) rollers that have passed the pit
    hits = np.arange(np.ceil(passes[0]), passes[-1])
    hits = np.searchsorted(passes, hits + rng.normal(0, 0.01, len(hits)))  # (H,) samples
    resonance = BEARING_RESONANCE * _jitter(rng, 0.3)
    return unit_rms(_ring(_impulses(rng, hits, len(turns)), resonance, 0.002))


def _imbalance(rng: Generator, turns: Wave) -> Wave:
    """Return the shaft's own line, which also shakes the flow and so modulates it."""
    shake = np.cos(2 * np.pi * (turns + rng.random()))  # (T,)
    flow = coloured_noise(rng, len(turns), -4.5, (150.0, 6_000.0))
    return unit_rms(shake * (1 + 0.5 * flow))


def _rubbing(rng: Generator, turns: Wave) -> Wave:
    """Return a burst of scraping, a tenth of each turn long."""
    scrape = coloured_noise(rng, len(turns), 0.0, (1_000.0, 4_000.0))
    return unit_rms(scrape * (turns % 1 < 0.1))


# mechanism, and its level against the healthy sound at severity 0 and 1, dB
_FAN_FAULTS: dict[str, tuple[Callable[[Generator, Wave], Wave], float, float]] = {
    "bearing": (_bearing, -20.0, -6.0),
    "imbalance": (_imbalance, -12.0, 2.0),
    "rubbing": (_rubbing, -20.0, -6.0),
}


def _strikes(
    rng: Generator, times: Wave, samples: int, modes: Sequence[tuple[float, float, float]]
) -> Wave:
    """Let clicks at (K,) seconds ring in resonances of (Hz, s, gain): (samples,)."""
    impulses = _impulses(rng, np.rint(times * SAMPLE_RATE).astype(np.int64), samples)
    return sum(
        (gain * _ring(impulses, hertz * _jitter(rng, 0.15), decay) for hertz, decay, gain in modes),
        np.zeros(samples),
    )


def _puffs(opens: Wave, samples: int) -> Wave:
    """Return the (samples,) level of the air that each opening lets out, fading within 60 ms."""
    starts = np.rint(opens * SAMPLE_RATE).astype(np.int64)
    impulses = np.bincount(starts[starts < samples], minlength=samples)
    return np.asarray(lfilter([1.0], [1.0, -np.exp(-1 / (0.06 * SAMPLE_RATE))], impulses))


def _impulses(rng: Generator, where: NDArray[np.int64], samples: int) -> Wave:
    """Return (samples,) of zeros with impulses at (K,) samples that differ by some 20 per cent."""
    strength = rng.lognormal(0, 0.2, len(where))
    inside = (where >= 0) & (where < samples)
    return np.bincount(where[inside], strength[inside], samples)


def _ring(impulses: Wave, hertz: float, decay: float) -> Wave:
    """Answer (T,) impulses with exp(-t / decay) sin(2 pi hertz t): a two-pole resonator."""
    radius = np.exp(-1 / (decay * SAMPLE_RATE))
    angle = 2 * np.pi * hertz / SAMPLE_RATE
    feedback = [1.0, -2 * radius * np.cos(angle), radius**2]
    return np.asarray(lfilter([0.0, radius * np.sin(angle)], feedback, impulses))
