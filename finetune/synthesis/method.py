"""Base of the methods of synthesis: what they take, return and draw, and their names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, cast

import numpy as np
from numpy.random import Generator

from cache.base.errors import AsdError
from cache.base.options import Span
from cache.base.plugins import Plugins
from extractors.audio.waves import Wave, rms

# The largest that 16 bits hold; libsndfile writes 1.0 as this integer.
PEAK = (2**15 - 1) / 2**15


def levelled(wave: Wave, like: Wave) -> tuple[Wave, float]:
    """Bring a wave to the level of another, and below it where 16 bits would not hold its peaks.

    Loudness alone must not tell a synthetic clip from the one it was made of.

    Parameters
    ----------
    wave
        (T,), not silent.
    like
        Of the wanted RMS, full scale 1.

    Returns
    -------
    wave, lowered
        (T,) in [-`PEAK`, `PEAK`]; how much lower than wanted it is, dB, 0 where nothing would clip.
    """
    scaled = wave * (rms(like) / rms(wave))
    excess = float(np.abs(scaled).max() / PEAK)
    if excess <= 1:
        return scaled, 0.0
    return np.asarray(scaled / excess), 20 * float(np.log10(excess))


_FILES = ("changes", "faults", "text_to_audio")  # each with a table of its methods
_METHODS = Plugins("", "method of synthesis", shared=tuple(f"finetune.synthesis.{one}" for one in _FILES))

Parameters = dict[str, float | str]


def draw(rng: Generator, span: Span) -> float:
    """Draw from a range, every value as likely."""
    return float(rng.uniform(span.low, span.high))


def draw_ratio(rng: Generator, span: Span) -> float:
    """Draw from a range above 0, every ratio as likely: for frequencies and times."""
    return math.exp(rng.uniform(math.log(span.low), math.log(span.high)))


@dataclass(frozen=True)
class Material:
    """The recordings that one sound is made of.

    Attributes
    ----------
    waves
        `Method.clips` waveforms, (T,) float64 each, of one rate, none silent; the first gives the
        result its length and level.
    sample_rate
        Hz.
    machine_type
        What was recorded.
    condition
        What the result is to be taken for: ``normal`` or ``anomaly``.
    attributes
        Operating conditions of the first clip.
    """

    waves: tuple[Wave, ...]
    sample_rate: int
    machine_type: str = ""
    condition: str = "anomaly"
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def wave(self) -> Wave:
        """The first waveform, (T,)."""
        return self.waves[0]


@dataclass(frozen=True, eq=False)
class SyntheticSound:
    """A sound and what was drawn for it.

    Attributes
    ----------
    wave
        (T,) float64, of any level.
    parameters
        Name to value: what it takes to describe the sound.
    """

    wave: Wave
    parameters: Parameters


class Method(Protocol):
    """A way to make a sound.

    An implementation is a frozen dataclass whose options are its parameters, most of them ranges
    that are drawn from anew for every clip.
    """

    clips: ClassVar[int]  # recordings that one sound is made of
    is_fault: ClassVar[bool]  # whether the result cannot pass for a normal sound

    def apply(self, rng: Generator, material: Material) -> SyntheticSound:
        """Make one sound, the same for the same state of `rng`."""


class MethodUnavailable(AsdError):  # noqa: N818 - named for what is told
    """A method that can make no sound here, whatever the recording."""


def names() -> list[str]:
    """Names to choose from; none of them is imported."""
    return _METHODS.names()


def find(name: str) -> type[Method]:
    """Import one method.

    Raises
    ------
    AsdError
        If there is none of that name.
    """
    return cast(type[Method], _METHODS.part(name))
