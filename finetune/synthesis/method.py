"""What a method of synthesis is, what it draws, how loud its parts are, and the methods there are."""

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
from extractors.demo.waves import Wave, ratio

# The largest that 16 bits hold; libsndfile writes 1.0 as this integer.
PEAK = (2**15 - 1) / 2**15
_FADE = 256  # samples, 16 ms at 16 kHz


def rms(wave: Wave) -> float:
    """Root mean square of a (T,) wave."""
    return float(np.sqrt(np.mean(wave**2)))


def added(wave: Wave, part: Wave, decibel: float) -> Wave:
    """Add a part whose level is given against the wave's own.

    Parameters
    ----------
    wave, part
        (T,) each, neither silent.
    decibel
        RMS of the part against RMS of the wave: what a fault's or a noise's strength is given in.

    Returns
    -------
    Wave
        (T,).
    """
    return np.asarray(wave + part * (ratio(decibel) * rms(wave) / rms(part)))


def levelled(wave: Wave, level: float) -> tuple[Wave, float]:
    """Bring a wave to a level, and below it where 16 bits would not hold its peaks.

    Loudness alone must not tell a synthetic clip from the one it was made of.

    Parameters
    ----------
    wave
        (T,), not silent.
    level
        Wanted RMS, full scale 1.

    Returns
    -------
    wave, lowered
        (T,) in [-`PEAK`, `PEAK`]; how much lower than wanted it is, dB, 0 where nothing would clip.
    """
    scaled = wave * (level / rms(wave))
    excess = float(np.abs(scaled).max() / PEAK)
    if excess <= 1:
        return scaled, 0.0
    return np.asarray(scaled / excess), 20 * float(np.log10(excess))


def fitted(wave: Wave, samples: int) -> Wave:
    """Bring a wave to a length.

    Parameters
    ----------
    wave
        (T,), T >= 1. What is longer is cut; what is shorter goes on from its start, with a
        crossfade of constant power of `_FADE` samples, because a click would be a mark.
    samples
        Wanted length.

    Returns
    -------
    Wave
        (samples,).
    """
    fade = min(_FADE, len(wave) // 2)
    angle = np.linspace(0, np.pi / 2, fade)
    whole = wave
    while len(whole) < samples:
        seam = whole[len(whole) - fade :] * np.cos(angle) + wave[:fade] * np.sin(angle)
        whole = np.concatenate([whole[: len(whole) - fade], seam, wave[fade:]])
    return whole[:samples]


_METHODS = Plugins("", "method of synthesis", kin={
    "audioldm": "finetune.synthesis.text_to_audio:AudioLDM",
    "audioldm2": "finetune.synthesis.text_to_audio:AudioLDM2",
    "bearing": "finetune.synthesis.faults:Bearing",
    "clipping": "finetune.synthesis.faults:Clipping",
    "dropouts": "finetune.synthesis.faults:Dropouts",
    "equalisation": "finetune.synthesis.changes:Equalisation",
    "harmonics": "finetune.synthesis.faults:Harmonics",
    "mixup": "finetune.synthesis.changes:MixedPair",
    "modulation": "finetune.synthesis.faults:Modulation",
    "noise": "finetune.synthesis.changes:AmbientNoise",
    "pitch": "finetune.synthesis.changes:PitchShift",
    "rubbing": "finetune.synthesis.faults:Rubbing",
    "speed": "finetune.synthesis.changes:SpeedChange",
})  # fmt: skip

Parameters = dict[str, float | str]


def draw(rng: Generator, span: Span) -> float:
    """Draw from a range, every value as likely."""
    return float(rng.uniform(span.low, span.high))


def draw_ratio(rng: Generator, span: Span) -> float:
    """Draw from a range above 0, every ratio as likely: for frequencies and times."""
    return math.exp(rng.uniform(math.log(span.low), math.log(span.high)))


@dataclass(frozen=True)
class Material:
    """What one sound is made of.

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
