"""Every backbone in its smallest size with random parameters, for the tests of the contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from extractors.backbone import Source
from extractors.nets.mobilenet import MobileNet


def write_mobilenet(path: Path) -> Path:
    """An EfficientAT checkpoint of the smallest width and a classifier."""
    torch.manual_seed(0)
    network = MobileNet(0.1)
    torch.save(network.state_dict() | {"classifier.2.bias": torch.zeros(3)}, path)
    return path


# Backbone -> what to load, made in a folder of the test's own.
SMALL: Mapping[str, Callable[[Path], Source]] = {
    "efficientat": lambda folder: Source(weights=write_mobilenet(folder / "mn01.pt")),
    "logmel": lambda _: Source(),
    "panns": lambda _: Source("Cnn6", seed=0),
}
