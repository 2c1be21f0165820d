"""EfficientAT (Schmid et al. 2023): MobileNetV3 audio taggers of 1 to 70 million parameters.

The practical choice on a CPU or at the edge. Weights: ``mn01_as`` to ``mn40_as`` of the project's
releases, MIT; the width is read off the file. Input as in training: 32 kHz, pre-emphasis 0.97, 128
Kaldi mel bands from 0 to 15 kHz, ``(log(x + 1e-5) + 4.5) / 5``.

MobileNetV3-Large on spectrograms, written from Howard et al. 2019, "Searching for MobileNetV3" (table 1,
sections 3 and 5), Schmid et al. 2023, arXiv 2211.04772, and the keys of the published checkpoints, which the
attribute names below follow.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cache.base.errors import AsdError
from extractors.backbone import (
    RANDOM,
    BackboneSpec,
    Features,
    Inputs,
    ModelFile,
    NetworkBackbone,
    Source,
    Trainable,
)
from extractors.device import portions
from extractors.nets.melspectrogram import PreEmphasisedLogMel
from extractors.weights.loading import load_state, load_strictly, needed, random_parameters
from extractors.weights.published import EFFICIENTAT

LAYERS = 16  # 15 bottlenecks and the last convolution
SPEC = BackboneSpec(
    name="efficientat",
    sample_rate=32_000,
    layers=tuple(range(1, LAYERS + 1)),
    layer=8,  # of the layers tried on real recordings the best average; benchmarks/backbones.md
    dim=80,
    bands=8,
    min_samples=1024,
    pooling="mean",
    native=(LAYERS,),
    max_samples=60 * 32_000,
    batch={"cpu": 1, "cuda": 128},
    cpu_threads=1,  # small convolutions: a second thread waits more than it works
    settings=(("hop", 320), ("mels", 128), ("n_fft", 1024)),
)
_LAST = "features.16.0.weight"  # (6 c, c, 1, 1): c = 160 x width


class _TableRow(NamedTuple):
    """A row of the paper's table 1, before the width is applied."""

    kernel: int
    expanded: int
    out: int
    squeeze: bool
    hard_swish: bool
    stride: int


_TABLE = (
    _TableRow(3, 16, 16, squeeze=False, hard_swish=False, stride=1),
    _TableRow(3, 64, 24, squeeze=False, hard_swish=False, stride=2),
    _TableRow(3, 72, 24, squeeze=False, hard_swish=False, stride=1),
    _TableRow(5, 72, 40, squeeze=True, hard_swish=False, stride=2),
    _TableRow(5, 120, 40, squeeze=True, hard_swish=False, stride=1),
    _TableRow(5, 120, 40, squeeze=True, hard_swish=False, stride=1),
    _TableRow(3, 240, 80, squeeze=False, hard_swish=True, stride=2),
    _TableRow(3, 200, 80, squeeze=False, hard_swish=True, stride=1),
    _TableRow(3, 184, 80, squeeze=False, hard_swish=True, stride=1),
    _TableRow(3, 184, 80, squeeze=False, hard_swish=True, stride=1),
    _TableRow(3, 480, 112, squeeze=True, hard_swish=True, stride=1),
    _TableRow(3, 672, 112, squeeze=True, hard_swish=True, stride=1),
    _TableRow(5, 672, 160, squeeze=True, hard_swish=True, stride=2),
    _TableRow(5, 960, 160, squeeze=True, hard_swish=True, stride=1),
    _TableRow(5, 960, 160, squeeze=True, hard_swish=True, stride=1),
)


def channels(count: float) -> int:
    """Round to a multiple of 8, at least 8 and not below nine tenths (MobileNet's own rule)."""
    rounded = max(8, int(count + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * count else rounded


class _Unit(nn.Sequential):
    """Convolution, batch normalisation (eps 1e-3) and, mostly, an activation."""

    def __init__(
        self, sizes: tuple[int, int], kernel: int, stride: int, groups: int, activation: str
    ) -> None:
        convolution = nn.Conv2d(*sizes, kernel, stride, kernel // 2, groups=groups, bias=False)
        kinds: dict[str, list[nn.Module]] = {
            "hard_swish": [nn.Hardswish()],
            "relu": [nn.ReLU()],
            "none": [],
        }
        super().__init__(convolution, nn.BatchNorm2d(sizes[1], eps=1e-3), *kinds[activation])

    def fuse(self) -> None:
        """Fold the normalisation into the convolution."""
        convolution, normalisation = self[0], self[1]
        if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
            self[0] = fuse_conv_bn_eval(convolution, normalisation)
            self[1] = nn.Identity()


class _SqueezeExcitation(nn.Module):
    """Scale channels by a function of their means, squeezed to a quarter (Hu et al. 2018)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = channels(width // 4)
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, F, T) to the same, scaled."""
        scale = torch.sigmoid(self.fc2(torch.relu(self.fc1(maps.mean((2, 3))))))
        return maps * scale[:, :, None, None]


class _Excitations(nn.Module):
    """The one excitation, over channels, under the name it has in the checkpoints."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conc_se_layers = nn.ModuleList([_SqueezeExcitation(width)])

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, F, T) to the same, scaled."""
        scaled: Tensor = self.conc_se_layers[0](maps)
        return scaled


class _Bottleneck(nn.Module):
    """An inverted residual: expand, filter each channel, excite, project."""

    def __init__(self, incoming: int, row: _TableRow, width: float) -> None:
        super().__init__()
        expanded, out = channels(row.expanded * width), channels(row.out * width)
        activation = "hard_swish" if row.hard_swish else "relu"
        steps: list[nn.Module] = []
        if expanded != incoming:
            steps.append(_Unit((incoming, expanded), 1, 1, 1, activation))
        steps.append(_Unit((expanded, expanded), row.kernel, row.stride, expanded, activation))
        if row.squeeze:
            steps.append(_Excitations(expanded))
        steps.append(_Unit((expanded, out), 1, 1, 1, "none"))
        self.block = nn.Sequential(*steps)
        self.is_residual = row.stride == 1 and incoming == out

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, F, T) to (B, C', F / stride, T / stride)."""
        result: Tensor = self.block(maps)
        return result + maps if self.is_residual else result


class MobileNet(nn.Module):
    """The convolutional part of MobileNetV3-Large for one input channel.

    Parameters
    ----------
    width
        Multiplier of the channels: 0.4 for ``mn04``.

    Attributes
    ----------
    width
        As given.
    widths
        Channels of each layer from 1.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        self.width = width
        incoming = channels(16 * width)
        steps: list[nn.Module] = [_Unit((1, incoming), 3, 2, 1, "hard_swish")]
        widths: list[int] = []
        for row in _TABLE:
            steps.append(_Bottleneck(incoming, row, width))
            incoming = channels(row.out * width)
            widths.append(incoming)
        self.widths = (*widths, 6 * incoming)
        steps.append(_Unit((incoming, 6 * incoming), 1, 1, 1, "hard_swish"))
        self.features = nn.Sequential(*steps)

    def forward(self, spectrograms: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Compute the feature maps of several layers, and nothing above the highest.

        Parameters
        ----------
        spectrograms
            (B, F, T).
        layers
            From 1, the first bottleneck, to 16, the last convolution.

        Returns
        -------
        list of Tensor
            (B, C, F', T') a layer, in the order asked for.
        """
        maps, found = spectrograms[:, None], dict[int, Tensor]()
        for number, step in enumerate(list(self.features)[: max(layers) + 1]):
            maps = step(maps)
            if number == 0 and torch.is_grad_enabled():
                # On a CPU gradients of depthwise convolutions are three times as fast this way.
                maps = maps.contiguous(memory_format=torch.channels_last)
            if number in layers:
                found[number] = maps
        return [found[layer] for layer in layers]

    def fuse(self) -> MobileNet:
        """Fold every batch normalisation into its convolution, for inference only."""
        for unit in [module for module in self.modules() if isinstance(module, _Unit)]:
            unit.fuse()
        return self


class EfficientAt(NetworkBackbone):
    """Feature maps of a MobileNet as a backbone.

    Layers 1 to 15 are the bottlenecks, 16 the last convolution, whose mean over time and frequency
    is the network's own embedding, for the pooling ``native``.

    Parameters
    ----------
    network
        With its weights.
    device
        Where to compute.
    weights
        SHA-256 of the checkpoint.
    """

    def __init__(self, network: MobileNet, device: torch.device, weights: str) -> None:
        self.spec = replace(SPEC, dim=network.widths[SPEC.layer - 1], weights=weights)
        self._frontend = PreEmphasisedLogMel().to(device)
        self.network = network.eval().fuse().to(device)

    def inputs(self, waveforms: Tensor) -> Inputs:
        """Compute the spectrogram (B, 128, frames)."""
        return Inputs(self._frontend(waveforms), waveforms.shape[1], time=2, frequency=1)

    def states(self, inputs: Inputs, layers: Sequence[int]) -> list[Features]:
        """Compute (B, time, band, C) maps; see `Tunable.states`.

        One clip at a time through the network on a CPU, where the choice of a convolution's
        algorithm depends on the batch.
        """
        parts = [self.network(part, layers) for part in portions(inputs.values)]
        maps = [torch.cat(part) for part in zip(*parts, strict=True)]
        return [
            Features(each.permute(0, 3, 2, 1), each.mean((2, 3)) if layer == LAYERS else None)
            for each, layer in zip(maps, layers, strict=True)
        ]

    @property
    def trainable(self) -> Trainable:
        """What can be trained; adapters join the convolutions of 1 x 1 that project."""
        steps = [(f"features.{layer}.",) for layer in self.spec.layers]
        modules = self.network.named_modules()
        pointwise = [n for n, m in modules if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
        return Trainable(self.network, (("features.0.",), *steps), tuple(pointwise))

    @property
    def blueprint(self) -> dict[str, Any]:
        """The width."""
        return {"width": self.network.width}


def load(source: Source, device: torch.device) -> EfficientAt:
    """Build a network of the checkpoint's width, or of the variant's with random parameters.

    Variants are ``mn01`` to ``mn40``; a checkpoint tells its own. See `BackboneFile.load`.
    """
    if source.seed is not None:
        network = random_parameters(lambda: MobileNet(_width(source.variant or "mn10")), source.seed)
        return EfficientAt(network, device, RANDOM)
    file = needed(source, "efficientat", EFFICIENTAT)
    weights, state = file.path, load_state(file)
    shape = tuple(state[_LAST].shape) if _LAST in state else ()
    if len(shape) != 4 or shape[0] != 6 * shape[1] or not 16 <= shape[1] <= 640:
        raise AsdError(
            f"{weights} is no EfficientAT mn checkpoint: {_LAST} is {shape or 'missing'}; bring "
            f"{EFFICIENTAT[0]} or a wider one"
        )
    if source.variant and round(160 * _width(source.variant)) != shape[1]:
        raise AsdError(f"{weights} is no {source.variant}; leave the variant out or bring its file")
    network = MobileNet(shape[1] / 160)
    load_strictly(network, state, weights, unused=("classifier.",))
    return EfficientAt(network, device, file.sha256)


def rebuild(kept: ModelFile, device: torch.device) -> EfficientAt:
    """Build the network of a fine-tuned file; see `BackboneFile.rebuild`."""
    width = kept.blueprint.get("width")
    if not isinstance(width, float) or not 0.1 <= width <= 4:
        raise AsdError(f"{kept.path}: its width is {width!r}, expected 0.1 to 4")
    backbone = EfficientAt(MobileNet(width), device, kept.sha256)
    load_strictly(backbone.network, kept.state, kept.path)
    return backbone


def _width(variant: str) -> float:
    """Multiplier of the channels: ``mn04`` is 0.4."""
    if not re.fullmatch(r"mn(0[1-9]|[1-3]\d|40)", variant):
        raise AsdError(f"efficientat has no variant {variant!r}; it has mn01 to mn40")
    return int(variant[2:]) / 10
