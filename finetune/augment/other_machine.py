"""Another machine in the background, as in a factory."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Generator

from cache.base.options import Span, option
from finetune.data.augmentation import Augmentation, Batch
from finetune.data.draws import chosen, partners, with_noise


@dataclass(frozen=True)
class OtherMachine(Augmentation):
    """Adds a clip of another machine type of the batch as noise; the label stays.

    Where the batch has no other machine type, the clip stays as it is.
    """

    p: float = option(0.5, "probability that a clip is changed", least=0.0, most=1.0)
    snr: Span = option(Span(0.0, 20.0), "range of the ratio, dB", least=-40.0, most=100.0)

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """See `Augmentation.__call__`."""
        others = batch.machines[:, None] != batch.machines
        rows = chosen(len(others), self.p, generator)
        found = partners(others[rows], generator)
        rows, found = rows[found >= 0], found[found >= 0]
        waveforms = batch.waveforms.clone()
        clean, noise = batch.waveforms[rows], batch.waveforms[found]
        waveforms[rows] = with_noise(clean, noise, self.snr, generator)
        return replace(batch, waveforms=waveforms)


AUGMENTATION = OtherMachine
