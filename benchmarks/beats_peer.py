"""SpeechBrain's BEATs, numerically the published code, for tests and the benchmark."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from extractors.device import torchaudio

PUBLISHED: Mapping[str, object] = {  # what the cfg of BEATs_iter3_plus_AS2M changes
    "deep_norm": True,
    "gru_rel_pos": True,
    "max_distance": 800,
    "num_buckets": 320,
    "relative_position_embedding": True,
}


def build(cfg: Mapping[str, object]) -> Any:
    """Make the model with seeded random parameters.

    Parameters
    ----------
    cfg
        What differs from SpeechBrain's defaults.
    """
    torchaudio()
    from speechbrain.lobes.models import beats  # noqa: PLC0415  # needs torchaudio

    _forget_lazy_modules()
    config = beats.BEATsConfig(dict(cfg))
    torch.manual_seed(0)
    with patch.object(beats, "BEATsConfig", lambda _: config):  # it takes only a file otherwise
        model = beats.BEATs(None, freeze=True, output_all_hiddens=True)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "grep_a" in name or "relative_attention_bias" in name:
                parameter.normal_()  # by default next to nothing, which would hide a mistake
            elif parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) / 10)
    return model


def save(model: Any, path: Path) -> Path:
    """Write its parameters in the layout of the published files."""
    state = model.state_dict()
    for old, new in (("original0", "weight_g"), ("original1", "weight_v")):
        weight = state.pop(f"encoder.pos_conv.0.parametrizations.weight.{old}")
        state[f"encoder.pos_conv.0.{new}"] = weight
    torch.save({"cfg": vars(model.cfg), "model": state}, path)
    return path


def tokens(model: Any, waveforms: torch.Tensor) -> torch.Tensor:
    """(layers, B, T, C) after every block, the last normalised where blocks do not do it."""
    every: torch.Tensor = model.extract_features(waveforms, torch.ones(len(waveforms)))[0][1:]
    if model.cfg.layer_norm_first:
        every[-1] = model.encoder.layer_norm(every[-1])
    return every.transpose(1, 2)


def _forget_lazy_modules() -> None:
    """Drop SpeechBrain's stand-ins for packages that are not here: looking at one raises."""
    for name, module in list(sys.modules.items()):
        if type(module).__module__ == "speechbrain.utils.importutils":
            del sys.modules[name]
