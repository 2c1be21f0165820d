"""The autoencoder of the task's baseline."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

# Dohi et al. 2023, section 4: input, encoder, bottleneck, decoder, output.
WIDTHS = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640)
_MOMENTUM, _EPSILON = 0.01, 1e-3  # of the batch normalisation; running = 0.99 running + 0.01 batch


class Autoencoder(nn.Module):
    """Dense layers, each but the last followed by batch normalisation and ReLU.

    Weights start as PyTorch's linear layers do.

    Parameters
    ----------
    seed
        Of the first weights.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers = [layer for widths in pairwise(WIDTHS) for layer in _layer(*widths)]
        self.layers = nn.Sequential(*layers[:-2])  # the output takes any value

    def forward(self, vectors: Tensor) -> Tensor:
        """Reconstruct (B, 640) vectors of five frames each, dB; two or more while training."""
        reconstructed: Tensor = self.layers(vectors)
        return reconstructed


def _layer(width_in: int, width_out: int) -> list[nn.Module]:
    normalisation = nn.BatchNorm1d(width_out, eps=_EPSILON, momentum=_MOMENTUM)
    return [nn.Linear(width_in, width_out), normalisation, nn.ReLU()]
