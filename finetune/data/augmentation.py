"""Base classes of augmentations, and the batch of clips and labels that they change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from cache.base import options
from cache.base.options import option
from finetune.data import AUGMENTATIONS
from finetune.data.signals import chosen


@dataclass(frozen=True)
class Mixture:
    """Soft labels of at most two classes: ``weight`` of `first`, ``1 - weight`` of `second`.

    Attributes
    ----------
    first, second
        (B,) int64 class numbers from 0; the same for a clip that is not mixed.
    weight
        (B,) float32 in [0, 1].
    """

    first: Tensor
    second: Tensor
    weight: Tensor

    @classmethod
    def plain(cls, classes: Tensor) -> Mixture:
        """Labels of clips that are not mixed, from (B,) int64."""
        return cls(classes, classes, torch.ones(len(classes), device=classes.device))

    @property
    def is_plain(self) -> bool:
        """Whether no clip has two classes."""
        return bool((self.first == self.second).all())

    def average(self, values: Tensor) -> Tensor:
        """Weigh what (B, K) holds for the two classes of each clip: (B,)."""
        first = values.gather(1, self.first[:, None])[:, 0]
        second = values.gather(1, self.second[:, None])[:, 0]
        # `lerp` gives `first` to the last bit where both are the same.
        return torch.lerp(second, first, self.weight.to(values.dtype))

    def to(self, device: torch.device) -> Mixture:
        """Move to a device."""
        return Mixture(self.first.to(device), self.second.to(device), self.weight.to(device))


@dataclass(frozen=True)
class Batch:
    """Training clips on their way to the network.

    Attributes
    ----------
    waveforms
        (B, T) float32, nominally in [-1, 1].
    labels
        Of the B clips.
    machines
        (B,) int64, the same number for clips of the same machine type.
    classes
        K, the number of classes before any augmentation adds one.
    """

    waveforms: Tensor
    labels: Mixture
    machines: Tensor
    classes: int


class Augmentation(options.Options, ABC):
    """Changes a batch; its dataclass fields are its options, out of range they raise `AsdError`.

    All that is random comes from the generator handed over: a CPU's gives the same batch each
    time, and the same draws for a batch on a GPU.
    """

    @property
    def extra_classes(self) -> int:
        """How many classes it adds behind the K of the data."""
        return 0

    @abstractmethod
    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """Return the changed batch; the one handed over stays as it is."""


@dataclass(frozen=True)
class WaveformAugmentation(Augmentation, ABC):
    """Changes each clip by itself, with probability `p`, and keeps its length and label."""

    p: float = option(0.5, "probability that a clip is changed", least=0.0, most=1.0)

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """See `Augmentation.__call__`."""
        rows = chosen(len(batch.waveforms), self.p, generator)
        if not len(rows):
            return batch
        waveforms = batch.waveforms.clone()
        waveforms[rows] = self.change(batch.waveforms[rows], generator)
        return replace(batch, waveforms=waveforms)

    @abstractmethod
    def change(self, waveforms: Tensor, generator: Generator) -> Tensor:
        """Change all of (B, T) float32, B >= 1, to the same shape."""


class SpectrogramAugmentation(options.Options, ABC):
    """Changes spectrograms on their way to the network; options as in `Augmentation`."""

    @abstractmethod
    def __call__(self, spectrograms: Tensor, axes: tuple[int, int], generator: Generator) -> Tensor:
        """Return changed spectrograms.

        Parameters
        ----------
        spectrograms
            Clips along the first axis.
        axes
            The time axis and the frequency axis.
        generator
            Of all that is random.
        """


@dataclass(frozen=True)
class Augmentations:
    """Several augmentations, in the order named.

    Attributes
    ----------
    texts
        Each with all its options, as `parse` reads them: for the record.
    of_batches, of_spectrograms
        The augmentations by what they change.
    """

    texts: tuple[str, ...] = ()
    of_batches: tuple[Augmentation, ...] = ()
    of_spectrograms: tuple[SpectrogramAugmentation, ...] = ()

    @property
    def extra_classes(self) -> int:
        """How many classes the head needs behind the K of the data."""
        return sum(made.extra_classes for made in self.of_batches)

    def batch(self, batch: Batch, generator: Generator) -> Batch:
        """Change a batch."""
        for augmentation in self.of_batches:
            batch = augmentation(batch, generator)
        return batch

    def spectrograms(self, values: Tensor, axes: tuple[int, int], generator: Generator) -> Tensor:
        """Change spectrograms; see `SpectrogramAugmentation.__call__`."""
        for augmentation in self.of_spectrograms:
            values = augmentation(values, axes, generator)
        return values


def parse(texts: Sequence[str]) -> Augmentations:
    """Read ``NAME[:option=value...]`` each, as ``noise:snr=0..20:exponent=1``.

    Raises
    ------
    AsdError
        If an augmentation, an option or a value is unknown; the known ones are listed.
    """
    made: list[Augmentation | SpectrogramAugmentation] = [
        options.parse(text, AUGMENTATIONS.part) for text in texts
    ]
    pairs = zip(texts, made, strict=True)
    return Augmentations(
        tuple(options.text_of(text.strip().partition(":")[0], one) for text, one in pairs),
        tuple(one for one in made if isinstance(one, Augmentation)),
        tuple(one for one in made if isinstance(one, SpectrogramAugmentation)),
    )
