"""EAT (Chen et al. 2024, arXiv 2401.03497) and SSLAM (Alex et al. 2025): transformers on patches.

Weights: ``base``, ``large``, their AudioSet-tuned versions, and ``sslam``, which is the network of
``base`` trained on mixtures; all MIT. Of a fine-tuned one the encoder's tokens are taken, never the
class probabilities. Input as in training: 16 kHz in [-1, 1], 128 Kaldi mel bands in Hann windows of
25 ms, ``(x + 4.268) / (2 * 4.569)``, patches of 16 frames x 16 bands. Zeros fill the last patch before
they are normalised, as the publisher's guide to feature extraction has it, so that a clip of any
length is heard to its end.

Their values are far from evenly spread: nearest neighbours gain 2.76 points when those below 0.1 are
set to 0 and those above 0.5 go through tanh before pooling (arXiv 2603.04605). That is the pooling
step ``tanh+``, and ``tanh+mean`` what is taken when nothing is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from cache.base.errors import AsdError
from extractors.backbone import (
    RANDOM,
    BackboneSpec,
    Features,
    Inputs,
    ModelFile,
    Source,
)
from extractors.device import portions
from extractors.nets.eat import PATCH, UNUSED, Eat, from_published, grid_positions
from extractors.nets.melspectrogram import KaldiFbank
from extractors.nets.vit import VitBackbone, VitSizes, sizes_of
from extractors.weights.loading import (
    WeightsFile,
    load_checkpoint,
    load_strictly,
    needed,
    random_parameters,
    sizes_only,
    tensors,
)
from extractors.weights.published import EAT

BANDS = KaldiFbank.MELS // PATCH
ROWS = 768  # time positions of the published files: two minutes
SIZES = {"base": VitSizes(), "large": VitSizes(1024, 24, 16), "sslam": VitSizes()}
SPEC = BackboneSpec(
    name="eat",
    sample_rate=KaldiFbank.RATE,
    layers=tuple(range(1, 13)),
    layer=12,
    dim=768,
    bands=BANDS,
    min_samples=KaldiFbank.WINDOW,
    max_samples=30 * KaldiFbank.RATE,  # 1504 tokens: attention grows with their square
    pooling="tanh+mean",
    native=tuple(range(1, 13)),
    batch={"cpu": 1, "cuda": 64},
    settings=(("mels", KaldiFbank.MELS),),
)
_MEAN, _DEVIATION = -4.268, 4.569  # of log mel on AudioSet, feature_extract.py of the publisher's code


class EatBackbone(VitBackbone[Eat]):
    """Tokens of EAT as a backbone; layers are its blocks from 1.

    ``native`` is the token that stands for the whole clip.

    Parameters
    ----------
    network
        With its weights.
    device
        Where to compute.
    weights
        SHA-256 of the checkpoint.
    """

    def __init__(self, network: Eat, device: torch.device, weights: str) -> None:
        layers = tuple(range(1, network.sizes.depth + 1))
        rows = network.positions.shape[1] // BANDS
        self.spec = replace(
            SPEC,
            layers=layers,
            layer=layers[-1],
            dim=network.sizes.width,
            native=layers,
            max_samples=min(SPEC.max_samples, KaldiFbank.WINDOW + (rows * PATCH - 1) * KaldiFbank.HOP),
            weights=weights,
        )
        self._frontend = KaldiFbank("hanning").to(device)
        self.network = network.eval().to(device)

    def inputs(self, waveforms: Tensor) -> Inputs:
        """Compute the normalised filter bank (B, frames, 128), frames a multiple of 16."""
        mel = self._frontend(waveforms - waveforms.mean(1, keepdim=True))
        filled = functional.pad(mel, (0, 0, 0, -mel.shape[1] % PATCH))
        normalised = filled.sub_(_MEAN).div_(2 * _DEVIATION)
        return Inputs(normalised, waveforms.shape[1], time=1, frequency=2)

    def states(self, inputs: Inputs, layers: Sequence[int]) -> list[Features]:
        """Compute (B, time, band, C) tokens; see `Tunable.states`.

        One clip at a time through the network on a CPU, as in `extractors.backbones.beats`.
        """
        parts = [self.network(part, layers) for part in portions(inputs.values)]
        of_layers = [zip(*each, strict=True) for each in zip(*parts, strict=True)]
        return [Features(*map(torch.cat, each)) for each in of_layers]


def load(source: Source, device: torch.device) -> EatBackbone:
    """Build the encoder of a published file; see `BackboneFile.load`.

    Variants are ``base``, ``large`` and ``sslam``, each also with ``-finetuned`` behind it.
    """
    plain = source.variant.removesuffix("-finetuned") or "base"
    if plain not in SIZES:
        known = ", ".join(checkpoint.variant for checkpoint in EAT)
        raise AsdError(f"eat has no variant {source.variant!r}; it has {known}")
    if source.seed is not None:
        return EatBackbone(random_eat(SIZES[plain], (ROWS, BANDS), source.seed), device, RANDOM)
    file = needed(source, "eat", EAT)
    state, heads = read_published(file)
    network = build(state, file.path, (ROWS, BANDS), heads)
    if source.variant and network.sizes != SIZES[plain]:
        raise AsdError(
            f"{file.path} is no eat:{source.variant}: it has {network.sizes.depth} blocks of "
            f"{network.sizes.width} values; leave the variant out or bring its file"
        )
    return EatBackbone(network, device, file.sha256)


def rebuild(kept: ModelFile, device: torch.device) -> EatBackbone:
    """Build the encoder of a fine-tuned file; see `BackboneFile.rebuild`."""
    network = build(kept.state, kept.path, (ROWS, BANDS), kept.blueprint.get("heads"))
    return EatBackbone(network, device, kept.sha256)


def random_eat(sizes: VitSizes, grid: tuple[int, int], seed: int) -> Eat:
    """Build a network with parameters of a seed, and positions on a grid of (time, frequency)."""
    network = random_parameters(lambda: Eat(sizes, grid[0] * grid[1]), seed)
    network.positions.copy_(grid_positions(*grid, sizes.width))
    return network


def read_published(file: WeightsFile) -> tuple[dict[str, Tensor], object]:
    """Read a file of EAT's family: of the hub, or of the training code, ``{'cfg', 'model'}``.

    Returns
    -------
    dict
        As in `Eat`.
    object
        The number of heads that its ``cfg`` states; ``None`` where there is none.
    """
    content, heads = load_checkpoint(file), None
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        cfg = content.get("cfg")
        stated = cfg.get("model") if isinstance(cfg, Mapping) else None
        heads = stated.get("num_heads") if isinstance(stated, Mapping) else None
        # The teacher of the training, a mapping of its own.
        content = {name: value for name, value in content["model"].items() if name != "_ema"}
    return from_published(tensors(content, file.path)), heads


def build(state: Mapping[str, Tensor], path: Path, grid: tuple[int, int], heads: object) -> Eat:
    """Build a network of what its tensors say.

    Parameters
    ----------
    state
        As in `Eat`; files that leave out the positions, which are not trained, get those of the grid.
    path
        For messages.
    grid
        Rows and columns of the positions.
    heads
        As the file states them.

    Raises
    ------
    AsdError
        If it is no such network.
    """
    sizes = sizes_of(state, path, heads)
    if "positions" not in state:
        state = {**state, "positions": grid_positions(*grid, sizes.width)}
    shape = tuple(state["positions"].shape)
    if len(shape) != 3 or shape[0] != 1 or shape[1] % grid[1] or not shape[1]:
        raise AsdError(f"{path}: its positions are {shape}, expected (1, {grid[1]} a row, {sizes.width})")
    with sizes_only():
        network = Eat(sizes, shape[1])
    load_strictly(network, state, path, unused=UNUSED)
    return network
