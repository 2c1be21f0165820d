"""Queries, keys and values as one projection, or as three that low-rank adapters can join one by one."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Apart(nn.Module):
    """Queries, keys and values as three projections instead of one.

    Parameters
    ----------
    joined
        The one: (C) to (3 C), with a bias.
    """

    def __init__(self, joined: nn.Linear) -> None:
        super().__init__()
        pairs = zip(joined.weight.chunk(3), joined.bias.chunk(3), strict=True)
        self.q_proj, self.k_proj, self.v_proj = (_linear(*pair) for pair in pairs)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, C) to (B, T, 3 C)."""
        parts = (self.q_proj, self.k_proj, self.v_proj)
        return torch.cat([part(tokens) for part in parts], dim=-1)

    def together(self) -> nn.Linear:
        """Return the one projection."""
        parts = (self.q_proj, self.k_proj, self.v_proj)
        weights, biases = [part.weight for part in parts], [part.bias for part in parts]
        return _linear(torch.cat([*weights]), torch.cat([*biases]))


def lay_projections(network: nn.Module, name: str, *, apart: bool) -> None:
    """Compute every layer's queries, keys and values by three projections, or by one.

    One product is faster; of three, low-rank adapters can join each alone.

    Parameters
    ----------
    network
        With attention layers.
    name
        Of the projection in each of them.
    apart
        Whether there are to be three.
    """
    for module in [module for module in network.modules() if hasattr(module, name)]:
        projection = getattr(module, name)
        if apart and isinstance(projection, nn.Linear):
            setattr(module, name, Apart(projection))
        elif not apart and isinstance(projection, Apart):
            setattr(module, name, projection.together())


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    made.weight = nn.Parameter(weight.detach().clone())
    made.bias = nn.Parameter(bias.detach().clone())
    return made
