"""Log-mel frames without a model: the default that needs no weights.

The spectrogram of the task's own baseline (Dohi et al. 2023, section 4): 128 mel bands, windows of
64 ms, steps of 32 ms at 16 kHz, power in decibels. ``logmel:cnn`` is a small network on top of it,
which has to be trained first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from cache.base.errors import AsdError
from extractors.backbone import (
    Backbone,
    BackboneSpec,
    Features,
    Inputs,
    ModelFile,
    NetworkBackbone,
    Source,
    Trainable,
)
from extractors.nets.melspectrogram import LogMel
from extractors.weights.loading import RANDOM, load_strictly, random_parameters

CHANNELS = (32, 64, 128, 256)
_GROUPS = 8


def _block(incoming: int, out: int) -> nn.Sequential:
    """(B, C, T, F) to (B, C', T / 2, F / 2).

    Groups are normalised (Wu and He 2018, arXiv 1803.08494), not batches: a clip's embedding must
    not depend on its batch, in training neither.
    """
    convolution = nn.Conv2d(incoming, out, 3, stride=2, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    steps = {"conv": convolution, "norm": nn.GroupNorm(_GROUPS, out), "relu": nn.ReLU()}
    return nn.Sequential(OrderedDict(steps))


class SmallCnn(nn.Module):
    """Four strided convolutions: 0.4 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        pairs = zip((1, *CHANNELS), CHANNELS, strict=False)
        self.blocks = nn.ModuleList(_block(*sizes) for sizes in pairs)

    def forward(self, spectrograms: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Compute the maps of several blocks, and nothing above the highest.

        Parameters
        ----------
        spectrograms
            (B, T, F) log-mel, dB.
        layers
            From 1 to 4.

        Returns
        -------
        list of Tensor
            (B, T', F', C) a layer, in the order asked for.
        """
        # How far a microphone stands from a machine moves all decibels alike, and is taken out.
        maps = layer_norm(spectrograms, spectrograms.shape[1:])[:, None]
        found: dict[int, Tensor] = {}
        for number, block in enumerate(list(self.blocks)[: max(layers)], start=1):
            maps = block(maps).contiguous(memory_format=torch.channels_last)
            if number in layers:
                found[number] = maps.permute(0, 2, 3, 1)
        return [found[layer] for layer in layers]


SPEC = BackboneSpec(
    name="logmel",
    sample_rate=16_000,
    layers=(0,),
    layer=0,
    dim=128,
    bands=1,
    min_samples=1024,
    max_samples=60 * 16_000,
    pooling="mean",
    batch={"cpu": 1, "cuda": 256},
    cpu_threads=1,  # its steps are too short to share; benchmarks/frontend.py
    settings=(("hop", 512), ("n_fft", 1024)),
)


_CNN = "cnn"


def _frontend() -> LogMel:
    return LogMel(SPEC.sample_rate, n_fft=1024, hop=512, n_mels=SPEC.dim)


class LogMelBackbone:
    """Log-mel frames as a backbone.

    Parameters
    ----------
    device
        Where to compute.
    """

    spec = SPEC

    def __init__(self, device: torch.device) -> None:
        self._frontend = _frontend().to(device)

    def features(self, waveforms: Tensor, layers: Sequence[int]) -> list[Features]:
        """Compute (B, time, 1, 128) float32 frames, dB; see `Backbone.features`."""
        frames = self._frontend(waveforms).unsqueeze(2)
        return [Features(frames) for _ in layers]


class LogMelCnn(NetworkBackbone):
    """A small network on log-mel frames as a backbone; layers are its blocks from 1.

    Parameters
    ----------
    network
        With its weights.
    device
        Where to compute.
    weights
        SHA-256 of its file.
    """

    def __init__(self, network: SmallCnn, device: torch.device, weights: str) -> None:
        layers = tuple(range(1, len(CHANNELS) + 1))
        self.spec = replace(
            SPEC,
            layers=layers,
            layer=layers[-1],
            dim=CHANNELS[-1],
            bands=SPEC.dim >> layers[-1],
            weights=weights,
            settings=(*SPEC.settings, ("variant", _CNN)),
        )
        self._frontend = _frontend().to(device)
        self.network = network.eval().to(device)

    def inputs(self, waveforms: Tensor) -> Inputs:
        """Compute the spectrogram (B, frames, 128), dB."""
        return Inputs(self._frontend(waveforms), waveforms.shape[1], time=1, frequency=2)

    def states(self, inputs: Inputs, layers: Sequence[int]) -> list[Features]:
        """Compute (B, time, band, C) maps; see `Tunable.states`."""
        return [Features(maps) for maps in self.network(inputs.values, layers)]

    @property
    def trainable(self) -> Trainable:
        """What can be trained; adapters join all convolutions but the first."""
        blocks = [(f"blocks.{number}.",) for number in range(len(CHANNELS))]
        lora = [f"blocks.{number}.conv" for number in range(1, len(CHANNELS))]
        return Trainable(self.network, ((), *blocks), tuple(lora))

    @property
    def blueprint(self) -> dict[str, Any]:
        """The variant."""
        return {"variant": _CNN}


def load(source: Source, device: torch.device) -> Backbone:
    """Build the front end on a device; see `BackboneFile.load`."""
    if source.weights is not None:
        raise AsdError(
            f"logmel has no published weights: {source.weights} was not made by finetune.run; "
            "leave --weights out"
        )
    if source.variant not in {"", _CNN}:
        raise AsdError(f"logmel has no variant {source.variant!r}; leave it out, or take {_CNN}")
    if not source.variant:
        return LogMelBackbone(device)
    if source.seed is None:
        raise AsdError(
            f"logmel:{_CNN} has no published weights; train it with python -m finetune.run "
            f"--backbone logmel:{_CNN}, then --backbone logmel --weights FILE"
        )
    return LogMelCnn(random_parameters(SmallCnn, source.seed), device, RANDOM)


def rebuild(kept: ModelFile, device: torch.device) -> LogMelCnn:
    """Build the network of a fine-tuned file; see `BackboneFile.rebuild`."""
    backbone = LogMelCnn(SmallCnn(), device, kept.sha256)
    load_strictly(backbone.network, kept.state, kept.path)
    return backbone
