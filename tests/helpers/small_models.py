"""Every backbone in its smallest size with random parameters, for the tests of the contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch

from extractors.backbone import Source
from extractors.nets.beats import Beats, BeatsConfig
from extractors.nets.mobilenet import MobileNet
from tests.helpers.hub_models import FEW_PATCHES, NARROW, write_ast, write_wave


def write_mobilenet(path: Path) -> Path:
    """An EfficientAT checkpoint of the smallest width and a classifier."""
    torch.manual_seed(0)
    network = MobileNet(0.1)
    torch.save(network.state_dict() | {"classifier.2.bias": torch.zeros(3)}, path)
    return path


def write_beats(path: Path, **changes: object) -> Path:
    """A BEATs checkpoint of two narrow blocks under the names of the published files."""
    config = BeatsConfig(
        embed_dim=16,
        encoder_embed_dim=32,
        encoder_ffn_embed_dim=64,
        encoder_layers=2,
        encoder_attention_heads=4,
        conv_pos=16,
        conv_pos_groups=4,
    )
    config = replace(config, **changes)  # type: ignore[arg-type]
    torch.manual_seed(0)
    state = as_published(Beats(config).state_dict())
    cfg = asdict(config) | {"input_patch_size": config.patch, "predictor_class": 3}
    torch.save({"cfg": cfg, "model": state}, path)
    return path


def as_published(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename and split a network's tensors as the published BEATs files have them."""
    published: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        if "in_proj" in name:
            for part, third in zip("qkv", value.chunk(3), strict=True):
                published[name.replace("in_proj", f"{part}_proj")] = third.clone()
        elif name == "encoder.pos_conv.weight":
            length = value.norm(dim=(0, 1), keepdim=True)
            published["encoder.pos_conv.0.weight_g"] = length
            published["encoder.pos_conv.0.weight_v"] = value / length * 3
        elif name == "encoder.pos_conv.bias":
            published["encoder.pos_conv.0.bias"] = value
        elif name != "encoder.relative_attention_bias.weight":
            published[name] = value
    table = state.get("encoder.relative_attention_bias.weight")
    if table is not None:
        layers = {name.split(".")[2] for name in state if name.startswith("encoder.layers.")}
        for layer in layers:
            stem = f"encoder.layers.{layer}.self_attn"
            published[f"{stem}.relative_attention_bias.weight"] = table
    return published


# Backbone -> what to load, made in a folder of the test's own.
SMALL: Mapping[str, Callable[[Path], Source]] = {
    "ast": lambda folder: Source(weights=write_ast(folder / "ast", **FEW_PATCHES)),
    "beats": lambda folder: Source(weights=write_beats(folder / "beats.pt")),
    "efficientat": lambda folder: Source(weights=write_mobilenet(folder / "mn01.pt")),
    "hf": lambda folder: Source(variant=str(write_wave(folder / "m", "Hubert", **NARROW))),
    "logmel": lambda _: Source(),
    "logspec": lambda _: Source(),
    "panns": lambda _: Source("Cnn6", seed=0),
}
