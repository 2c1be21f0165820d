"""The encoder of BEATs, for inference and fine-tuning.

Written from Chen et al. 2023, "BEATs: Audio Pre-Training with Acoustic Tokenizers" (arXiv
2212.09058, section 3 and appendix A), the gated relative position bias of Chi et al. 2022 (arXiv
2106.16138, section 3.2) and the keys of the published checkpoints, which the attribute names below
follow. The checkpoint's q, k and v are one product here, its weight-normalised convolution is a
plain one, and its twelve copies of one position table are one: see `from_published`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from extractors.nets.fourier import FourierConv1d
from extractors.nets.vit import Attending

_PARTS = ("q_proj", "k_proj", "v_proj")
# Direction and length of the convolution, as PyTorch named them before and since version 2.
_WEIGHT_NORM = tuple(
    (f"encoder.pos_conv.0.{direction}", f"encoder.pos_conv.0.{size}")
    for direction, size in (
        ("weight_v", "weight_g"),
        ("parametrizations.weight.original1", "parametrizations.weight.original0"),
    )
)
_GATE = 8  # values of a gate's projection: two groups of four, each summed


@dataclass(frozen=True)
class BeatsConfig:
    """Sizes of an encoder; the defaults are those of every published checkpoint of 90 M parameters.

    Attributes
    ----------
    patch
        Side of a square patch of the (time, mel) plane, also its step.
    embed_dim, encoder_embed_dim, encoder_ffn_embed_dim
        Widths of the patches, the tokens and the feed-forward network.
    encoder_layers, encoder_attention_heads
        Numbers of blocks and of heads.
    conv_pos, conv_pos_groups
        Kernel and groups of the convolution that tells positions.
    relative_position_embedding, num_buckets, max_distance
        Whether there is a bias by distance, its table's length and the distance that saturates.
    gru_rel_pos
        Whether the bias is gated by the query.
    deep_norm
        Whether residuals are scaled by ``(2 layers)^(1/4)`` (Wang et al. 2022, arXiv 2203.00555).
    layer_norm_first
        Whether a block normalises what goes in, instead of what comes out.
    conv_bias
        Whether the patch embedding has a bias.
    activation_fn
        ``gelu`` or ``relu``.
    """

    patch: int = 16
    embed_dim: int = 512
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_layers: int = 12
    encoder_attention_heads: int = 12
    conv_pos: int = 128
    conv_pos_groups: int = 16
    relative_position_embedding: bool = True
    num_buckets: int = 320
    max_distance: int = 800
    gru_rel_pos: bool = True
    deep_norm: bool = True
    layer_norm_first: bool = False
    conv_bias: bool = False
    activation_fn: str = "gelu"

    @property
    def residual(self) -> float:
        """What a residual is multiplied by before the block's result is added."""
        return float((2 * self.encoder_layers) ** 0.25) if self.deep_norm else 1.0


@lru_cache(maxsize=8)
def position_buckets(tokens: int, buckets: int, max_distance: int) -> NDArray[np.int64]:
    """Bucket of every distance: half for tokens ahead, exact when near, logarithmic when far.

    Raffel et al. 2020, arXiv 1910.10683, section 2.1, both directions.

    Parameters
    ----------
    tokens
        Length T of the sequence.
    buckets
        Of both directions together.
    max_distance
        From where on all distances share the last bucket.

    Returns
    -------
    ndarray
        (2 T - 1,): of key minus query from ``1 - T`` to ``T - 1``.
    """
    distance = np.arange(1 - tokens, tokens)
    half = buckets // 2
    exact = half // 2
    size = np.abs(distance)
    # In float32, as the published code: a distance on a bucket's edge must fall on the same side.
    far = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact))
    steps = far / np.float32(math.log(max_distance / exact)) * np.float32(half - exact)
    logarithmic = np.minimum(exact + steps.astype(np.int64), half - 1)
    found: NDArray[np.int64] = np.where(size < exact, size, logarithmic) + half * (distance > 0)
    return found


class _GatedAttention(Attending):
    """Multi-head self-attention with a gated bias by distance."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        width, self.heads = config.encoder_embed_dim, config.encoder_attention_heads
        self.in_proj: nn.Module = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        if config.relative_position_embedding and config.gru_rel_pos:
            self.grep_linear = nn.Linear(width // self.heads, _GATE)
            self.grep_a = nn.Parameter(torch.ones(1, self.heads, 1, 1))

    def forward(self, tokens: Tensor, bias: Tensor | None) -> Tensor:
        """(B, T, C) and (heads, T, T) to (B, T, C)."""
        batch, length, width = tokens.shape
        parts = self.in_proj(tokens).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # (B, heads, T, c) each
        mask = None if bias is None else self._gated(query, bias)
        mixed = self.attend(query, key, value, mask)
        projected: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return projected

    def _gated(self, query: Tensor, bias: Tensor) -> Tensor:
        """Chi et al. 2022, eq. 4 to 7: (B, heads, T, T), a gate a query times the bias."""
        if not hasattr(self, "grep_a"):
            return bias.to(query.dtype)
        sums = self.grep_linear(query).unflatten(-1, (2, _GATE // 2)).sum(-1)
        update, reset = torch.sigmoid(sums).chunk(2, dim=-1)  # (B, heads, T, 1) each
        gate = update * (reset * self.grep_a - 1.0) + 2.0
        gated: Tensor = gate * bias
        return gated.to(query.dtype)


class _Layer(nn.Module):
    """Attention and feed-forward network, each with its residual and normalisation."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        width, inner = config.encoder_embed_dim, config.encoder_ffn_embed_dim
        self.self_attn = _GatedAttention(config)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)
        self.final_layer_norm = nn.LayerNorm(width)
        self._normalise_first = config.layer_norm_first
        self._residual = config.residual
        self._activation: nn.Module = {"gelu": nn.GELU(), "relu": nn.ReLU()}[config.activation_fn]

    def forward(self, tokens: Tensor, bias: Tensor | None) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        if self._normalise_first:
            tokens = tokens + self.self_attn(self.self_attn_layer_norm(tokens), bias)
            return tokens + self._forth(self.final_layer_norm(tokens))
        attended = torch.add(self.self_attn(tokens, bias), tokens, alpha=self._residual)
        tokens = self.self_attn_layer_norm(attended)
        result: Tensor = self.final_layer_norm(torch.add(self._forth(tokens), tokens, alpha=self._residual))
        return result

    def _forth(self, tokens: Tensor) -> Tensor:
        forth: Tensor = self.fc2(self._activation(self.fc1(tokens)))
        return forth


class _Encoder(nn.Module):
    """Positions and blocks."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        width = config.encoder_embed_dim
        self.pos_conv = FourierConv1d(
            width, width, config.conv_pos, padding=config.conv_pos // 2,
            groups=config.conv_pos_groups,
        )  # fmt: skip
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.encoder_layers))
        self.layer_norm = nn.LayerNorm(width)
        if config.relative_position_embedding:
            self.relative_attention_bias = nn.Embedding(config.num_buckets, config.encoder_attention_heads)
        self._config = config

    def forward(self, tokens: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """(B, T, C) to the tokens after each layer asked for."""
        length = tokens.shape[1]
        moved = self.pos_conv(tokens.transpose(1, 2))[..., :length]
        tokens = tokens + functional.gelu(moved).transpose(1, 2)
        first = self._config.layer_norm_first
        tokens = tokens if first else self.layer_norm(tokens)
        bias = None
        if self._config.relative_position_embedding:  # computed once for all layers
            buckets = position_buckets(length, self._config.num_buckets, self._config.max_distance)
            table = self.relative_attention_bias.weight
            line = table[torch.from_numpy(buckets).to(table.device)].T.contiguous()  # (heads, 2 T - 1)
            # (heads, T, T) by key minus query: row q is the line from T - 1 - q on. Strided, since an
            # unfolding would be exported row by row.
            bias = line.as_strided((len(line), length, length), (line.shape[1], 1, 1)).flip(1).contiguous()
        found: dict[int, Tensor] = {}
        for number, layer in enumerate(list(self.layers)[: max(layers)], start=1):
            tokens = layer(tokens, bias)
            if number in layers:
                top = first and number == len(self.layers)
                found[number] = self.layer_norm(tokens) if top else tokens
        return [found[number] for number in layers]


class Beats(nn.Module):
    """Filter bank to tokens.

    Parameters
    ----------
    config
        Sizes.
    """

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embedding = nn.Conv2d(
            1, config.embed_dim, config.patch, config.patch, bias=config.conv_bias
        )
        self.layer_norm = nn.LayerNorm(config.embed_dim)
        if config.embed_dim != config.encoder_embed_dim:
            self.post_extract_proj = nn.Linear(config.embed_dim, config.encoder_embed_dim)
        self.encoder = _Encoder(config)

    def forward(self, spectrograms: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Compute the tokens of several layers, and nothing above the highest.

        Parameters
        ----------
        spectrograms
            (B, frames, mels) normalised log-mel, at least one patch long.
        layers
            From 1 to the number of blocks.

        Returns
        -------
        list of Tensor
            (B, frames // patch, mels // patch, C) a layer, in the order asked for.
        """
        patches = self.patch_embedding(spectrograms[:, None])  # (B, E, time, band)
        time, band = patches.shape[2:]
        tokens = self.layer_norm(patches.flatten(2).transpose(1, 2))  # time-major
        if hasattr(self, "post_extract_proj"):
            tokens = self.post_extract_proj(tokens)
        return [maps.unflatten(1, (time, band)) for maps in self.encoder(tokens, layers)]


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn a checkpoint's tensors into those of `Beats`.

    Parameters
    ----------
    state
        The checkpoint's ``model``.

    Returns
    -------
    dict
        Float32. q, k and v of a layer are stacked; the convolution's direction and length
        (Salimans and Kingma 2016, eq. 2; one length a tap) are multiplied; of the position tables
        the first layer's stays. A name that is not known stays as it is.
    """
    ours = {name: value.float() for name, value in state.items()}
    for name in [name for name in ours if name.endswith(f"self_attn.{_PARTS[0]}.weight")]:
        stem = name.removesuffix(f"{_PARTS[0]}.weight")
        for kind in ("weight", "bias"):
            parts = [ours.pop(f"{stem}{part}.{kind}", None) for part in _PARTS]
            present = [part for part in parts if part is not None]
            ours[f"{stem}in_proj.{kind}"] = torch.cat(present)
    for directions, sizes in _WEIGHT_NORM:
        if not {directions, sizes} <= ours.keys():
            continue
        direction, size = ours.pop(directions), ours.pop(sizes)
        length = torch.linalg.vector_norm(direction, dim=(0, 1), keepdim=True)
        ours["encoder.pos_conv.weight"] = direction * (size / length)
    if "encoder.pos_conv.0.bias" in ours:
        ours["encoder.pos_conv.bias"] = ours.pop("encoder.pos_conv.0.bias")
    tables = [name for name in ours if name.endswith("self_attn.relative_attention_bias.weight")]
    if tables:
        first = ours[min(tables)]
        ours = {name: value for name, value in ours.items() if name not in tables}
        ours["encoder.relative_attention_bias.weight"] = first
    return ours
