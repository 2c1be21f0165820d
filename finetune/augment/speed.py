"""Speed perturbation: faster and higher, or slower and lower, as a machine at another speed."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, Tensor

from cache.base.options import Span, option
from extractors.device import torchaudio
from finetune.data.augmentation import WaveformAugmentation
from finetune.data.draws import fitted, uniform

# Zero crossings of the interpolating sinc: torchaudio's usual 6 leak -47 dB.
_WIDTH = 64


@dataclass(frozen=True)
class Speed(WaveformAugmentation):
    """``x(f t)``: Ko et al. 2015, "Audio augmentation for speech recognition".

    The factor f is drawn in steps of 0.01, which keeps the resampler's filters small. A clip that
    became longer is cut at random, one that became shorter goes on from its beginning; see
    `fitted`.
    """

    factor: Span = option(Span(0.9, 1.1), "range of the factor f", least=0.5, most=2.0)

    def change(self, waveforms: Tensor, generator: Generator) -> Tensor:
        """See `WaveformAugmentation.change`."""
        low, high = (round(100 * end) for end in self.factor)
        draws = uniform(len(waveforms), generator, Span(low, high + 1)).floor().clamp(low, high)
        changed = waveforms.clone()
        for percent in sorted(set(draws.tolist())):
            rows = (draws == percent).nonzero()[:, 0].to(waveforms.device)
            faster = torchaudio().functional.resample(
                waveforms[rows], int(percent), 100, lowpass_filter_width=_WIDTH
            )
            changed[rows] = fitted(faster, waveforms.shape[1], generator)
        return changed


AUGMENTATION = Speed
