"""Frames to one embedding of a chosen size: mean, statistics or attentive statistics pooling."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor, nn

from cache.base.errors import AsdError
from extractors.backbone import Kind
from extractors.pooling import mean_std

KINDS: tuple[Kind, ...] = get_args(Kind)

_ATTENTION = 128  # units of the attention's hidden layer
_SMALLEST = 1e-12  # of a variance: the slope of the root stays finite


class Attention(nn.Module):
    """Weighted mean and standard deviation over time: Okabe et al. 2018 (arXiv 1803.10963).

    ``e_t = v' tanh(W h_t + b) + k`` (eq. 3), ``alpha = softmax_t(e)`` (eq. 4),
    ``mu = sum_t alpha_t h_t`` (eq. 5), ``sigma = sqrt(sum_t alpha_t h_t^2 - mu^2)`` (eq. 6).

    Parameters
    ----------
    channels
        C of the frames.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, _ATTENTION)
        self.score = nn.Linear(_ATTENTION, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, time, C) to (B, 2 C), mean before deviation."""
        weights = self.score(torch.tanh(self.hidden(frames))).softmax(1)  # (B, time, 1)
        centre = (weights * frames).sum(1, keepdim=True)
        # The same as eq. 6, without the difference of large numbers that may turn negative.
        variance = (weights * (frames - centre).square()).sum(1)
        return torch.cat([centre[:, 0], variance.clamp_min(_SMALLEST).sqrt()], dim=1)


class StatisticsPooling(nn.Module):
    """Pool the frames of a backbone and project them.

    Computed in float32, under autocast too. Parameters are drawn from torch's global generator.

    Parameters
    ----------
    channels
        C of the frames.
    size
        D of the embedding.
    kind
        ``mean``; ``statistics``, mean and population standard deviation; or ``attentive``, both
        weighted, see `Attention`.

    Raises
    ------
    AsdError
        If there is no such kind or a size is not positive.
    """

    def __init__(self, channels: int, size: int, kind: Kind = "attentive") -> None:
        super().__init__()
        if kind not in KINDS:
            raise AsdError(f"unknown statistics {kind!r}; known are {', '.join(KINDS)}")
        if size < 1 or channels < 1:
            raise AsdError(f"{channels} channels to an embedding of {size}: both must be positive")
        self.kind = kind
        self.attention = Attention(channels) if kind == "attentive" else None
        self.project = nn.Linear(channels if kind == "mean" else 2 * channels, size)

    def forward(self, frames: Tensor) -> Tensor:
        """Compute embeddings.

        Parameters
        ----------
        frames
            (B, time, band, C); every time-band pair is one frame h_t of the formulas.

        Returns
        -------
        Tensor
            (B, D) float32.
        """
        with torch.autocast(frames.device.type, enabled=False):
            flat = frames.flatten(1, 2).float()
            if self.attention is not None:
                pooled = self.attention(flat)
            else:
                pooled = flat.mean(1) if self.kind == "mean" else mean_std(flat)
            embedding: Tensor = self.project(pooled)
        return embedding
