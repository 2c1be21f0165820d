"""Smaller number formats: which layers may compute in them on the processor at hand.

A library's kernel for one processor can be wrong where the one for another is right: grouped 1-d
convolutions in bfloat16 gave numbers that had little to do with the layer (cosine 0.52) on Intel
processors with AMX. So nothing is taken on trust: grouped 1-d convolutions, which the position
embeddings of audio transformers are, stay in float32 everywhere, and every other kind of layer is
held against float32 once a process, on the device it will run on, before it is used.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from extractors.nets.fourier import version_of

GROUPED = "grouped 1-d convolution"
# Of a result's norm. Rounding to bfloat16, the coarsest format, moves it by 2^-8 = 0.004.
_FAITHFUL = 0.02
_SIZES = (16, 64)  # channels: kernels differ between small and large layers

Call = tuple[Callable[..., Tensor], tuple[Any, ...]]  # a function of torch, and its arguments


def _convolution(dimensions: int, channels: int, groups: int) -> Call:
    plain = torch.conv1d if dimensions == 1 else torch.conv2d
    values = torch.randn(2, channels, *(48, 24)[:dimensions])
    kernel = (16,) if dimensions == 1 else (3, 3)
    weight = torch.randn(channels, channels // groups, *kernel)
    return plain, (values, weight, None, 1, 1, 1, groups)


# What is tried, by kind of layer: a call with so many channels.
_TRIED: Mapping[str, Callable[[int], Call]] = {
    "1-d convolution": lambda c: _convolution(1, c, 1),
    "2-d convolution": lambda c: _convolution(2, c, 1),
    "grouped 2-d convolution": lambda c: _convolution(2, c, c),
    "linear layer": lambda c: (functional.linear, (torch.randn(50, c), torch.randn(3 * c, c))),
    "matrix product": lambda c: (torch.matmul, (torch.randn(4, 50, c), torch.randn(4, c, 50))),
    "attention": lambda c: (
        functional.scaled_dot_product_attention,
        tuple(torch.randn(2, 4, 50, c) for _ in range(3)),
    ),
}
_KINDS: Mapping[Callable[..., Any], str] = {
    torch.conv1d: "1-d convolution",
    torch.conv_transpose1d: "1-d convolution",
    torch.conv2d: "2-d convolution",
    torch.conv_transpose2d: "2-d convolution",
    functional.linear: "linear layer",
    functional.multi_head_attention_forward: "linear layer",
    **dict.fromkeys(
        (
            torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm, torch.einsum,
            Tensor.matmul, Tensor.mm, Tensor.bmm, Tensor.addmm, Tensor.baddbmm,
            Tensor.__matmul__, Tensor.__rmatmul__,
        ),
        "matrix product",
    ),
    functional.scaled_dot_product_attention: "attention",
}  # fmt: skip
# What has a weight in second place, which inference casts once instead of in every call.
_WEIGHTED = frozenset(
    (functional.linear, torch.conv1d, torch.conv2d, torch.conv_transpose1d, torch.conv_transpose2d)
)
_GROUPS = {torch.conv1d: 6, torch.conv2d: 6, torch.conv_transpose1d: 6, torch.conv_transpose2d: 6}


def reduced(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Compute in a smaller number format what computes rightly in it, and the rest in float32.

    Parameters
    ----------
    device
        Where the network is.
    dtype
        The format; float32 changes nothing.
    """
    if dtype == torch.float32:
        return nullcontext()
    stack = ExitStack()
    stack.enter_context(torch.autocast(device.type, dtype))
    stack.enter_context(exact(device, dtype))
    return stack


def exact(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Inside an autocast to a format, keep those layers in float32 that it would falsify."""
    if dtype == torch.float32:
        return nullcontext()
    return _Exact(device, dtype, frozenset((GROUPED, *wrong_kinds(device, dtype))))


@lru_cache(maxsize=16)
def wrong_kinds(device: torch.device, dtype: torch.dtype) -> tuple[str, ...]:
    """Find the kinds of layers that a format falsifies on a device; tried once a process.

    Parameters
    ----------
    device
        Where.
    dtype
        The format, tried under autocast.

    Returns
    -------
    tuple of str
        Kinds whose result is off by more than rounding explains, or that the format lacks.
    """
    if dtype == torch.float32:
        return ()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        found = tuple(
            kind
            for kind, call in _TRIED.items()
            if not all(_is_faithful(*call(size), device, dtype) for size in _SIZES)
        )
    if found:
        logging.getLogger(__name__).warning(
            "%s gives wrong numbers in %s for: %s; these layers compute in float32",
            device, dtype, ", ".join(found),
        )  # fmt: skip
    return found


def _is_faithful(
    call: Callable[..., Tensor], args: Sequence[Any], device: torch.device, dtype: torch.dtype
) -> bool:
    with torch.autocast("cpu", enabled=False):  # float32 on the CPU, wherever this was called
        expected = call(*args).double()
    moved = [value.to(device) if isinstance(value, Tensor) else value for value in args]
    try:
        with torch.autocast(device.type, dtype):
            found = call(*moved)
    except RuntimeError:  # no such kernel
        return False
    return bool((found.double().cpu() - expected).norm() <= _FAITHFUL * expected.norm())


# Weight to its version and its copy in a smaller format, for as long as the weight lives.
_COPIES: MutableMapping[Tensor, tuple[object, Tensor]] = WeakTensorKeyDictionary()


def _smaller(weight: object, dtype: torch.dtype) -> object:
    """Give a network's own weight in a smaller format: cast in every call, it took a third of the time."""
    own = isinstance(weight, nn.Parameter) and weight.dtype == torch.float32
    if not own or torch.is_grad_enabled() or not isinstance(weight, Tensor):
        return weight
    version = version_of(weight)
    known = _COPIES.get(weight)
    if known is None or known[0] != version or known[1].dtype != dtype:
        known = version, weight.detach().to(dtype)
        _COPIES[weight] = known
    return known[1]


class _Exact(TorchFunctionMode):
    """Runs calls of some kinds of layers in float32, whatever network makes them."""

    def __init__(self, device: torch.device, dtype: torch.dtype, kinds: frozenset[str]) -> None:
        super().__init__()
        self._device = device
        self._dtype = dtype
        self._wrong = kinds

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        kind, place = _KINDS.get(func, ""), _GROUPS.get(func)
        if place is not None and named.get("groups", args[place] if len(args) > place else 1) > 1:
            kind = f"grouped {kind}"
        if kind not in self._wrong:
            if func in _WEIGHTED and len(args) > 1:
                args = (args[0], _smaller(args[1], self._dtype), *args[2:])
            return func(*args, **named)
        with torch.autocast(self._device.type, enabled=False):
            return func(*map(_exactly, args), **{k: _exactly(v) for k, v in named.items()})


def _exactly(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
