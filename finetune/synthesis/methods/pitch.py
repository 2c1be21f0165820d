"""The same recording higher or lower at its own tempo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from numpy.random import Generator

from cache.base.options import Span, option
from finetune.data.stretch import SHORTEST, at_pitch
from finetune.synthesis.levels import fitted
from finetune.synthesis.method import Material, SyntheticSound, draw


@dataclass(frozen=True)
class Pitch:
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


METHOD = Pitch
