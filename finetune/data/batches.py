"""Batches of training clips: cut, augmented, labelled."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.table import ANOMALY
from extractors.backbone import Inputs, Tunable
from finetune.data.augmentation import Augmentations, Batch, Mixture
from finetune.data.sampling import Sampler
from finetune.data.waveforms import Waveforms


def seed_of(*numbers: int) -> int:
    """Make a seed of several numbers, so that no two of their combinations share one."""
    digest = hashlib.sha256(repr(numbers).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True)
class Batches:
    """The data of a training.

    Attributes
    ----------
    waveforms
        N training clips.
    classes
        (N,) int64, their classes from 0.
    count
        K, number of classes before augmentation.
    rows
        Which clips are trained on.
    sampler, augmentations
        How often each is shown, and how changed.
    samples
        Length shown, at the backbone's rate.
    seed
        Of everything random.
    device
        Where the network is.
    """

    waveforms: Waveforms
    classes: NDArray[np.int64]
    count: int
    rows: NDArray[np.int64]
    sampler: Sampler
    augmentations: Augmentations
    samples: int
    seed: int
    device: torch.device

    def epoch(self, number: int) -> NDArray[np.int64]:
        """Draw the rows of an epoch, in the order of training.

        Sampling is of normal clips; pseudo-anomalies are shown once each.
        """
        clips = self.waveforms.clips
        is_normal = np.array([clips[row].condition != ANOMALY for row in self.rows])
        normal, anomalies = self.rows[is_normal], self.rows[~is_normal]
        sampled: NDArray[np.int64] = normal[self.sampler([clips[row] for row in normal], number, self.seed)]
        if not len(anomalies):
            return sampled
        random = np.random.default_rng((self.seed, number))
        return random.permutation(np.concatenate([sampled, anomalies]))

    def made(self, rows: Sequence[int], backbone: Tunable, place: tuple[int, ...]) -> tuple[Inputs, Mixture]:
        """Build a batch.

        Parameters
        ----------
        rows
            Which clips.
        backbone
            Computes the inputs, on its device.
        place
            Where in the training it stands: what is random in it follows from the seed and this
            alone.
        """
        generator = torch.Generator().manual_seed(seed_of(self.seed, *place))
        waveforms = self.waveforms.batch(rows, self.samples, generator).to(self.device)
        labels = Mixture.plain(torch.from_numpy(self.classes[list(rows)])).to(self.device)
        machines = [clip.section.machine_type for clip in self.waveforms.clips]
        numbers = torch.from_numpy(np.unique(machines, return_inverse=True)[1].astype(np.int64)[list(rows)])
        batch = Batch(waveforms, labels, numbers.to(self.device), self.count)
        with torch.no_grad():
            changed = self.augmentations.batch(batch, generator)
            inputs = backbone.inputs(changed.waveforms)
            if self.augmentations.of_spectrograms:
                if inputs.time is None or inputs.frequency is None:
                    name = backbone.spec.name
                    raise AsdError(f"{name} takes waveforms: leave out specaugment, which needs spectrograms")
                axes = (inputs.time, inputs.frequency)
                values = self.augmentations.spectrograms(inputs.values, axes, generator)
                inputs = replace(inputs, values=values)
        return inputs, changed.labels

    def plain(self, rows: Sequence[int], backbone: Tunable) -> Inputs:
        """Build a batch without augmentation, the same one each time."""
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            waveforms = self.waveforms.batch(rows, self.samples, generator).to(self.device)
            return backbone.inputs(waveforms)
