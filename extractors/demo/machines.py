"""How two machines sound, healthy and worn: the physics behind the synthetic data set.

A fan is order-locked: tones at multiples of the shaft's and of the blades' frequency, and flow
noise that the blades modulate. A valve is a pattern in time: an opening and a closing click, each a
few decaying resonances, with a puff of air between them. Every fault is the mechanism that a
maintenance engineer listens for, at a level that its severity sets against the healthy sound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Protocol

import numpy as np
from numpy.random import Generator

from extractors.audio.waves import (
    SAMPLE_RATE,
    Wave,
    coloured_noise,
    impulses,
    jitter,
    ratio,
    ring,
    slow,
    smooth,
    unit_rms,
)

BLADES = 7  # of the fan
BEARING_ORDER = 3.585  # outer-race impacts a shaft turn, deep-groove bearing 6205
BEARING_RESONANCE = 3_000.0  # Hz, the housing that the impacts make ring


@dataclass(frozen=True)
class MachineFault:
    """A fault of a machine, and its severity.

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

    def sound(self, rng: Generator, samples: int, fault: MachineFault | None = None) -> Wave:
        """Return the machine alone.

        Parameters
        ----------
        rng
            The clip's own randomness.
        samples
            Length of the clip at 16 kHz.
        fault
            ``None`` for a healthy machine.

        Returns
        -------
        Wave
            (samples,) float64, RMS 1.
        """


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

    def sound(self, rng: Generator, samples: int, fault: MachineFault | None = None) -> Wave:
        """Return the fan alone, see `Operation.sound`."""
        offset = rng.normal(0, 0.004)  # a controller holds a speed within half a per cent
        wander = 0.002 * slow(rng, samples, 0.5)  # (T,)
        turns = np.cumsum((1 + offset + wander) * self.speed / 60 / SAMPLE_RATE)
        turns += rng.random()  # (T,) revolutions since an arbitrary start
        flow = coloured_noise(rng, samples, rng.normal(-4.5, 0.2), (150.0, 6_000.0))
        flow *= 1 + 0.3 * np.cos(2 * np.pi * BLADES * turns)
        tones = np.zeros_like(turns)
        for times in (1, BLADES):  # harmonics 1-4 of the shaft, then of the passing blades
            for order in range(1, 5):
                phase = 2 * np.pi * (times * order * turns + rng.random())  # (T,) rad
                tones += (0.25 if times == 1 else 1.0) / order * jitter(rng, 2.0) * np.cos(phase)
        healthy = unit_rms(tones + 0.9 * jitter(rng, 0.7) * flow)
        return healthy if fault is None else _with_fault(healthy, fault, (rng, turns))


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

    def sound(self, rng: Generator, samples: int, fault: MachineFault | None = None) -> Wave:
        """Return the valve alone, see `Operation.sound`."""
        severity = dict.fromkeys(self.faults, 0.0)
        if fault is not None:
            severity[fault.kind] = fault.severity
        opens, closes = self.actuations(rng, samples, 0.25 * severity["sluggish"])
        gain = np.sqrt(self.pressure) * ratio(-12 * severity["sluggish"])
        sound = _strikes(rng, opens, samples, _OPENING) * jitter(rng, 1.0)
        sound += gain * _strikes(rng, closes, samples, _CLOSING) * jitter(rng, 1.0)
        time = np.arange(samples) / SAMPLE_RATE
        is_open = np.searchsorted(opens, time) > np.searchsorted(closes, time)  # (T,)
        puffs = 0.1 * self.pressure * jitter(rng, 1.0)  # air that flows while it is open
        flow = coloured_noise(rng, samples, -1.0, (800.0, 7_000.0))
        sound += puffs * (unit_rms(smooth(is_open.astype(np.float64), 0.01)) * flow)
        healthy = unit_rms(sound)
        if fault is None or fault.kind == "sluggish":
            return healthy
        return _with_fault(healthy, fault, (rng, opens, samples))

    def actuations(self, rng: Generator, samples: int, delay: float) -> tuple[Wave, Wave]:
        """Draw when it opens and closes, (K,) s each; a delay is a share of the interval."""
        period = self.interval / 1000  # s
        count = int(np.ceil(samples / SAMPLE_RATE / period))
        opens = period * (np.arange(count) + rng.random() + rng.normal(0, 0.01, count))
        closes = opens + period * (0.4 + delay + rng.normal(0, 0.01, count))
        return opens, closes


@dataclass(frozen=True)
class BackgroundNoise:
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
        level = np.exp(self.gusts * slow(rng, samples, 1.0))  # (T,)
        slope = self.slope + rng.normal(0, 0.15)
        return unit_rms(level * coloured_noise(rng, samples, slope, self.band))


NOISES: Mapping[str, BackgroundNoise] = MappingProxyType(
    {
        "factory": BackgroundNoise(-3.0, (60.0, 6_000.0), 0.15),
        "wind": BackgroundNoise(-4.0, (40.0, 5_000.0), 0.15),
        "street": BackgroundNoise(-4.0, (80.0, 4_000.0), 0.15),
    }
)


def _bearing(rng: Generator, turns: Wave) -> Wave:
    """Impacts at the outer-race frequency, slipping by a per cent, on the housing's resonance."""
    passes = BEARING_ORDER * turns  # (T,) rollers that have passed
    hits = np.arange(np.ceil(passes[0]), passes[-1])  # (H,)
    slipped = hits + rng.normal(0, 0.01, len(hits))
    times = np.interp(slipped, passes, np.arange(len(passes))) / SAMPLE_RATE
    train = impulses(times, rng.lognormal(0, 0.2, len(hits)), len(turns))
    return ring(train, BEARING_RESONANCE * jitter(rng, 0.3), 0.002)


def _imbalance(rng: Generator, turns: Wave) -> Wave:
    """Shake at the first order, and modulate the blade pass with it."""
    shaft = np.cos(2 * np.pi * (turns + rng.random()))
    blade = np.cos(2 * np.pi * BLADES * (turns + rng.random()))
    return np.asarray(shaft + 0.7 * (1 + shaft) * blade)


def _rubbing(rng: Generator, turns: Wave) -> Wave:
    """Scraping noise for a tenth of every turn."""
    contact = np.exp(8 * (np.cos(2 * np.pi * (turns + rng.random())) - 1))  # (T,) 0 to 1
    return np.asarray(contact * coloured_noise(rng, len(turns), 0.0, (1_500.0, 6_500.0)))


def _strikes(rng: Generator, times: Wave, samples: int, modes: Mapping[float, tuple[float, float]]) -> Wave:
    """Impacts at (K,) times, s, on resonances: Hz to (decay in s, gain); (samples,)."""
    train = impulses(times, rng.lognormal(0, 0.1, len(times)), samples)
    parts = [gain * ring(train, hertz * jitter(rng, 0.1), decay) for hertz, (decay, gain) in modes.items()]
    return np.asarray(np.sum(parts, axis=0))


def _leak(rng: Generator, _: Wave, samples: int) -> Wave:
    """Air that hisses all the time; (samples,)."""
    return coloured_noise(rng, samples, 1.5, (2_500.0, 7_500.0))


def _rattle(rng: Generator, opens: Wave, samples: int) -> Wave:
    """Click a handful of times after every opening: a loose part; (samples,)."""
    times = (opens[:, None] + rng.uniform(0.01, 0.15, (len(opens), 6))).ravel()
    return ring(impulses(times, rng.lognormal(0, 0.4, len(times)), samples), 4_800.0, 0.0015)


# Resonances of a closing or opening valve: Hz to (decay in s, gain).
_OPENING = MappingProxyType({620.0: (0.012, 1.0), 1_750.0: (0.006, 0.6), 3_900.0: (0.003, 0.4)})
_CLOSING = MappingProxyType({480.0: (0.015, 1.0), 2_300.0: (0.005, 0.5)})

# Fault to (its sound, level in dB against the healthy machine at severity 0 and at severity 1).
_FAULTS: Mapping[str, tuple[Callable[..., Wave], float, float]] = MappingProxyType(
    {
        "bearing": (_bearing, -17.0, -2.0),
        "imbalance": (_imbalance, -11.0, 3.0),
        "rubbing": (_rubbing, -18.0, -4.0),
        "leak": (_leak, -20.0, -4.0),
        "rattle": (_rattle, -11.0, 1.0),
    }
)


def _with_fault(healthy: Wave, fault: MachineFault, heard: tuple[object, ...]) -> Wave:
    """Mix the sound of a fault, made of what it is heard in, into that of a healthy machine."""
    sound, quiet, loud = _FAULTS[fault.kind]
    level = ratio(quiet + (loud - quiet) * fault.severity)
    return unit_rms(healthy + level * unit_rms(sound(*heard)))
