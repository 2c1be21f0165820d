"""CED (Dinkel et al. 2023, arXiv 2308.11957): small transformers distilled from an ensemble of taggers.

The choice for a small computer beside EfficientAT. Variants ``tiny`` (5.5 M parameters), ``mini``,
``small`` and ``base``, Apache 2.0. Input as in training: 16 kHz, 64 mel bands up to 8 kHz in centred
Hann windows of 32 ms every 10 ms, decibels no lower than 120 under the loudest of the clip, patches of
16 frames x 16 bands.

Positions end at 1012 frames: a clip up to 10.1 s is heard whole, a longer one in overlapping windows,
where the publisher's code cuts it into pieces and fills the last one up. Tokens of the top layer are
those after its normalisation; their mean is the embedding that the publisher's classifier is given.

Written from the paper (section 2), the model card and the keys of the published checkpoints. Their batch
normalisation of the mel bands is a scale and a shift here, see `from_published`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

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
from extractors.nets.filters import htk_filters
from extractors.nets.melspectrogram import CentredLogMel
from extractors.nets.vit import EPSILON, Vit, VitBackbone, VitSizes, sizes_of
from extractors.weights.loading import load_state, load_strictly, needed, random_parameters, sizes_only
from extractors.weights.published import CED

SAMPLE_RATE, N_FFT, HOP, MELS = 16_000, 512, 160, 64  # Hz, samples, bands
PATCH = 16  # side of a square patch of the (frequency, time) plane, also its step
COLUMNS = 63  # positions in time of the published files
SIZES = {  # table 1 of the paper
    "tiny": VitSizes(192, 12, 3),
    "mini": VitSizes(256, 12, 4),
    "small": VitSizes(384, 12, 6),
    "base": VitSizes(768, 12, 12),
}
SPEC = BackboneSpec(
    name="ced",
    sample_rate=SAMPLE_RATE,
    layers=tuple(range(1, 13)),
    layer=12,
    dim=192,
    bands=MELS // PATCH,
    min_samples=(PATCH - 1) * HOP,
    max_samples=(COLUMNS * PATCH + 4) * HOP - 1,  # 1012 frames
    pooling="mean",
    batch={"cpu": 1, "cuda": 128},
    settings=(("hop", HOP), ("mels", MELS), ("n_fft", N_FFT)),
)
_RANGE = 120.0  # dB under the clip's loudest value
_UNUSED = ("outputlayer.", "front_end.")  # the classifier; the filter bank of the first release
_BATCH_EPSILON = 1e-5  # PyTorch's default
_NAMES = {
    "patch_embed.proj.": "patch_embedding.",
    "time_pos_embed": "time",
    "freq_pos_embed": "frequency",
    "init_bn.1.": "init_bn.",  # in the first release
}


class Ced(Vit):
    """Spectrogram to tokens.

    Parameters
    ----------
    sizes
        Of the transformer, which normalises what goes into a block, and what leaves the last.
    columns
        Patches in time that have a position.
    """

    FRONT = ("scale", "shift", "patch_embedding.", "time", "frequency")
    TOP = ("norm.",)

    def __init__(self, sizes: VitSizes, columns: int) -> None:
        super().__init__(sizes, before=True)
        self.scale = nn.Parameter(torch.full((MELS,), 1 / 30))  # of dB, where nothing is learnt yet
        self.shift = nn.Parameter(torch.full((MELS,), 1.0))
        self.patch_embedding = nn.Conv2d(1, sizes.width, PATCH, PATCH)
        self.time = nn.Parameter(torch.randn(1, sizes.width, 1, columns) / 50)
        self.frequency = nn.Parameter(torch.randn(1, sizes.width, MELS // PATCH, 1) / 50)
        self.norm = nn.LayerNorm(sizes.width, EPSILON)

    def forward(self, spectrograms: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Compute the tokens of several layers, and nothing above the highest.

        Parameters
        ----------
        spectrograms
            (B, frames, 64) mel power in dB, 16 frames at least and no more than have positions;
            frames beyond whole patches are not heard.
        layers
            From 1 to the number of blocks.

        Returns
        -------
        list of Tensor
            (B, frames // 16, 4, C) a layer, in the order asked for.
        """
        normalised = spectrograms * self.scale + self.shift
        patches = self.patch_embedding(normalised.transpose(1, 2)[:, None])  # (B, C, band, time)
        band, time = patches.shape[2:]
        patches = patches + self.time[..., :time] + self.frequency
        states = self.states(patches.flatten(2).transpose(1, 2), layers)
        if self.sizes.depth in states:
            states[self.sizes.depth] = self.norm(states[self.sizes.depth])
        grid = (len(spectrograms), band, time, -1)
        return [states[number].reshape(grid).transpose(1, 2) for number in layers]


class CedBackbone(VitBackbone[Ced]):
    """Tokens of CED as a backbone; layers are its blocks from 1.

    Parameters
    ----------
    network
        With its weights.
    device
        Where to compute.
    weights
        SHA-256 of the checkpoint.
    """

    def __init__(self, network: Ced, device: torch.device, weights: str) -> None:
        layers = tuple(range(1, network.sizes.depth + 1))
        frames = network.time.shape[-1] * PATCH + 4  # the publisher's limit for 63 columns
        self.spec = replace(
            SPEC,
            layers=layers,
            layer=layers[-1],
            dim=network.sizes.width,
            max_samples=frames * HOP - 1,
            weights=weights,
        )
        self._frontend = CentredLogMel(htk_filters(SAMPLE_RATE, N_FFT, MELS), HOP).to(device)
        self.network = network.eval().to(device)

    def inputs(self, waveforms: Tensor) -> Inputs:
        """Compute the spectrogram (B, frames, 64) in dB."""
        decibels = self._frontend(waveforms)
        floor = decibels.amax((1, 2), keepdim=True) - _RANGE
        return Inputs(torch.maximum(decibels, floor), waveforms.shape[1], time=1, frequency=2)

    def states(self, inputs: Inputs, layers: Sequence[int]) -> list[Features]:
        """Compute (B, time, band, C) tokens; see `Tunable.states`.

        On a CPU, as many clips at a time go through the network as are together as wide as the largest.
        """
        at_once = SIZES["base"].width // self.spec.dim or 1
        parts = [self.network(part, layers) for part in portions(inputs.values, at_once)]
        return [Features(torch.cat(tokens)) for tokens in zip(*parts, strict=True)]


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn a checkpoint's tensors into those of `Ced`.

    Parameters
    ----------
    state
        Of the hub's files, or of the first release.

    Returns
    -------
    dict
        Float32. The batch normalisation (Ioffe and Szegedy 2015, algorithm 2) is folded into a scale
        and a shift; a name that is not known stays as it is.
    """
    ours: dict[str, Tensor] = {}
    for published, value in state.items():
        name = published.removeprefix("encoder.")
        for theirs, own in _NAMES.items():
            if name.startswith(theirs):
                name = own + name.removeprefix(theirs)
        ours[name] = value.float()
    parts = [f"init_bn.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
    if ours.keys() >= set(parts):
        weight, bias, mean, variance = (ours.pop(part) for part in parts)
        ours.pop("init_bn.num_batches_tracked", None)
        ours["scale"] = weight / (variance + _BATCH_EPSILON).sqrt()
        ours["shift"] = bias - mean * ours["scale"]
    return ours


def load(source: Source, device: torch.device) -> CedBackbone:
    """Build the encoder of a published file; see `BackboneFile.load`.

    Variants are ``tiny``, ``mini``, ``small`` and ``base``; a checkpoint tells its own.
    """
    if source.variant and source.variant not in SIZES:
        raise AsdError(f"ced has no variant {source.variant!r}; it has {', '.join(SIZES)}")
    if source.seed is not None:
        sizes = SIZES[source.variant or "tiny"]
        network = random_parameters(lambda: Ced(sizes, COLUMNS), source.seed)
        return CedBackbone(network, device, RANDOM)
    file = needed(source, "ced", CED)
    network = _network(from_published(load_state(file)), file.path, None)
    if source.variant and network.sizes != SIZES[source.variant]:
        raise AsdError(
            f"{file.path} is no ced:{source.variant}: it has {network.sizes.depth} blocks of "
            f"{network.sizes.width} values; leave the variant out or bring its file"
        )
    return CedBackbone(network, device, file.sha256)


def rebuild(kept: ModelFile, device: torch.device) -> CedBackbone:
    """Build the encoder of a fine-tuned file; see `BackboneFile.rebuild`."""
    network = _network(kept.state, kept.path, kept.blueprint.get("heads"))
    return CedBackbone(network, device, kept.sha256)


def _network(state: Mapping[str, Tensor], path: Path, heads: object) -> Ced:
    sizes = sizes_of(state, path, heads)
    shape = tuple(state["time"].shape) if "time" in state else ()
    if len(shape) != 4 or not shape[3]:
        raise AsdError(f"{path} is no CED checkpoint: its positions in time are {shape or 'missing'}")
    with sizes_only():
        network = Ced(sizes, shape[3])
    load_strictly(network, state, path, unused=_UNUSED)
    return network
