"""MobileNetV3-Large on spectrograms, as EfficientAT trains it.

Written from Howard et al. 2019, "Searching for MobileNetV3" (table 1, sections 3 and 5), Schmid et
al. 2023, arXiv 2211.04772 (the widths ``mn01`` to ``mn40``), and the keys of the published
checkpoints, which the attribute names below follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

LAYERS = 16  # 15 bottlenecks and the last convolution


class _Row(NamedTuple):
    """A row of the paper's table 1, before the width is applied."""

    kernel: int
    expanded: int
    out: int
    squeeze: bool
    hard_swish: bool
    stride: int


_TABLE = (
    _Row(3, 16, 16, squeeze=False, hard_swish=False, stride=1),
    _Row(3, 64, 24, squeeze=False, hard_swish=False, stride=2),
    _Row(3, 72, 24, squeeze=False, hard_swish=False, stride=1),
    _Row(5, 72, 40, squeeze=True, hard_swish=False, stride=2),
    _Row(5, 120, 40, squeeze=True, hard_swish=False, stride=1),
    _Row(5, 120, 40, squeeze=True, hard_swish=False, stride=1),
    _Row(3, 240, 80, squeeze=False, hard_swish=True, stride=2),
    _Row(3, 200, 80, squeeze=False, hard_swish=True, stride=1),
    _Row(3, 184, 80, squeeze=False, hard_swish=True, stride=1),
    _Row(3, 184, 80, squeeze=False, hard_swish=True, stride=1),
    _Row(3, 480, 112, squeeze=True, hard_swish=True, stride=1),
    _Row(3, 672, 112, squeeze=True, hard_swish=True, stride=1),
    _Row(5, 672, 160, squeeze=True, hard_swish=True, stride=2),
    _Row(5, 960, 160, squeeze=True, hard_swish=True, stride=1),
    _Row(5, 960, 160, squeeze=True, hard_swish=True, stride=1),
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

    def __init__(self, incoming: int, row: _Row, width: float) -> None:
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
