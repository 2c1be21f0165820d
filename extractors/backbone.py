"""What a backbone is: a waveform in, frames out, and the facts that go with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from cache.recipe import Setting


@dataclass(frozen=True)
class BackboneSpec:
    """Facts of a backbone.

    Attributes
    ----------
    name
        Its name on the command line.
    sample_rate
        What it hears, Hz.
    layers
        Layers to choose from, ascending.
    layer
        The one used unless another is asked for.
    dim, bands
        Channels C and frequency bands of the frames of `layer`; other layers may have others.
    min_samples
        Shortest clip it takes, samples at `sample_rate`.
    pooling
        The pooling used unless another is asked for.
    tuned
        Pooling to parameter, where this backbone has its own.
    batch
        Clips a batch by device type; 32 on a device not named.
    cpu_threads
        Threads that pay on a CPU, ``None`` for as many as torch chooses.
    weights
        SHA-256 of its weights, ``None`` without weights.
    settings
        Whatever else moves its numbers.
    """

    name: str
    sample_rate: int
    layers: tuple[int, ...]
    layer: int
    dim: int
    bands: int
    min_samples: int
    pooling: str
    tuned: Mapping[str, float] = field(default_factory=dict)
    batch: Mapping[str, int] = field(default_factory=dict)
    cpu_threads: int | None = None
    weights: str | None = None
    settings: tuple[tuple[str, Setting], ...] = ()


class Backbone(Protocol):
    """A loaded model on its device."""

    spec: BackboneSpec

    def frames(self, waveforms: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Compute the frame features of several layers in one pass.

        Parameters
        ----------
        waveforms
            (B, T) float32 in [-1, 1] at ``spec.sample_rate``, on the model's device.
        layers
            A choice of ``spec.layers``.

        Returns
        -------
        list of Tensor
            (B, time, band, C) a layer, in the order asked for; a clip's frames do not depend on
            the rest of its batch.
        """


class BackboneFile(Protocol):
    """What a module in ``extractors/backbones/`` offers."""

    def load(self, device: torch.device, weights: Path | None) -> Backbone:
        """Build the model on a device, ready for inference.

        Parameters
        ----------
        device
            Where it computes.
        weights
            A checkpoint file; ``None`` for a backbone that needs none.

        Raises
        ------
        AsdError
            If weights are needed and not given, given and not needed, or not this model's.
        """
