"""The convolutional networks of PANNs: Cnn6, Cnn10 and Cnn14.

Written from Kong et al. 2020, arXiv 1912.10211 (table I and section II-A), and the keys of the
published checkpoints, which the module names below follow. Spectrograms lie as (time, mel).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.fusion import fuse_conv_bn_eval

from extractors.nets.fourier import version_of

_G = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))


class Winograd(nn.Conv2d):
    """A convolution of 3 x 3 with stride 1 and padding 1, in float32.

    Where gradients are recorded it is the convolution itself, so that it may be trained.

    Parameters
    ----------
    convolution
        What it is to equal, up to rounding.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        sizes = (convolution.in_channels, convolution.out_channels)
        biased = convolution.bias is not None
        super().__init__(*sizes, 3, padding=1, bias=biased, device="meta")
        self.weight, self.bias = convolution.weight, convolution.bias
        self._transformed: Tensor | None = None  # (16, C, C'), while the kernel stays as it is
        self._made_of: tuple[int, int] | None = None

    def forward(self, maps: Tensor) -> Tensor:
        """Compute (B, C', H, W) from (B, C, H, W), both with the channels last in memory."""
        if torch.is_grad_enabled():
            self._transformed = None
            return super().forward(maps)
        with torch.autocast(maps.device.type, enabled=False):
            rows = maps.float().permute(0, 2, 3, 1)  # (B, H, W, C)
            _, height, width, _ = rows.shape
            down, across = -(-height // 2), -(-width // 2)  # tiles
            padded = pad(rows, (0, 0, 1, 2 * across + 1 - width, 1, 2 * down + 1 - height))
            tiles = _to_tiles(padded, down, across)
            products = torch.bmm(tiles.flatten(1, 3), self._kernel())
            joined = _from_tiles(products.view(*tiles.shape[:-1], -1))[:, :height, :width]
            if self.bias is not None:
                joined.add_(self.bias)
            return joined.permute(0, 3, 1, 2)

    def _kernel(self) -> Tensor:
        """G g G': (16, C, C')."""
        made_of = version_of(self.weight)
        if self._transformed is None or made_of != self._made_of:
            self._made_of = made_of
            kernel = self.weight.detach()  # (C', C, 3, 3)
            g = torch.tensor(_G, device=kernel.device)
            taps = kernel.permute(2, 3, 1, 0).reshape(9, -1)
            self._transformed = (torch.kron(g, g) @ taps).view(16, kernel.shape[1], -1)
        return self._transformed


def _to_tiles(padded: Tensor, down: int, across: int) -> Tensor:
    """(B, 2 down + 2, 2 across + 2, C) to (16, B, down, across, C): B' d B."""
    tiles = padded.new_empty(16, len(padded), down, across, padded.shape[3])
    d = [padded[:, i : i + 2 * down - 1 : 2] for i in range(4)]
    for number, row in enumerate((d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3])):
        e = [row[:, :, i : i + 2 * across - 1 : 2] for i in range(4)]
        # Into place: fresh memory for every step costs more than the arithmetic.
        torch.sub(e[0], e[2], out=tiles[4 * number])
        torch.add(e[1], e[2], out=tiles[4 * number + 1])
        torch.sub(e[2], e[1], out=tiles[4 * number + 2])
        torch.sub(e[1], e[3], out=tiles[4 * number + 3])
    return tiles


def _from_tiles(products: Tensor) -> Tensor:
    """(16, B, down, across, C) to (B, 2 down, 2 across, C): A' m A."""
    _, batch, down, across, channels = products.shape
    m = products.view(4, 4, batch, down, across, channels)
    joined = products.new_empty(batch, down, 2, across, 2, channels)
    sums = (m[0] + m[1]).add_(m[2]), (m[1] - m[2]).sub_(m[3])  # each (4, B, down, across, C)
    for number, (first, second, third, fourth) in enumerate(sums):
        torch.add(first, second, out=joined[:, :, number, :, 0]).add_(third)
        torch.sub(second, third, out=joined[:, :, number, :, 1]).sub_(fourth)
    return joined.view(batch, 2 * down, 2 * across, channels)


MELS = 64
_HALVING = 5  # blocks that halve time and mel; Cnn14's sixth does not
# Blocks that a CPU computes clip by clip: in later ones a clip's maps are smaller than the weights that
# are read for them (benchmarks/panns.md).
_BY_CLIP = 4


def _block(sizes: tuple[int, int], kernel: int, *, halve: bool) -> nn.Sequential:
    """One 5 x 5 or two 3 x 3 convolutions, each normalised and rectified, and an average of 2 x 2.

    (B, C, T, F) to (B, C', T // 2, F // 2), or to (B, C', T, F).
    """
    steps: OrderedDict[str, nn.Module] = OrderedDict()
    incoming, out = sizes
    for number in (1,) if kernel == 5 else (1, 2):
        convolution = nn.Conv2d(incoming, out, kernel, padding=kernel // 2, bias=False)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        steps[f"conv{number}"] = convolution
        steps[f"bn{number}"] = nn.BatchNorm2d(out)
        steps[f"relu{number}"] = nn.ReLU(inplace=True)
        incoming = out
    if halve:
        steps["pool"] = nn.AvgPool2d(2)
    return nn.Sequential(steps)


class Cnn(nn.Module):
    """A network of PANNs without its classifier.

    Parameters
    ----------
    channels
        Of each block: 64 to 512 for Cnn6 and Cnn10, 64 to 2048 for Cnn14.
    kernel
        5 for Cnn6, whose blocks have one convolution; 3 otherwise.
    """

    def __init__(self, channels: Sequence[int], kernel: int) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(MELS)
        self._names = [f"conv_block{number}" for number in range(1, len(channels) + 1)]
        for number, sizes in enumerate(zip((1, *channels), channels, strict=False)):
            self.add_module(self._names[number], _block(sizes, kernel, halve=number < _HALVING))
        self.fc1 = nn.Linear(channels[-1], channels[-1])

    def forward(self, spectrograms: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Compute the maps of several blocks, and nothing above the highest.

        Parameters
        ----------
        spectrograms
            (B, T, 64) log-mel, dB; T at least 32 for Cnn14, 16 for the others.
        layers
            From 1, the first block, to the last.

        Returns
        -------
        list of Tensor
            (B, C, T', F') a layer, in the order asked for.
        """
        maps = self.bn0(spectrograms.transpose(1, 2)[..., None]).transpose(1, 3)
        maps, found = maps.contiguous(memory_format=torch.channels_last), dict[int, Tensor]()
        for number, name in enumerate(self._names[: max(layers)], start=1):
            size = 1 if maps.device.type == "cpu" and number <= _BY_CLIP else len(maps)
            maps = torch.cat([self.get_submodule(name)(part) for part in maps.split(size)])
            if number in layers:
                found[number] = maps
        return [found[layer] for layer in layers]

    def embed(self, maps: Tensor) -> Tensor:
        """Compute the network's own embedding: mean over mel, maximum plus mean over time, fc1.

        Parameters
        ----------
        maps
            (B, C, T', F') of the last block.

        Returns
        -------
        Tensor
            (B, C), not negative.
        """
        frames = maps.mean(3)
        embedding: Tensor = self.fc1(frames.amax(2) + frames.mean(2)).relu()
        return embedding

    def fuse(self) -> Cnn:
        """Fold the blocks' batch normalisations, in evaluation mode, into their convolutions."""
        for block in (self.get_submodule(name) for name in self._names):
            steps = dict(block.named_children())
            for name, convolution in steps.items():
                normalisation = steps.get(name.replace("conv", "bn"))
                if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
                    setattr(block, name, fuse_conv_bn_eval(convolution, normalisation))
                    setattr(block, name.replace("conv", "bn"), nn.Identity())
        return self

    def in_winograds_way(self, least: int | None) -> None:
        """Compute the wide 3 x 3 convolutions in Winograd's way, and all others as they are defined.

        The parameters are the same; only as they are defined can low-rank adapters join them.

        Parameters
        ----------
        least
            Output channels from which on a convolution is wide; ``None`` for none.
        """
        for block in (self.get_submodule(name) for name in self._names):
            for name, module in list(block.named_children()):
                if not isinstance(module, nn.Conv2d) or module.kernel_size != (3, 3):
                    continue
                wide = least is not None and module.out_channels >= least
                if wide and not isinstance(module, Winograd):
                    setattr(block, name, Winograd(module))
                elif not wide and isinstance(module, Winograd):
                    sizes = (module.in_channels, module.out_channels)
                    plain = nn.Conv2d(*sizes, 3, padding=1, bias=module.bias is not None, device="meta")
                    plain.weight, plain.bias = module.weight, module.bias
                    setattr(block, name, plain)
