"""Pitch shift: higher or lower at the same tempo."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from cache.base.options import Span, option
from finetune.data.augmentation import WaveformAugmentation
from finetune.data.draws import fitted, uniform
from finetune.data.stretch import SHORTEST, at_pitch

_SILENT = 1e-12  # a level below which nothing is to be restored


@dataclass(frozen=True)
class Pitch(WaveformAugmentation):
    """Stretched in time by a phase vocoder (Flanagan and Golden 1966), then played faster.

    The vocoder takes about 3 dB from noise, whose bins lose their common phase; the level of the
    clip is restored. Computed on the CPU, clip by clip. A clip shorter than two windows of 1024
    samples has no pitch to shift and stays as it is.
    """

    semitones: Span = option(Span(-2.0, 2.0), "range of the shift", least=-12.0, most=12.0)

    def change(self, waveforms: Tensor, generator: Generator) -> Tensor:
        """See `WaveformAugmentation.change`."""
        if waveforms.shape[1] < SHORTEST:
            return waveforms
        ratios = 2 ** (uniform(len(waveforms), generator, self.semitones) / 12)
        shifted = [
            _shifted(clip, ratio, generator)
            for clip, ratio in zip(waveforms.cpu(), ratios.tolist(), strict=True)
        ]
        return torch.cat(shifted).to(waveforms.device)


def _shifted(clip: Tensor, ratio: float, generator: Generator) -> Tensor:
    """(T,) to (1, T), all frequencies multiplied by the ratio."""
    played = torch.from_numpy(at_pitch(clip.double().numpy(), ratio)).float()
    whole = fitted(played[None], len(clip), generator)
    return whole * (_level(clip) / _level(whole).clamp_min(_SILENT))


def _level(waveform: Tensor) -> Tensor:
    return waveform.square().mean().sqrt()


AUGMENTATION = Pitch
