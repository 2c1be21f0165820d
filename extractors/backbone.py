"""What a backbone is: a waveform in, features out, and the facts that go with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cache.recipe import Setting

if TYPE_CHECKING:  # names and facts of backbones are had without it
    import torch
    from torch import Tensor, nn

    from extractors.device import Device

Kind = Literal["mean", "statistics", "attentive"]  # how frames become an embedding that is trained
OWN = "own"  # the backbone's own embedding is the one that is trained
RANDOM = "random"  # stands in the recipe where a hash of weights would
EMBEDDINGS = (*get_args(Kind), OWN)


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
    max_samples
        Longest it hears in one piece; a longer clip is cut into overlapping windows of this length.
    native
        Layers at which the model has an embedding of its own, for the pooling ``native``.
    pooling
        The pooling used unless another is asked for.
    banding
        ``merge`` or ``keep``: what is done with the bands unless the other is asked for.
    tuned
        Pooling to its parameters, where this backbone has its own.
    batch
        Clips a batch by device type; 32 on a device not named.
    cpu_threads
        Threads that pay on a CPU, ``None`` for as many as torch chooses.
    weights
        SHA-256 of its weights, ``random`` for random ones, ``None`` for a backbone without any.
    settings
        Whatever else moves its numbers.
    parts
        Names of the equal parts of an embedding of `dim` values that are blocks of their own, in
        order; empty where it is one.
    arrays
        Whether it takes and gives NumPy arrays, on the processor, without torch: `ArrayBackbone`.
    """

    name: str
    sample_rate: int
    layers: tuple[int, ...]
    layer: int
    dim: int
    bands: int
    min_samples: int
    pooling: str
    max_samples: int
    banding: str = "merge"
    native: tuple[int, ...] = ()
    tuned: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    batch: Mapping[str, int] = field(default_factory=dict)
    cpu_threads: int | None = None
    weights: str | None = None
    settings: tuple[tuple[str, Setting], ...] = ()
    parts: tuple[str, ...] = ()
    arrays: bool = False


@dataclass(frozen=True)
class Features:
    """What one layer makes of a batch.

    Attributes
    ----------
    frames
        (B, time, band, C).
    native
        (B, D), the model's own embedding of each clip at this layer; ``None`` where it has none.
    """

    frames: Tensor
    native: Tensor | None = None


@dataclass(frozen=True)
class ArrayFeatures:
    """What an `ArrayBackbone` makes of a batch; see `Features`."""

    frames: NDArray[np.float32]
    native: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Source:
    """Where a model's parameters come from.

    Attributes
    ----------
    variant
        What stands behind the colon of ``--backbone``: a size, a model's id; empty for the usual.
    weights
        A checkpoint: a file, or the name of a published one; ``None`` for the usual one, or for a
        backbone that needs none.
    seed
        Random parameters of this seed instead: for tests and timings, its scores mean nothing.
    accepted
        SHA-256 of files that are meant as they are, whatever is published under their names.
    """

    variant: str = ""
    weights: Path | None = None
    seed: int | None = None
    accepted: tuple[str, ...] = ()


class Backbone(Protocol):
    """A loaded model on its device."""

    @property
    def spec(self) -> BackboneSpec:
        """Facts of this model, its weights' hash among them."""

    def features(self, waveforms: Tensor, layers: Sequence[int]) -> list[Features]:
        """Compute the features of several layers in one pass, and nothing above the highest.

        Parameters
        ----------
        waveforms
            (B, T) float32 in [-1, 1] at ``spec.sample_rate``, on the model's device,
            ``spec.min_samples <= T <= spec.max_samples``.
        layers
            A choice of ``spec.layers``.

        Returns
        -------
        list of Features
            One a layer, in the order asked for; a clip's do not depend on the rest of its batch.
        """


@runtime_checkable
class Kernels(Protocol):
    """A backbone whose network computes the same in several ways, up to rounding.

    Which is fastest depends on the processor, so it is measured; see `extractors.embedding.throughput`.
    """

    @property
    def kernels(self) -> tuple[str, ...]:
        """Names of the ways, the usual one first; none where there is but one."""

    def use(self, kernel: str) -> None:
        """Compute in one of the `kernels` from now on; empty for the usual one."""


class ArrayBackbone(Protocol):
    """A front end in NumPy: as `Backbone`, with arrays for tensors, and no torch."""

    @property
    def spec(self) -> BackboneSpec:
        """Facts, ``arrays`` being true."""

    def features(self, waveforms: NDArray[np.float32], layers: Sequence[int]) -> list[ArrayFeatures]:
        """Compute the features of several layers of (B, T) waveforms; see `Backbone.features`."""


@dataclass(frozen=True)
class Inputs:
    """What a network is given of a batch.

    Attributes
    ----------
    values
        A spectrogram, or a waveform.
    samples
        Length of the clips at the backbone's rate.
    time, frequency
        Axes of a spectrogram; ``None`` for a waveform.
    """

    values: Tensor
    samples: int
    time: int | None = None
    frequency: int | None = None


def _nothing() -> None:
    """Leave the network as it is."""


@dataclass(frozen=True)
class Trainable:
    """The part of a backbone that can be trained.

    Attributes
    ----------
    network
        Its parameters. It stays in evaluation mode: batch normalisation is folded into the
        convolutions or keeps its statistics, and nothing is dropped out.
    blocks
        Beginnings of parameter names, from the input up: ``blocks[k]`` is what layer k needs
        beside the blocks below it.
    lora
        Names of the modules that low-rank adapters join, or the ends of these names.
    apart, together
        Lay projections that are computed as one apart, for adapters that join them one by one, and
        put them together again.
    """

    network: nn.Module
    blocks: tuple[tuple[str, ...], ...]
    lora: tuple[str, ...]
    apart: Callable[[], None] = _nothing
    together: Callable[[], None] = _nothing

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device


class Tunable(Backbone, Protocol):
    """A backbone that fine-tuning can train, and whose network a file can bring back."""

    @property
    def trainable(self) -> Trainable:
        """What can be trained."""

    @property
    def blueprint(self) -> dict[str, Any]:
        """Sizes and settings as JSON, from which `BackboneFile.rebuild` makes the same again."""

    def inputs(self, waveforms: Tensor) -> Inputs:
        """Compute what the network is given of (B, T) waveforms; see `Backbone.features`."""

    def states(self, inputs: Inputs, layers: Sequence[int]) -> list[Features]:
        """Run the network; ``states(inputs(w), layers)`` is ``features(w, layers)``."""


class NetworkBackbone(ABC):
    """A backbone whose network is given what its front end makes of waveforms: `Tunable`'s two steps."""

    spec: BackboneSpec

    @abstractmethod
    def inputs(self, waveforms: Tensor) -> Inputs:
        """See `Tunable.inputs`."""

    @abstractmethod
    def states(self, inputs: Inputs, layers: Sequence[int]) -> list[Features]:
        """See `Tunable.states`."""

    def features(self, waveforms: Tensor, layers: Sequence[int]) -> list[Features]:
        """See `Backbone.features`."""
        return self.states(self.inputs(waveforms), layers)


@dataclass(frozen=True)
class ModelFile:
    """A network that fine-tuning wrote to a file.

    Attributes
    ----------
    path
        The file.
    sha256
        Of its bytes.
    blueprint
        What `Tunable.blueprint` gave.
    state
        Parameters by name, as in ``Trainable.network``.
    """

    path: Path
    sha256: str
    blueprint: Mapping[str, Any]
    state: Mapping[str, Tensor]


class BackboneFile(Protocol):
    """What a module in ``extractors/backbones/`` offers.

    A module may also offer ``without_torch(source) -> bool``: whether `load` gives an
    `ArrayBackbone` of this source. Such a module does not import torch when it is imported.
    """

    def load(self, source: Source, device: Device) -> Backbone | ArrayBackbone:
        """Build the model on a device, ready for inference.

        Parameters
        ----------
        source
            Which variant, with which parameters.
        device
            Where it computes.

        Raises
        ------
        AsdError
            If the variant is unknown, or weights are needed and not given, given and not needed,
            or not this model's.
        """

    def rebuild(self, kept: ModelFile, device: torch.device) -> Tunable:
        """Build the model of a fine-tuned file.

        Raises
        ------
        AsdError
            If blueprint and parameters do not fit each other.
        """
