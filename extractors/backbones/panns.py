"""PANNs (Kong et al. 2020, arXiv 1912.10211): audio taggers of 5 to 81 million parameters.

``Cnn14_16k`` takes 16 kHz, the rate of the task, as it is; the others hear 32 kHz. Weights: Zenodo
record 3987831, CC BY 4.0. Input as in training: 64 mel bands from 50 Hz, decibels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
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
from extractors.nets.cnn14 import MELS, Cnn
from extractors.nets.filters import slaney_filters
from extractors.nets.melspectrogram import CentredLogMel
from extractors.weights.loading import (
    Trusted,
    load_checkpoint,
    load_strictly,
    needed,
    random_parameters,
    sizes_only,
    tensors,
)
from extractors.weights.published import PANNS


@dataclass(frozen=True)
class _Variant:
    """A published network and its input (Kong et al. 2020, table I and section IV-B)."""

    name: str
    sample_rate: int  # Hz
    n_fft: int
    hop: int
    band: tuple[float, float]  # Hz
    channels: tuple[int, ...]
    kernel: int = 3

    @property
    def spec(self) -> BackboneSpec:
        """Facts of this variant, its weights left open."""
        blocks = len(self.channels)
        halvings = min(blocks, 5)
        return BackboneSpec(
            name="panns",
            sample_rate=self.sample_rate,
            layers=tuple(range(1, blocks + 1)),
            layer=blocks,
            dim=self.channels[-1],
            bands=MELS >> halvings,
            min_samples=((1 << halvings) - 1) * self.hop,  # one column is left of the highest map
            max_samples=60 * self.sample_rate,
            native=(blocks,),
            pooling="native",
            batch={"cpu": 4, "cuda": 64},
            settings=(("hop", self.hop), ("n_fft", self.n_fft), ("variant", self.name)),
        )

    def filters(self) -> NDArray[np.float64]:
        """(n_fft // 2 + 1, 64)."""
        return slaney_filters(self.sample_rate, self.n_fft, MELS, self.band)

    def network(self) -> Cnn:
        """Build the network, its parameters as initialised."""
        return Cnn(self.channels, self.kernel)


_WIDE, _NARROW = (64, 128, 256, 512, 1024, 2048), (64, 128, 256, 512)
_VARIANTS = (
    _Variant("Cnn14_16k", 16_000, 512, 160, (50.0, 8_000.0), _WIDE),
    _Variant("Cnn14", 32_000, 1024, 320, (50.0, 14_000.0), _WIDE),
    _Variant("Cnn10", 32_000, 1024, 320, (50.0, 14_000.0), _NARROW),
    _Variant("Cnn6", 32_000, 1024, 320, (50.0, 14_000.0), _NARROW, kernel=5),
)
# Output channels from which on Winograd's way is taken: fewer, and its transforms outweigh what they save.
# Where that is differs between processors by more than tenfold, so it is measured (benchmarks/panns.md).
_KERNELS: Mapping[str, int | None] = {
    "Winograd from 256 channels": 256,
    "Winograd from 1024 channels": 1024,
    "direct convolutions": None,
}
_REAL = "spectrogram_extractor.stft.conv_real.weight"  # (n_fft // 2 + 1, 1, n_fft)
_IMAG = "spectrogram_extractor.stft.conv_imag.weight"
_MEL = "logmel_extractor.melW"  # (n_fft // 2 + 1, 64)
_FIRST = "conv_block1.conv1.weight"  # (64, 1, kernel, kernel)
_CLASSIFIER = "fc_audioset."
_NEAR = 1e-4  # of the largest: the files' transform was computed in another order than ours
# Some files hold the state of the sampler as well: NumPy's numbers and arrays, under the names that
# NumPy 1 and 2 write. None of these runs anything.
_NUMPY: Sequence[Trusted] = tuple(
    (cast(Callable[..., object], value.__reduce__()[0]), f"numpy.{core}.multiarray.{name}")
    for value, name in ((np.float64(0), "scalar"), (np.empty(0), "_reconstruct"))
    for core in ("core", "_core")
)
_TRUSTED: Sequence[Trusted] = (
    *_NUMPY,
    np.ndarray,
    np.dtype,
    np.dtypes.Int64DType,
    np.dtypes.Float64DType,
)


class Panns(NetworkBackbone):
    """Maps and embedding of a network of PANNs as a backbone.

    Layers are the blocks; the last has the network's own embedding.

    Parameters
    ----------
    variant
        Which network.
    network
        With its weights.
    device
        Where to compute.
    weights
        SHA-256 of the checkpoint.
    """

    def __init__(self, variant: _Variant, network: Cnn, device: torch.device, weights: str) -> None:
        self.spec = replace(variant.spec, weights=weights)
        self._frontend = CentredLogMel(variant.filters(), variant.hop).to(device)
        self._least: int | None = None
        self.network = network.eval().fuse().to(device)
        # Elsewhere the device's library chooses between such ways by itself.
        widest = variant.channels[-1] if variant.kernel == 3 and device.type == "cpu" else 0
        known = [name for name, least in _KERNELS.items() if (least or 0) <= widest]
        self.kernels = tuple(known) if widest else ()
        self.use("")

    def use(self, kernel: str) -> None:
        """Compute the wide convolutions in Winograd's way, or none; see `Kernels`."""
        if self.kernels:
            self._least = _KERNELS[kernel or self.kernels[0]]
            self.network.in_winograds_way(self._least)

    def inputs(self, waveforms: Tensor) -> Inputs:
        """Compute the spectrogram (B, frames, 64)."""
        return Inputs(self._frontend(waveforms), waveforms.shape[1], time=1, frequency=2)

    def states(self, inputs: Inputs, layers: Sequence[int]) -> list[Features]:
        """Compute (B, time, band, C) maps and (B, C) embeddings; see `Tunable.states`."""
        maps = self.network(inputs.values, layers)
        return [
            Features(
                each.permute(0, 2, 3, 1), self.network.embed(each) if layer in self.spec.native else None
            )
            for each, layer in zip(maps, layers, strict=True)
        ]

    @property
    def trainable(self) -> Trainable:
        """What can be trained; adapters join all convolutions but the first."""
        blocks: list[tuple[str, ...]] = [(f"conv_block{layer}.",) for layer in self.spec.layers]
        blocks[-1] = (*blocks[-1], "fc1.")
        modules = self.network.named_modules()
        convolutions = [n for n, m in modules if isinstance(m, nn.Conv2d) and m.in_channels > 1]
        way = self.network.in_winograds_way
        return Trainable(
            self.network, (("bn0.",), *blocks), tuple(convolutions),
            apart=lambda: way(None), together=lambda: way(self._least),
        )  # fmt: skip

    @property
    def blueprint(self) -> dict[str, Any]:
        """The variant."""
        return {"variant": dict(self.spec.settings)["variant"]}


def load(source: Source, device: torch.device) -> Panns:
    """Build the checkpoint's network, or the variant's with random parameters.

    Variants are ``Cnn14_16k`` (the usual), ``Cnn14``, ``Cnn10`` and ``Cnn6``; a checkpoint tells
    its own. See `BackboneFile.load`.
    """
    asked = _named(source.variant) if source.variant else None
    if source.seed is not None:
        variant = asked or _VARIANTS[0]
        network = random_parameters(variant.network, source.seed)
        return Panns(variant, network, device, RANDOM)
    file = needed(source, "panns", PANNS)
    weights, content = file.path, load_checkpoint(file, _TRUSTED)
    if not isinstance(content, Mapping) or "model" not in content:
        raise AsdError(f"{file} is no PANNs checkpoint: no 'model' in it; bring {PANNS[0]}")
    state = tensors(content["model"], weights)
    variant = _variant_of(state, weights)
    if asked not in {None, variant}:
        raise AsdError(
            f"{weights} holds {variant.name}, not {source.variant}; leave the variant out or bring its file"
        )
    _check_input(state, variant, weights)
    with sizes_only():
        network = variant.network()
    network = network.to_empty(device="cpu")
    load_strictly(network, state, weights, unused=(_REAL, _IMAG, _MEL, _CLASSIFIER))
    return Panns(variant, network, device, file.sha256)


def rebuild(kept: ModelFile, device: torch.device) -> Panns:
    """Build the network of a fine-tuned file; see `BackboneFile.rebuild`."""
    variant = _named(str(kept.blueprint.get("variant")))
    backbone = Panns(variant, variant.network(), device, kept.sha256)
    load_strictly(backbone.network, kept.state, kept.path)
    return backbone


def _named(name: str) -> _Variant:
    for variant in _VARIANTS:
        if variant.name == name:
            return variant
    known = ", ".join(variant.name for variant in _VARIANTS)
    raise AsdError(f"panns has no variant {name!r}; it has {known}")


def _variant_of(state: Mapping[str, Tensor], path: Path) -> _Variant:
    """Tell which network a file holds: by its transform, its kernels and its blocks."""
    shapes = {name: tuple(state[name].shape) for name in (_MEL, _FIRST) if name in state}
    blocks = {name.partition(".")[0] for name in state if name.startswith("conv_block")}
    for variant in _VARIANTS:
        wanted = {
            _MEL: (variant.n_fft // 2 + 1, MELS),
            _FIRST: (variant.channels[0], 1, variant.kernel, variant.kernel),
        }
        if shapes == wanted and len(blocks) == len(variant.channels):
            return variant
    seen = ", ".join(f"{name} is {shapes.get(name, 'missing')}" for name in (_MEL, _FIRST))
    known = ", ".join(checkpoint.file for checkpoint in PANNS)
    raise AsdError(
        f"{path} is no PANNs checkpoint of {known}: {seen}, {len(blocks)} blocks; bring {PANNS[0]}"
    )


def _check_input(state: Mapping[str, Tensor], variant: _Variant, path: Path) -> None:
    """See that the file's transform and filters are the front end's: windowed cosines and sines."""
    samples = np.arange(variant.n_fft)
    angle = 2 * np.pi * np.outer(samples[: variant.n_fft // 2 + 1], samples) / variant.n_fft
    window = 0.5 - 0.5 * np.cos(2 * np.pi * samples / variant.n_fft)  # Hann, periodic
    expected = {
        _REAL: (np.cos(angle) * window)[:, None],
        _IMAG: (-np.sin(angle) * window)[:, None],
        _MEL: variant.filters(),
    }
    for name, values in expected.items():
        given = state[name].double().numpy() if name in state else np.empty(0)
        far = given.shape != values.shape or np.abs(given - values).max() > _NEAR * values.max()
        if far:
            raise AsdError(
                f"{path}: {name} is not the one of {variant.name}, which was trained on another "
                f"input; bring {PANNS[0]}"
            )
