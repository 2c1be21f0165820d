"""A part of each clip, another one each time."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Generator

from cache.options import option
from finetune.augmentation import Augmentation, Batch
from finetune.lengths import cropped


@dataclass(frozen=True)
class Crop(Augmentation):
    """Cuts clips to a length, each from a beginning of its own; shorter ones stay as they are."""

    samples: int = option(160_000, "length wanted, at the backbone's rate", least=1, most=2**31)

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """See `Augmentation.__call__`."""
        length = min(self.samples, batch.waveforms.shape[1])
        return replace(batch, waveforms=cropped(batch.waveforms, length, generator))


AUGMENTATION = Crop
