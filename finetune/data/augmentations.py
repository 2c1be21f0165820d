"""The augmentations there are: of waveforms, of several clips, of spectrograms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Generator, Tensor

from cache.base.errors import AsdError
from cache.base.options import Span, option
from extractors.audio.waves import at_speed, mixed, rms
from finetune.data.augmentation import (
    Augmentation,
    Batch,
    Mixture,
    SpectrogramAugmentation,
    WaveformAugmentation,
)
from finetune.data.signals import (
    SHORTEST,
    at_pitch,
    beta,
    chosen,
    coloured,
    partners,
    played,
    stripe,
    uniform,
    with_noise,
)

_SILENT = 1e-12  # a level below which nothing is to be restored


@dataclass(frozen=True)
class Noise(WaveformAugmentation):
    """Gaussian noise whose power density falls with the frequency as ``1 / f^exponent``."""

    snr: Span = option(Span(0.0, 20.0), "range of the ratio, dB", least=-40.0, most=100.0)
    exponent: float = option(1.0, "0 white, 1 pink, 2 brown, -1 blue", least=-3.0, most=3.0)

    def change(self, waveforms: Tensor, generator: Generator) -> Tensor:
        """See `WaveformAugmentation.change`."""
        white = torch.randn(waveforms.shape, generator=generator, device=generator.device)
        noise = coloured(white.to(waveforms.device), self.exponent)
        return with_noise(waveforms, noise, self.snr, generator)


@dataclass(frozen=True)
class Pitch(WaveformAugmentation):
    """Stretched in time by a phase vocoder (Flanagan and Golden 1966), then played faster.

    The vocoder takes about 3 dB from noise, whose bins lose their common phase; the level of the
    clip is restored. A clip shorter than two windows of 1024 samples has no pitch to shift and stays
    as it is.
    """

    semitones: Span = option(Span(-2.0, 2.0), "range of the shift", least=-12.0, most=12.0)

    def change(self, waveforms: Tensor, generator: Generator) -> Tensor:
        """See `WaveformAugmentation.change`."""
        if waveforms.shape[1] < SHORTEST:
            return waveforms
        ratios = 2 ** (uniform(len(waveforms), generator, self.semitones) / 12)
        shifted = played(waveforms, ratios, at_pitch, generator)
        return shifted * (rms(waveforms) / rms(shifted).clamp_min(_SILENT))


@dataclass(frozen=True)
class Speed(WaveformAugmentation):
    """``x(f t)``: Ko et al. 2015, "Audio augmentation for speech recognition".

    A clip that became longer is cut at random, one that became shorter goes on from its beginning;
    see `extractors.audio.waves.lengthened`.
    """

    factor: Span = option(Span(0.9, 1.1), "range of the factor f", least=0.5, most=2.0)

    def change(self, waveforms: Tensor, generator: Generator) -> Tensor:
        """See `WaveformAugmentation.change`."""
        factors = uniform(len(waveforms), generator, self.factor)
        return played(waveforms, factors, at_speed, generator)


@dataclass(frozen=True)
class Mixup(Augmentation):
    """``w x + (1 - w) x'``, w of Beta(alpha, alpha): see `extractors.audio.waves.mixed`.

    x' is any other clip of the batch; a batch of one stays as it is. With ``soft`` labels the mixed
    clip is a normal one of class y by w and of y' by 1 - w. With ``extra`` it belongs to class K,
    "mixed": then a small alpha, which leaves most mixtures close to one of the two, is hard to
    learn.
    """

    p: float = option(0.5, "probability that a clip is mixed", least=0.0, most=1.0)
    alpha: float = option(0.2, "both parameters of the weight's distribution", least=0.01, most=100)
    labels: Literal["soft", "extra"] = option("soft", "both classes, or one more for mixed clips")

    @property
    def extra_classes(self) -> int:
        """See `Augmentation.extra_classes`."""
        return int(self.labels == "extra")

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """See `Augmentation.__call__`."""
        if not batch.labels.is_plain:
            raise AsdError("mixup of clips that are mixed already: name it once")
        count = len(batch.waveforms)
        rows = chosen(count, self.p if count > 1 else 0.0, generator)
        weight = torch.ones(count)
        weight[rows] = beta(len(rows), self.alpha, generator)
        other = torch.arange(count)
        other[rows] = partners(~torch.eye(count, dtype=torch.bool)[rows], generator)
        weight, other = weight.to(batch.waveforms.device), other.to(batch.waveforms.device)
        waveforms = mixed(batch.waveforms, batch.waveforms[other], weight[:, None])
        first = batch.labels.first
        if self.labels == "soft":
            labels = Mixture(first, first[other], weight)
        else:
            is_mixed = other != torch.arange(count, device=other.device)
            labels = Mixture.plain(first.masked_fill(is_mixed, batch.classes))
        return replace(batch, waveforms=waveforms, labels=labels)


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
                clips, length = len(spectrograms), spectrograms.shape[axis]
                mask = stripe(clips, length, round(share * length), generator)
                shape = [clips, *[1] * (spectrograms.ndim - 1)]
                shape[axis] = length
                spectrograms = torch.where(mask.to(fill.device).view(shape), fill, spectrograms)
        return spectrograms


CHOICES = {
    "mixup": Mixup,
    "noise": Noise,
    "other-machine": OtherMachine,
    "pitch": Pitch,
    "specaugment": SpecAugment,
    "speed": Speed,
}
