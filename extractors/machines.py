"""How two machines sound, healthy and worn: the physics behind the synthetic data set.

A fan is order-locked: tones at multiples of the shaft's and of the blades' frequency, and flow noise that
the blades modulate. A valve is a pattern in time: an opening and a closing click, each a few decaying
resonances, with a puff of air between them. Every fault is the mechanism that a maintenance engineer
listens for, at a level that its severity sets against the healthy sound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.fft import irfft, rfft
from scipy.signal import lfilter

Wave = NDArray[np.float64]

SAMPLE_RATE = 16_000  # Hz, the task's own
BLADES = 7  # of the fan
BEARING_ORDER = 3.585  # outer-race impacts a shaft turn, deep-groove bearing 6205
BEARING_RESONANCE = 3_000.0  # Hz, the housing that the impacts make ring


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
        """Return (samples,) of the machine alone at 16 kHz, RMS 1."""
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
        """Return the fan alone.

        Parameters
        ----------
        rng
            The clip's own randomness.
        samples
            Length of the clip at 16 kHz.
        fault
            ``None`` for a healthy fan.

        Returns
        -------
        Wave
            (samples,) float64, RMS 1.
        """
        turns = self._turns(rng, samples)  # (T,) revolutions since an arbitrary start
        flow = coloured_noise(rng, samples, rng.normal(-4.5, 0.5), (150.0, 6_000.0))
        flow *= 1 + 0.3 * np.cos(2 * np.pi * BLADES * turns)
        healthy = unit_rms(_tones(rng, turns) + 0.9 * _jitter(rng, 1.5) * flow)
        if fault is None:
            return healthy
        part, quiet, loud = _FAN_FAULTS[fault.kind]
        level = _ratio(quiet + (loud - quiet) * fault.severity)
        return unit_rms(healthy + level * unit_rms(part(rng, turns, healthy)))

    def _turns(self, rng: Generator, samples: int) -> Wave:
        offset = rng.normal(0, 0.004)  # a controller holds a speed within half a per cent
        wander = 0.002 * _slow(rng, samples, 0.5)  # (T,)
        turns = np.cumsum((1 + offset + wander) * self.speed / 60 / SAMPLE_RATE)  # (T,)
        return turns + rng.random()


@dataclass(frozen=True)
class Valve:
    """A solenoid valve that opens and closes at a fixed interval.

    Attributes
    ----------
    interval
        Between two openings, milliseconds.
    pressure
        Of the air behind it, bar.
    """

    interval: int
    pressure: int
    faults: ClassVar[tuple[str, ...]] = ("leak", "sluggish", "rattle")

    def sound(self, rng: Generator, samples: int, fault: Fault | None = None) -> Wave:
        """Return the valve alone.

        Parameters
        ----------
        rng
            The clip's own randomness.
        samples
            Length of the clip at 16 kHz.
        fault
            ``None`` for a healthy valve.

        Returns
        -------
        Wave
            (samples,) float64, RMS 1.
        """
        severity = dict.fromkeys(self.faults, 0.0)
        if fault is not None:
            severity[fault.kind] = fault.severity
        opens, closes = self._actuations(rng, samples, 0.25 * severity["sluggish"])  # (K,) s each
        gain = np.sqrt(self.pressure) * _ratio(-12 * severity["sluggish"])
        sound = _strikes(rng, opens, samples, _OPENING) * _jitter(rng, 1.0)
        sound += gain * _strikes(rng, closes, samples, _CLOSING) * _jitter(rng, 1.0)
        sound += 0.1 * self.pressure * _jitter(rng, 1.5) * _puffs(rng, opens, closes, samples)
        healthy = unit_rms(sound)
        if fault is None or fault.kind == "sluggish":
            return healthy
        part, quiet, loud = _VALVE_FAULTS[fault.kind]
        level = _ratio(quiet + (loud - quiet) * fault.severity)
        return unit_rms(healthy + level * unit_rms(part(rng, opens, samples)))

    def _actuations(self, rng: Generator, samples: int, delay: float) -> tuple[Wave, Wave]:
        period = self.interval / 1000  # s
        count = int(np.ceil(samples / SAMPLE_RATE / period))
        opens = period * (np.arange(count) + rng.random() + rng.normal(0, 0.01, count))
        closes = opens + period * (0.4 + delay + rng.normal(0, 0.01, count))
        return opens, closes


@dataclass(frozen=True)
class Noise:
    """A place to record in.

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
    band: tuple[float, float]
    gusts: float

    def sound(self, rng: Generator, samples: int) -> Wave:
        """Return (samples,) of background, RMS 1."""
        level = np.exp(self.gusts * _slow(rng, samples, 1.0))  # (T,)
        slope = self.slope + rng.normal(0, 0.4)
        return unit_rms(level * coloured_noise(rng, samples, slope, self.band))


NOISES: Mapping[str, Noise] = MappingProxyType(
    {
        "factory": Noise(-3.0, (60.0, 6_000.0), 0.15),
        "wind": Noise(-5.0, (40.0, 7_000.0), 0.40),
        "street": Noise(-4.0, (80.0, 4_000.0), 0.30),
    }
)


def coloured_noise(rng: Generator, samples: int, slope: float, band: tuple[float, float]) -> Wave:
    """Gaussian noise with a sloping, band-limited spectrum.

    Parameters
    ----------
    rng
        Source of the noise.
    samples
        Length at 16 kHz.
    slope
        dB an octave inside the band.
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
    """Scale to a root mean square of 1; shape (T,) as given."""
    return wave / np.sqrt(np.mean(wave**2))


def _ratio(decibel: float) -> float:
    return float(10 ** (decibel / 20))


def _jitter(rng: Generator, decibel: float) -> float:
    return _ratio(rng.normal(0, decibel))


def _slow(rng: Generator, samples: int, rate: float) -> Wave:
    """Return (samples,) of a smooth random course, RMS about 1, with `rate` knots a second."""
    knots = rng.standard_normal(int(samples / SAMPLE_RATE * rate) + 2)
    return np.interp(np.linspace(0, len(knots) - 1, samples), np.arange(len(knots)), knots)


def _tones(rng: Generator, turns: Wave) -> Wave:
    """Sum shaft harmonics 1-4 and blade-pass harmonics 1-4; (T,) turns to (T,)."""
    shaft = [(order, 0.25 / order) for order in range(1, 5)]
    blade = [(BLADES * order, 1.0 / order) for order in range(1, 5)]
    total = np.zeros_like(turns)
    for order, gain in shaft + blade:
        phase = 2 * np.pi * (order * turns + rng.random())  # (T,) rad
        total += gain * _jitter(rng, 2.0) * np.cos(phase)
    return total


def _bearing(rng: Generator, turns: Wave, _: Wave) -> Wave:
    """Impacts at the outer-race frequency, slipping by a per cent, on a resonance."""
    passes = BEARING_ORDER * turns  # (T,) rollers that have passed
    hits = np.arange(np.ceil(passes[0]), passes[-1]) + rng.normal(0, 0.01, _count(passes))
    impulses = np.zeros_like(turns)
    where = np.searchsorted(passes, hits).clip(0, len(turns) - 1)  # (H,) samples
    np.add.at(impulses, where, rng.lognormal(0, 0.2, len(where)))
    return _ring(impulses, BEARING_RESONANCE * _jitter(rng, 0.3), 0.002)
