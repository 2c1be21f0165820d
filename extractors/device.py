"""Devices: the one that a command line names, and what it computes at once."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from cache.base import errors
from cache.base.errors import AsdError

if TYPE_CHECKING:  # it takes a second or two, which front ends in NumPy need not wait for
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Processor:
    """Where NumPy computes, as a device."""

    type: str = "cpu"

    def __str__(self) -> str:
        return self.type


Device: TypeAlias = "torch.device | Processor"


def find_device(name: str) -> torch.device:
    """Find a device by its name on the command line.

    Parameters
    ----------
    name
        ``auto`` takes CUDA, then MPS, then the CPU; of several GPUs the one of this process, where
        a launcher started one for each. Anything else is torch's own name.

    Raises
    ------
    AsdError
        If it is not to be had on this machine.
    """
    import torch  # noqa: PLC0415

    if name == "auto":
        if torch.cuda.is_available():
            own = os.environ.get("LOCAL_RANK")  # as torchrun and accelerate say it
            return torch.device("cuda", int(own)) if own else torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise AsdError(f"--device {name}: not to be had here ({reason}); use auto or cpu") from error
    return device


def portions(batch: Tensor) -> tuple[Tensor, ...]:
    """Split a batch (B, ...) into what its device computes at once.

    A CPU takes clip by clip: several fall out of its cache, and what a clip gives could depend on
    them. Any other device takes all, and so does a CPU where gradients are recorded.
    """
    import torch  # noqa: PLC0415

    by_clip = batch.device.type == "cpu" and not torch.is_grad_enabled()
    return torch.split(batch, 1 if by_clip else len(batch))


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether a device, or the machine, lacked memory."""
    torch = sys.modules.get("torch")
    lacked = torch is not None and isinstance(error, torch.OutOfMemoryError)
    return lacked or errors.is_out_of_memory(error)
