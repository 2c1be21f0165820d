"""The device that a command line names."""

from __future__ import annotations

import torch

from cache.errors import AsdError


def find_device(name: str) -> torch.device:
    """Find a device by its name on the command line.

    Parameters
    ----------
    name
        ``auto`` takes CUDA, then MPS, then the CPU; anything else is torch's own name.

    Raises
    ------
    AsdError
        If it is not to be had on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise AsdError(
            f"--device {name}: not to be had here ({reason}); use auto or cpu"
        ) from error
    return device
