"""Products of matrices in float32 by oneDNN, where that is faster than the library torch takes them to.

Both come with torch and are equal up to rounding. Which is faster depends on the processor: on an AMD one
with AVX-512 oneDNN took less than half as long as MKL (`benchmarks/beats.md`). So it is measured; see
`extractors.embedding.throughput`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_CLOSE = 1e-5  # of a product's norm: float32 rounds to 6e-8, in sums of hundreds


def multiplied(onednn: bool) -> AbstractContextManager[object]:
    """Have matrices multiplied by oneDNN where asked for and torch has it, else by torch's own choice."""
    return _ByOneDnn() if onednn and has_onednn() else nullcontext()


@lru_cache(maxsize=1)
def has_onednn() -> bool:
    """Whether this build of torch multiplies by oneDNN, and rightly; tried once a process."""
    rng = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        values, weight, bias = (torch.randn(size, generator=rng) for size in ((3, 50, 64), (96, 64), (96,)))
        expected = functional.linear(values, weight, bias)
        try:
            found = _linear(values, weight, bias)
        except (AttributeError, RuntimeError):  # a build or a platform without it
            return False
    return bool((found - expected).norm() <= _CLOSE * expected.norm())


def _linear(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply as `torch.nn.functional.linear` does."""
    # What torch.compile makes of a linear layer on a CPU; nothing public multiplies so without copies.
    made: Tensor = torch.ops.mkldnn._linear_pointwise(values.contiguous(), weight, bias, "none", [], "")  # noqa: SLF001
    return made


def _bmm(values: Tensor, others: Tensor) -> Tensor:
    """Multiply as `torch.bmm` does."""
    made = values.new_empty(*values.shape[:2], others.shape[2])
    for place, value, other in zip(made, values, others, strict=True):
        place.copy_(_linear(value, other.t()))
    return made


_BY_ONEDNN: Mapping[Callable[..., Any], Callable[..., Tensor]] = {functional.linear: _linear, torch.bmm: _bmm}


class _ByOneDnn(TorchFunctionMode):
    """Has oneDNN multiply what is float32 on a CPU and needs no gradient, whatever network asks for it."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named, other = kwargs or {}, _BY_ONEDNN.get(func)
        if other is None or named.keys() - {"bias"} or torch.is_grad_enabled():
            return func(*args, **named)
        given = [each for each in (*args, *named.values()) if each is not None]
        plain = all(
            each.dtype == torch.float32 and each.device.type == "cpu" and each.numel() for each in given
        )
        return (other if plain else func)(*args, **named)
