"""Winograd's 3 x 3 convolution for a CPU: 16 products where the definition has 36.

Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", F(2 x 2, 3 x 3), section
4.1: ``Y = A' [(G g G') * (B' d B)] A`` for tiles d of 4 x 4 that overlap by 2, equations 7 and 8.
The products over channels are 16 matrix products. The matrices B and A hold only 0, 1 and -1, and
are written out as sums below.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

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
