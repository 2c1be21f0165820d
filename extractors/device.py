"""Where networks run: devices, and torchaudio and transformers beside a torch of another build.

The torchaudio of the package registries is built for CUDA; beside a torch for the CPU its compiled
extension cannot be loaded, and because its ``__init__`` loads that first, nothing of it can be
imported, although filter banks, transforms and effects are plain Python. Transformers' audio
models import torchaudio wherever it is installed, and fail with it. So both come from here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from cache.base import errors
from cache.base.errors import AsdError

if TYPE_CHECKING:  # it takes a second or two, which front ends in NumPy need not wait for
    import torch
    from torch import Tensor

_EXTENSION = "torchaudio._extension"


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

    # Convolutions in TF32 keep ten bits: tables called float32 would differ from a CPU's in the third digit.
    torch.backends.cudnn.allow_tf32 = False
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


def portions(batch: Tensor, at_once: int = 1) -> tuple[Tensor, ...]:
    """Split a batch (B, ...) into what its device computes at once.

    A CPU takes clip by clip, since several fall out of its cache, unless a network is so small that one
    keeps its cores waiting. Any other device takes all, and so does a CPU where gradients are recorded.

    Parameters
    ----------
    batch
        Of any shape.
    at_once
        Clips that a CPU takes.
    """
    import torch  # noqa: PLC0415

    few = batch.device.type == "cpu" and not torch.is_grad_enabled()
    return torch.split(batch, at_once if few else len(batch))


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether a device, or the machine, lacked memory."""
    torch = sys.modules.get("torch")
    lacked = torch is not None and isinstance(error, torch.OutOfMemoryError)
    return lacked or errors.is_out_of_memory(error)


def torchaudio() -> ModuleType:
    """Import torchaudio; where its extension cannot be loaded, without it.

    Whoever imports torchaudio afterwards, another library too, gets the same module. Without the
    extension `torchaudio.functional.forced_align` raises a `RuntimeError`, and the few functions
    that it would speed up run in Python.

    Returns
    -------
    ModuleType
        The package, its submodules as attributes.

    Raises
    ------
    ImportError, OSError, RuntimeError
        If torchaudio is not installed, or fails for another reason than its extension.
    """
    try:
        return import_module("torchaudio")
    except (OSError, RuntimeError):  # no such library; built for another CUDA
        sys.modules[_EXTENSION] = _Extension(_EXTENSION)
        try:
            module = import_module("torchaudio")
        except BaseException:
            del sys.modules[_EXTENSION]
            raise
        vars(module)["_extension"] = sys.modules[_EXTENSION]
        return module


def transformers() -> Any:
    """Import transformers, able to load its audio models.

    Returns
    -------
    ModuleType
        The package; typed loosely, because it makes its classes when they are asked for.
    """
    torchaudio()
    return import_module("transformers")


class _Extension(ModuleType):
    """Says of every compiled part that it is not there."""

    _IS_TORCHAUDIO_EXT_AVAILABLE = False
    _IS_ALIGN_AVAILABLE = False

    @staticmethod
    def _load_lib(_: str) -> bool:
        """Find no library, as torchaudio itself does where none was built."""
        return False

    @staticmethod
    def fail_if_no_align(function: Callable[..., object]) -> Callable[..., object]:
        """Replace a function that needs the extension by one that says so."""

        def unavailable(*_: object, **__: object) -> object:
            raise RuntimeError(
                f"torchaudio.functional.{function.__name__} needs torchaudio's extension, which "
                "does not fit this torch; install the torchaudio built for it"
            )

        return unavailable
