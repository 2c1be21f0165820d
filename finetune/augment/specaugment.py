"""SpecAugment: stripes of a spectrogram are hidden."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from cache.base.options import option
from finetune.data.augmentation import SpectrogramAugmentation
from finetune.data.draws import uniform


@dataclass(frozen=True)
class SpecAugment(SpectrogramAugmentation):
    """Time and frequency masks of Park et al. 2019 (arXiv 1904.08779), section 2; no time warp.

    A mask's width is drawn from 0 to a share of the axis, then its place; masks may overlap. Masked
    values become the spectrogram's mean, which is the paper's 0 of normalised spectrograms. Two
    masks an axis are the paper's policy LD; the widths are of our choice, because stationary
    sounds bear less masking of frequencies than speech.
    """

    time: float = option(0.1, "widest time mask, share of the axis", least=0.0, most=1.0)
    time_masks: int = option(2, "time masks a clip", least=0, most=100)
    frequency: float = option(0.1, "widest frequency mask, share of the axis", least=0.0, most=1.0)
    frequency_masks: int = option(2, "frequency masks a clip", least=0, most=100)

    def __call__(self, spectrograms: Tensor, axes: tuple[int, int], generator: Generator) -> Tensor:
        """See `SpectrogramAugmentation.__call__`."""
        fill = spectrograms.flatten(1).mean(1).view(-1, *[1] * (spectrograms.ndim - 1))
        widths = ((self.time, self.time_masks), (self.frequency, self.frequency_masks))
        for axis, (share, count) in zip(axes, widths, strict=True):
            for _ in range(count):
                mask = _mask(len(spectrograms), spectrograms.shape[axis], share, generator)
                shape = [len(spectrograms), *[1] * (spectrograms.ndim - 1)]
                shape[axis] = spectrograms.shape[axis]
                spectrograms = torch.where(mask.to(fill.device).view(shape), fill, spectrograms)
        return spectrograms


def _mask(clips: int, length: int, share: float, generator: Generator) -> Tensor:
    """One stripe a clip: (clips, length) bool."""
    widest = round(share * length)
    width = (uniform(clips, generator) * (widest + 1)).long()
    start = (uniform(clips, generator) * (length - width + 1)).long()
    places = torch.arange(length, device=start.device)
    return (places >= start[:, None]) & (places < (start + width)[:, None])


AUGMENTATION = SpecAugment
