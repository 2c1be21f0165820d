"""The original networks of PANNs, from ``panns_inference``, for tests and the benchmark.

The package's ``__init__`` fetches files at import: its module of networks is imported without it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

import torch

_NAME = "_panns_inference"


def _networks() -> ModuleType:
    found = importlib.util.find_spec("panns_inference")  # looks for the package, runs nothing of it
    assert found is not None
    assert found.submodule_search_locations
    package = ModuleType(_NAME)
    package.__path__ = list(found.submodule_search_locations)
    sys.modules[_NAME] = package
    return importlib.import_module(f"{_NAME}.models")


def build(sample_rate: int) -> torch.nn.Module:
    """Cnn14 of the original, 16 or 32 kHz, in evaluation mode, every parameter random.

    The normalisations' statistics are random as well, so that leaving one out is seen.
    """
    settings: dict[int, dict[str, Any]] = {
        32_000: {"window_size": 1024, "hop_size": 320, "fmin": 50, "fmax": 14_000},
        16_000: {"window_size": 512, "hop_size": 160, "fmin": 50, "fmax": 8_000},
    }
    torch.manual_seed(0)
    network: torch.nn.Module = _networks().Cnn14(
        sample_rate=sample_rate, mel_bins=64, classes_num=527, **settings[sample_rate]
    )
    return randomise(network.eval())


def randomise(network: torch.nn.Module) -> torch.nn.Module:
    """Give every normalisation statistics and factors other than 0 and 1."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.7, 1.4)
            torch.nn.init.normal_(module.bias, 0, 0.2)
    return network
