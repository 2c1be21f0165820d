"""Torchaudio and transformers beside a torch of another build.

The torchaudio of the package registries is built for CUDA; beside a torch for the CPU its compiled
extension cannot be loaded, and because its ``__init__`` loads that first, nothing of it can be
imported, although filter banks, transforms and effects are plain Python. Transformers' audio
models import torchaudio wherever it is installed, and fail with it. So both come from here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

_EXTENSION = "torchaudio._extension"


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
