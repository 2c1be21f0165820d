"""EfficientAT (Schmid et al. 2023): MobileNetV3 audio taggers of 1 to 70 million parameters.

The practical choice on a CPU or at the edge. Weights: ``mn01_as`` to ``mn40_as`` of the project's
releases, MIT; the width is read off the file. Input as in training: 32 kHz, pre-emphasis 0.97, 128
Kaldi mel bands from 0 to 15 kHz, ``(log(x + 1e-5) + 4.5) / 5``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from cache.base.errors import AsdError
from extractors.backbone import (
    RANDOM,
    BackboneSpec,
    Features,
    Inputs,
    ModelFile,
    NetworkBackbone,
    Source,
    Trainable,
)
from extractors.device import portions
from extractors.nets.melspectrogram import PreEmphasisedLogMel
from extractors.nets.mobilenet import LAYERS, MobileNet
from extractors.weights.loading import load_state, load_strictly, random_parameters
from extractors.weights.needed import needed
from extractors.weights.published import EFFICIENTAT

SPEC = BackboneSpec(
    name="efficientat",
    sample_rate=32_000,
    layers=tuple(range(1, LAYERS + 1)),
    layer=8,  # of the layers tried on real recordings the best average; benchmarks/backbones.md
    dim=80,
    bands=8,
    min_samples=1024,
    pooling="mean",
    native=(LAYERS,),
    max_samples=60 * 32_000,
    batch={"cpu": 1, "cuda": 128},
    cpu_threads=1,  # small convolutions: a second thread waits more than it works
    settings=(("hop", 320), ("mels", 128), ("n_fft", 1024)),
)
_LAST = "features.16.0.weight"  # (6 c, c, 1, 1): c = 160 x width


class EfficientAt(NetworkBackbone):
    """Feature maps of a MobileNet as a backbone.

    Layers 1 to 15 are the bottlenecks, 16 the last convolution, whose mean over time and frequency
    is the network's own embedding, for the pooling ``native``.

    Parameters
    ----------
    network
        With its weights.
    device
        Where to compute.
    weights
        SHA-256 of the checkpoint.
    """

    def __init__(self, network: MobileNet, device: torch.device, weights: str) -> None:
        self.spec = replace(SPEC, dim=network.widths[SPEC.layer - 1], weights=weights)
        self._frontend = PreEmphasisedLogMel().to(device)
        self.network = network.eval().fuse().to(device)

    def inputs(self, waveforms: Tensor) -> Inputs:
        """Compute the spectrogram (B, 128, frames)."""
        return Inputs(self._frontend(waveforms), waveforms.shape[1], time=2, frequency=1)

    def states(self, inputs: Inputs, layers: Sequence[int]) -> list[Features]:
        """Compute (B, time, band, C) maps; see `Tunable.states`.

        One clip at a time through the network on a CPU, where the choice of a convolution's
        algorithm depends on the batch.
        """
        parts = [self.network(part, layers) for part in portions(inputs.values)]
        maps = [torch.cat(part) for part in zip(*parts, strict=True)]
        return [
            Features(each.permute(0, 3, 2, 1), each.mean((2, 3)) if layer == LAYERS else None)
            for each, layer in zip(maps, layers, strict=True)
        ]

    @property
    def trainable(self) -> Trainable:
        """What can be trained; adapters join the convolutions of 1 x 1 that project."""
        steps = [(f"features.{layer}.",) for layer in self.spec.layers]
        modules = self.network.named_modules()
        pointwise = [n for n, m in modules if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
        return Trainable(self.network, (("features.0.",), *steps), tuple(pointwise))

    @property
    def blueprint(self) -> dict[str, Any]:
        """The width."""
        return {"width": self.network.width}


def load(source: Source, device: torch.device) -> EfficientAt:
    """Build a network of the checkpoint's width, or of the variant's with random parameters.

    Variants are ``mn01`` to ``mn40``; a checkpoint tells its own. See `BackboneFile.load`.
    """
    if source.seed is not None:
        network = random_parameters(lambda: MobileNet(_width(source.variant or "mn10")), source.seed)
        return EfficientAt(network, device, RANDOM)
    file = needed(source, "efficientat", EFFICIENTAT)
    weights, state = file.path, load_state(file)
    shape = tuple(state[_LAST].shape) if _LAST in state else ()
    if len(shape) != 4 or shape[0] != 6 * shape[1] or not 16 <= shape[1] <= 640:
        raise AsdError(
            f"{weights} is no EfficientAT mn checkpoint: {_LAST} is {shape or 'missing'}; bring "
            f"{EFFICIENTAT[0]} or a wider one"
        )
    if source.variant and round(160 * _width(source.variant)) != shape[1]:
        raise AsdError(f"{weights} is no {source.variant}; leave the variant out or bring its file")
    network = MobileNet(shape[1] / 160)
    load_strictly(network, state, weights, unused=("classifier.",))
    return EfficientAt(network, device, file.sha256)


def rebuild(kept: ModelFile, device: torch.device) -> EfficientAt:
    """Build the network of a fine-tuned file; see `BackboneFile.rebuild`."""
    width = kept.blueprint.get("width")
    if not isinstance(width, float) or not 0.1 <= width <= 4:
        raise AsdError(f"{kept.path}: its width is {width!r}, expected 0.1 to 4")
    backbone = EfficientAt(MobileNet(width), device, kept.sha256)
    load_strictly(backbone.network, kept.state, kept.path)
    return backbone


def _width(variant: str) -> float:
    """Multiplier of the channels: ``mn04`` is 0.4."""
    if not re.fullmatch(r"mn(0[1-9]|[1-3]\d|40)", variant):
        raise AsdError(f"efficientat has no variant {variant!r}; it has mn01 to mn40")
    return int(variant[2:]) / 10
