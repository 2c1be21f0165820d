"""A small convolutional network on log-mel frames, for training without a pre-trained model."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from extractors.backbone import BackboneSpec, Features, Inputs, NetworkBackbone, Trainable
from extractors.nets.melspectrogram import LogMel

VARIANT = "cnn"  # of the backbone ``logmel``
CHANNELS = (32, 64, 128, 256)
_GROUPS = 8


class SmallCnn(nn.Module):
    """Four strided convolutions: 0.4 million parameters.

    Groups are normalised (Wu and He 2018, arXiv 1803.08494), not batches: a clip's embedding must
    not depend on its batch, in training neither.
    """

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for incoming, out in zip((1, *CHANNELS), CHANNELS, strict=False):
            convolution = nn.Conv2d(incoming, out, 3, stride=2, padding=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            steps = {"conv": convolution, "norm": nn.GroupNorm(_GROUPS, out), "relu": nn.ReLU()}
            self.blocks.append(nn.Sequential(OrderedDict(steps)))

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


class LogMelCnn(NetworkBackbone):
    """A small network on log-mel frames as a backbone; layers are its blocks from 1.

    Parameters
    ----------
    frames
        Facts of the log-mel frames.
    network
        With its weights.
    device
        Where to compute.
    weights
        SHA-256 of its file.
    """

    def __init__(self, frames: BackboneSpec, network: SmallCnn, device: torch.device, weights: str) -> None:
        layers = tuple(range(1, len(CHANNELS) + 1))
        self.spec = replace(
            frames,
            layers=layers,
            layer=layers[-1],
            dim=CHANNELS[-1],
            bands=frames.dim >> layers[-1],
            weights=weights,
            settings=(*frames.settings, ("variant", VARIANT)),
            arrays=False,
        )
        settings = dict(frames.settings)
        n_fft, hop = int(settings["n_fft"]), int(settings["hop"])
        self._frontend = LogMel(frames.sample_rate, n_fft, hop, frames.dim).to(device)
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
        return {"variant": VARIANT}
