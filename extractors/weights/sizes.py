"""What a fine-tuned file's configuration asks for, held against its tensors before it is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from cache.base.errors import AsdError
from extractors.backbone import Kept

# A model may have parts that the file leaves out, as CLAP's text tower, five times its audio tower.
_TIMES, _SPARE = 16, 2**26
_LARGEST = 2**24  # a number of an extractor; the largest known is Whisper's 480,000 samples
_FILTERS = 2**26  # values of an extractor's filter bank: 256 MiB of float32


def check_model(kept: Kept, config: dict[str, Any], build: Callable[[], nn.Module]) -> None:
    """Refuse a configuration that its own tensors contradict, before memory is taken.

    Parameters
    ----------
    kept
        The file.
    config
        Of the model.
    build
        Makes the model; called where tensors have sizes and no memory.

    Raises
    ------
    AsdError
        If it has more layers than the file has tensors, or 16 times the values of these and 2^26
        more.
    """
    for name, number in _layer_counts(config):
        if number > len(kept.state):
            raise AsdError(f"{kept.path}: its {name} is {number}, and it has {len(kept.state)} tensors")
    with torch.device("meta"):
        model = build()
    asked = sum(value.numel() for value in [*model.parameters(), *model.buffers()])
    held = sum(value.numel() for value in kept.state.values())
    if asked > _TIMES * held + _SPARE:
        raise AsdError(f"{kept.path}: its configuration asks for {asked} values, its tensors have {held}")


def check_extractor(kept: Kept, extractor: dict[str, Any]) -> None:
    """Refuse a feature extractor whose sizes are absurd, before memory is taken.

    Raises
    ------
    AsdError
        With the number.
    """
    for name, number in _numbers(extractor):
        if number > _LARGEST:
            raise AsdError(f"{kept.path}: its extractor's {name} is {number}, more than {_LARGEST}")
    window = max(_whole(extractor.get(name)) for name in ("n_fft", "fft_window_size"))
    bands = max(_whole(extractor.get(name)) for name in ("feature_size", "num_mel_bins"))
    if window * bands > _FILTERS:
        raise AsdError(f"{kept.path}: its extractor has {bands} bands of windows of {window}")


def _layer_counts(config: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for name, number in _numbers(config):
        if "layers" in name or "depth" in name:
            yield name, number


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, int]]:
    """Whole numbers of a JSON value, with the last key above each."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner, name)
    elif isinstance(value, int):
        yield name, value


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0
