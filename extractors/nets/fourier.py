"""A long one-dimensional convolution for a CPU: products of spectra instead of sums over taps.

Overlap-save (Oppenheim and Schafer, "Discrete-Time Signal Processing", section 8.7.3): the input is
cut into blocks that overlap by the kernel's length less one, every block's spectrum is multiplied
by the kernel's, and of each result only the part that no wrapping touches is kept. Blocks of twice
the kernel's length keep the spectra of the kernel small enough to be read quickly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


def version_of(weight: Tensor) -> tuple[int, int]:
    """Tell whether a weight is still the one that something was computed from."""
    return weight.data_ptr(), -1 if weight.is_inference() else weight._version  # noqa: SLF001


class FourierConv1d(nn.Conv1d):
    """`torch.nn.Conv1d` of stride 1, equal to it up to rounding; parameters and names are the same.

    Spectra are used for inference on a CPU. Elsewhere, and where gradients are recorded, it is the
    convolution itself.
    """

    _spectra: Tensor | None = None  # (groups, F, out, in) complex64, while the weight stays
    _made_of: tuple[int, int] | None = None

    def forward(self, maps: Tensor) -> Tensor:
        """Compute (B, C', T + 2 padding + 1 - kernel) from (B, C, T)."""
        if maps.device.type != "cpu" or torch.is_grad_enabled():
            self._spectra = None
            return super().forward(maps)
        taps, padding = self.kernel_size[0], int(self.padding[0])
        block, step = 2 * taps, taps + 1  # of a block's results, the first taps - 1 are wrapped
        length = maps.shape[-1] + 2 * padding + 1 - taps
        count = -(-length // step)
        with torch.autocast(maps.device.type, enabled=False):
            padded = pad(maps.float(), (padding, count * step + taps - 1 - maps.shape[-1] - padding))
            spectra = torch.fft.rfft(padded.unfold(-1, block, step))  # (B, C, count, F)
            grouped = spectra.unflatten(1, (self.groups, -1)).permute(1, 4, 2, 0, 3)
            products = torch.matmul(self._kernel(block), grouped.flatten(3))
            apart = products.reshape(*products.shape[:3], len(maps), count)
            blocks = apart.permute(3, 0, 2, 4, 1)
            kept = torch.fft.irfft(blocks, block)[..., taps - 1 :]  # (B, groups, C' / groups, count, ·)
            joined: Tensor = kept.flatten(1, 2).flatten(2)[..., :length]
            return joined if self.bias is None else joined + self.bias[:, None]

    def _kernel(self, block: int) -> Tensor:
        """Spectra of the kernel, reversed: PyTorch's convolution is a correlation."""
        made_of = version_of(self.weight)
        if self._spectra is None or made_of != self._made_of:
            self._made_of = made_of
            spectra = torch.fft.rfft(self.weight.detach().flip(-1), block)  # (C', C / groups, F)
            grouped = spectra.unflatten(0, (self.groups, -1))
            self._spectra = grouped.permute(0, 3, 1, 2).contiguous()
        return self._spectra
