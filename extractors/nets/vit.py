"""The plain vision transformer that encoders of spectrograms are made of.

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words" (arXiv 2010.11929, section 3.1). The names of
a block's parts are those of the published checkpoints of EAT, FISHER and CED.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from cache.base.errors import AsdError, listing
from extractors.backbone import NetworkBackbone, Trainable

EPSILON = 1e-6  # of every normalisation, as in the checkpoints' configurations
_RATIO = 4  # of a feed-forward network's width to the tokens'
_HEAD = 64  # values of a head where a checkpoint does not state their number: so in all published ones


@dataclass(frozen=True)
class VitSizes:
    """Sizes of a transformer; the defaults are those of the "base" models.

    Attributes
    ----------
    width
        Of the tokens.
    depth, heads
        Numbers of blocks and of heads.
    """

    width: int = 768
    depth: int = 12
    heads: int = 12


ATTENTION = ("fused attention", "plain attention")  # ways to compute it, the usual first


class Attending(nn.Module):
    """What computes attention in one of two ways, equal up to rounding.

    Attributes
    ----------
    kernel
        Of `ATTENTION`: in one of torch's kernels, or as it is defined, product by product. Which is faster
        depends on the processor and the number of tokens.
    """

    kernel = ATTENTION[0]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute (B, heads, T, c) from three of that shape; a mask (B, heads, T, T) is added."""
        if self.kernel == ATTENTION[0]:
            return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        likeness = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-1, -2))
        if mask is not None:
            likeness = likeness + mask
        return torch.matmul(likeness.softmax(-1), value)


def use_attention(network: nn.Module, kernel: str) -> None:
    """Compute all attention of a network in one way of `ATTENTION`; empty for the usual one."""
    for module in network.modules():
        if isinstance(module, Attending):
            module.kernel = kernel or ATTENTION[0]


class _Attention(Attending):
    """Multi-head self-attention."""

    def __init__(self, sizes: VitSizes) -> None:
        super().__init__()
        self._heads = sizes.heads
        self.qkv: nn.Module = nn.Linear(sizes.width, 3 * sizes.width)
        self.proj = nn.Linear(sizes.width, sizes.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        parts = self.qkv(tokens).unflatten(-1, (3, self._heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # (B, heads, T, c) each
        mixed = self.attend(query, key, value)
        projected: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected


class _Block(nn.Module):
    """Attention and feed-forward network, normalised before each, or after each residual."""

    def __init__(self, sizes: VitSizes, *, before: bool) -> None:
        super().__init__()
        width = sizes.width
        self._before = before
        self.norm1 = nn.LayerNorm(width, EPSILON)
        self.attn = _Attention(sizes)
        self.norm2 = nn.LayerNorm(width, EPSILON)
        inner = nn.Linear(width, _RATIO * width)
        outer = nn.Linear(_RATIO * width, width)
        self.mlp = nn.Sequential(OrderedDict(fc1=inner, activation=nn.GELU(), fc2=outer))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        if self._before:
            tokens = tokens + self.attn(self.norm1(tokens))
            tokens = tokens + self.mlp(self.norm2(tokens))
        else:
            tokens = self.norm1(tokens + self.attn(tokens))
            tokens = self.norm2(tokens + self.mlp(tokens))
        return tokens


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


class Vit(nn.Module):
    """Blocks on tokens, for networks that make the tokens.

    Parameters
    ----------
    sizes
        Of the transformer.
    before
        Whether a block normalises what goes in, instead of what comes out.
    """

    FRONT: ClassVar[tuple[str, ...]] = ()  # beginnings of parameter names below the blocks
    TOP: ClassVar[tuple[str, ...]] = ()  # and above them

    def __init__(self, sizes: VitSizes, *, before: bool) -> None:
        super().__init__()
        self.sizes = sizes
        self.blocks = nn.ModuleList(_Block(sizes, before=before) for _ in range(sizes.depth))

    def states(self, tokens: Tensor, layers: Sequence[int]) -> dict[int, Tensor]:
        """Compute the tokens (B, T, C) after each layer asked for, and nothing above the highest."""
        found: dict[int, Tensor] = {}
        for number, block in enumerate(list(self.blocks)[: max(layers)], start=1):
            tokens = block(tokens)
            if number in layers:
                found[number] = tokens
        return found

    @property
    def steps(self) -> tuple[tuple[str, ...], ...]:
        """Beginnings of parameter names by layer, from the input up; see `Trainable.blocks`."""
        blocks = [(f"blocks.{number}.",) for number in range(self.sizes.depth)]
        return (self.FRONT, *blocks[:-1], (*blocks[-1], *self.TOP))

    def lay_apart(self) -> None:
        """Compute queries, keys and values by three projections; see `lay_projections`."""
        lay_projections(self, "qkv", apart=True)

    def lay_together(self) -> None:
        """Compute queries, keys and values by one projection."""
        lay_projections(self, "qkv", apart=False)


VitNetwork = TypeVar("VitNetwork", bound=Vit)


class VitBackbone(NetworkBackbone, Generic[VitNetwork]):
    """A backbone whose network is a `Vit`: what of it is trained, and what its tensors do not tell."""

    network: VitNetwork
    kernels = ATTENTION

    def use(self, kernel: str) -> None:
        """Compute attention in one of the ways; see `Kernels`."""
        use_attention(self.network, kernel)

    @property
    def trainable(self) -> Trainable:
        """What can be trained; adapters join the queries and the values (Hu et al. 2021)."""
        network = self.network
        names = ("q_proj", "v_proj")
        return Trainable(network, network.steps, names, network.lay_apart, network.lay_together)

    @property
    def blueprint(self) -> dict[str, Any]:
        """What the tensors do not tell."""
        return {"heads": self.network.sizes.heads}


def sizes_of(state: Mapping[str, Tensor], path: Path, heads: object = None) -> VitSizes:
    """Read a transformer's sizes off its tensors, so that none can ask for more memory than they have.

    Parameters
    ----------
    state
        With ``blocks.N.`` as `Vit` names them.
    path
        For messages.
    heads
        Their number where the file states it; otherwise heads have 64 values each.

    Raises
    ------
    AsdError
        If there are no blocks, or the heads do not divide the width.
    """
    first = state.get("blocks.0.attn.proj.weight")
    if first is None or first.ndim != 2:
        raise AsdError(f"{path} has no blocks of a transformer: it holds {listing(sorted(state), 3)}")
    width = len(first)
    heads = max(1, width // _HEAD) if heads is None else heads
    if type(heads) is not int or heads < 1 or width % heads:
        raise AsdError(f"{path}: {heads!r} heads do not divide tokens of {width} values")
    depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    return VitSizes(width, depth, heads)
