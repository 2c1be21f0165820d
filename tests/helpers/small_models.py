"""Every backbone in its smallest size with random parameters, for the tests of the contract."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from extractors.backbone import Source
from extractors.backbones.efficientat import MobileNet
from extractors.nets.beats import Beats, BeatsConfig
from extractors.nets.vit import VitSizes
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


SMALLEST = VitSizes(64, 2, 1)


def write_vit(
    path: Path, stem: str, front: Mapping[str, tuple[int, ...]], sizes: VitSizes = SMALLEST
) -> Path:
    """A hub's file of a transformer, its values of no generator: the same everywhere.

    Parameters
    ----------
    path
        Ends in ``.safetensors``.
    stem
        Stands before all names.
    front
        Shapes by name of what is not a block.
    sizes
        Of the blocks.
    """
    width, shapes = sizes.width, dict(front)
    for block in (f"blocks.{number}" for number in range(sizes.depth)):
        for name, second, first in (
            ("attn.qkv", 1, 3),
            ("attn.proj", 1, 1),
            ("mlp.fc1", 1, 4),
            ("mlp.fc2", 4, 1),
        ):
            shapes[f"{block}.{name}.weight"] = (first * width, second * width)
            shapes[f"{block}.{name}.bias"] = (first * width,)
        shapes |= {f"{block}.{n}.{kind}": (width,) for n in ("norm1", "norm2") for kind in ("weight", "bias")}
    save_file({stem + name: cosines(name, shape) for name, shape in shapes.items()}, path)
    return path


def cosines(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Values of a parameter: near 1 of what scales, else small and of both signs."""
    count = torch.arange(math.prod(shape), dtype=torch.float64)
    wave = torch.cos(count * 1.7 + len(name) + sum(map(ord, name)) % 97)
    scales = (len(shape) == 1 and name.endswith("weight")) or "var" in name
    size = 0.1 if len(shape) == 1 else 1.5 / math.sqrt(math.prod(shape[1:]))
    return (scales + size * wave).float().reshape(shape)


def noise_of(seconds: float, rate: int = 16_000) -> torch.Tensor:
    """(1, T) noise of no generator, with a slow swell."""
    count = torch.arange(int(seconds * rate), dtype=torch.float64)
    noise = (count * 7919 + count * count * 31) % 10_007 / 10_007 - 0.5
    return (noise * (0.3 + 0.2 * torch.sin(count / 5000))).float()[None]


def picked(values: torch.Tensor) -> list[float]:
    """Twelve values, evenly spread over all in their order."""
    flat = values.flatten()
    return [float(value) for value in flat[torch.linspace(0, len(flat) - 1, 12).long()]]


def golden(name: str, case: str) -> list[list[float]]:
    """Return what a publisher's network makes of `noise_of`, with the parameters of `write_vit`.

    For each of its two layers twelve values of the patches and twelve of its own embedding, `picked`.
    Made by ``python -m benchmarks.encoders NAME CLONE --golden`` with the publishers' code:
    github.com/cwx-worst-one/EAT, jianganbai/FISHER, jimbozhang/hf_transformers_custom_model_ced.
    """
    text = (Path(__file__).parent / "encoders.json").read_text("utf-8")
    values: list[list[float]] = json.loads(text)[name][case]
    return values


def write_eat(path: Path, sizes: VitSizes = SMALLEST) -> Path:
    """A small EAT, as the hub's files are."""
    width = sizes.width
    front = {
        "local_encoder.proj.weight": (width, 1, 16, 16),
        "local_encoder.proj.bias": (width,),
        "extra_tokens": (1, 1, width),
        "pre_norm.weight": (width,),
        "pre_norm.bias": (width,),
    }
    return write_vit(path, "model.", front, sizes)


def write_fisher(path: Path) -> Path:
    """The smallest FISHER, as the publisher's files are."""
    front = {
        "modality_encoders.IMAGE.local_encoder.proj.weight": (64, 1, 16, 16),
        "modality_encoders.IMAGE.local_encoder.proj.bias": (64,),
        "modality_encoders.IMAGE.extra_tokens": (1, 1, 64),
        "modality_encoders.IMAGE.context_encoder.norm.weight": (64,),
        "modality_encoders.IMAGE.context_encoder.norm.bias": (64,),
    }
    state = load_file(write_vit(path.with_suffix(".safetensors"), "", front))
    torch.save({"cfg": {"model": {"num_heads": 1, "depth": 2, "embed_dim": 64}}, "model": state}, path)
    return path


def write_ced(path: Path) -> Path:
    """The smallest CED, as the hub's files are."""
    front = {
        "patch_embed.proj.weight": (64, 1, 16, 16),
        "patch_embed.proj.bias": (64,),
        "time_pos_embed": (1, 64, 1, 63),
        "freq_pos_embed": (1, 64, 4, 1),
        "norm.weight": (64,),
        "norm.bias": (64,),
        "init_bn.num_batches_tracked": (),
        **{f"init_bn.{part}": (64,) for part in ("weight", "bias", "running_mean", "running_var")},
    }
    state = load_file(write_vit(path, "encoder.", front))
    state["encoder.init_bn.running_mean"] -= 30  # of decibels
    state["encoder.init_bn.running_var"] *= 2000
    save_file(state, path)
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
    "ced": lambda folder: Source(weights=write_ced(folder / "ced.safetensors")),
    "eat": lambda folder: Source(weights=write_eat(folder / "eat.safetensors")),
    "efficientat": lambda folder: Source(weights=write_mobilenet(folder / "mn01.pt")),
    "fisher": lambda folder: Source(weights=write_fisher(folder / "fisher.pt")),
    "hf": lambda folder: Source(variant=str(write_wave(folder / "m", "Hubert", **NARROW))),
    "logmel": lambda _: Source(),
    "logspec": lambda _: Source(),
    "panns": lambda _: Source("Cnn6", seed=0),
}
