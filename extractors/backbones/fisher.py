"""FISHER (Fan et al. 2025, arXiv 2507.16696): signals of any sampling rate, band by band.

One encoder for sound, vibration, current and the like: the spectrum is cut into bands of 4 kHz, and
each band goes through the network of `extractors.nets.eat` on its own, so that a higher rate means
more bands, not another scale. ``fisher:small@48000`` hears 48 kHz as it is; without a rate it hears
16 kHz. Variants ``small`` (22 M parameters), ``mini`` and ``tiny``.

Input as in training: magnitudes in windows of 25 ms every 10 ms, ``(ln(x + 1e-10) + 3.017) / (2 *
2.153)``, bands of 100 bins; bins beyond the last whole band are not heard, and a signal too slow for
one band is filled up. The publisher cuts what is longer than 1024 frames; here it is heard in windows.

The embedding that the publisher scores, and that is taken when nothing is said, is ``native``: the
token of each band, band after band. The publisher's code is MIT; for the weights no licence could be
read, so ask the authors before you use them for more than research.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cache.base.errors import AsdError
from extractors.backbone import RANDOM, BackboneSpec, Features, Inputs, ModelFile, Source
from extractors.backbones.eat import EatBackbone, build, random_eat, read_published
from extractors.device import portions
from extractors.nets.eat import PATCH, Eat
from extractors.nets.melspectrogram import BAND, BandSpectrum
from extractors.nets.vit import VitSizes
from extractors.weights.loading import needed
from extractors.weights.published import FISHER

GRID = (128, 50)  # positions of the published files; patches count through it row after row
FRAMES = 1024  # the publisher's limit
USUAL_RATE = 16_000
SIZES = {  # the ViT-tiny, -mini and -small of the paper's table 1
    "small": VitSizes(384, 12, 6),
    "mini": VitSizes(256, 12, 4),
    "tiny": VitSizes(192, 12, 3),
}
_RATES = range(1000, 1_000_001)  # Hz


class FisherBackbone(EatBackbone):
    """Tokens of FISHER as a backbone; layers are its blocks from 1.

    ``native`` is the token of each band, band after band.

    Parameters
    ----------
    network
        With its weights.
    rate
        What it hears, Hz.
    device
        Where to compute.
    weights
        SHA-256 of the checkpoint.
    """

    def __init__(self, network: Eat, rate: int, device: torch.device, weights: str) -> None:
        super().__init__(network, device, weights)
        spectrum = BandSpectrum(rate)
        hop, bands = spectrum.hop, spectrum.bands * (BAND // PATCH)
        rows = network.positions.shape[1] // (BAND // PATCH)  # of one band, counted through the grid
        self.spec = BackboneSpec(
            name="fisher",
            sample_rate=rate,
            layers=self.spec.layers,
            layer=self.spec.layer,
            dim=network.sizes.width,
            bands=bands,
            min_samples=spectrum.n_fft + (PATCH - 1) * hop,
            max_samples=spectrum.n_fft + min(FRAMES, rows * PATCH) * hop - 1,
            native=self.spec.layers,
            pooling="native",
            batch={"cpu": 1, "cuda": 64},
            weights=weights,
            settings=(("hop", hop), ("n_fft", spectrum.n_fft)),
        )
        self._spectrum = spectrum.to(device)

    def inputs(self, waveforms: Tensor) -> Inputs:
        """Compute the normalised spectrum (B, frames, bands x 100)."""
        return Inputs(self._spectrum(waveforms), waveforms.shape[1], time=1, frequency=2)

    def states(self, inputs: Inputs, layers: Sequence[int]) -> list[Features]:
        """Compute (B, time, band, C) tokens, six bands of patches a band; see `Tunable.states`."""
        parts = []
        for spectra in portions(inputs.values):
            clips, frames, bins = spectra.shape
            bands = spectra.reshape(clips, frames, bins // BAND, BAND).transpose(1, 2).flatten(0, 1)
            found = []
            for patches, token in self.network(bands, layers):  # (B x bands, time, 6, C), (B x bands, C)
                laid = patches.reshape(clips, -1, *patches.shape[1:]).transpose(1, 2)
                found.append((laid.flatten(2, 3), token.reshape(clips, -1)))
            parts.append(found)
        of_layers = [zip(*each, strict=True) for each in zip(*parts, strict=True)]
        return [Features(*map(torch.cat, each)) for each in of_layers]

    @property
    def blueprint(self) -> dict[str, Any]:
        """What the tensors do not tell."""
        return {"heads": self.network.sizes.heads, "rate": self.spec.sample_rate}


def load(source: Source, device: torch.device) -> FisherBackbone:
    """Build the encoder of a published file; see `BackboneFile.load`.

    Variants are ``small``, ``mini`` and ``tiny``, and ``@RATE`` in Hz behind them or alone.
    """
    size, at, text = source.variant.partition("@")
    if (size and size not in SIZES) or (at and not re.fullmatch(r"\d{1,9}", text)):
        raise AsdError(
            f"fisher has no variant {source.variant!r}; it has {', '.join(SIZES)}, and behind them "
            "a rate in Hz: small@48000"
        )
    rate = _rate(int(text) if at else USUAL_RATE, f"fisher:{source.variant}")
    if source.seed is not None:
        network = random_eat(SIZES[size or "small"], GRID, source.seed)
        return FisherBackbone(network, rate, device, RANDOM)
    file = needed(replace(source, variant=size), "fisher", FISHER)
    state, heads = read_published(file)
    network = build(state, file.path, GRID, heads)
    if size and network.sizes != SIZES[size]:
        raise AsdError(
            f"{file.path} is no fisher:{size}: it has {network.sizes.depth} blocks of "
            f"{network.sizes.width} values; leave the size out or bring its file"
        )
    return FisherBackbone(network, rate, device, file.sha256)


def rebuild(kept: ModelFile, device: torch.device) -> FisherBackbone:
    """Build the encoder of a fine-tuned file; see `BackboneFile.rebuild`."""
    rate = _rate(kept.blueprint.get("rate"), str(kept.path))
    network = build(kept.state, kept.path, GRID, kept.blueprint.get("heads"))
    return FisherBackbone(network, rate, device, kept.sha256)


def _rate(rate: object, where: str) -> int:
    if type(rate) is not int or rate not in _RATES:
        raise AsdError(f"{where}: its rate is {rate!r} Hz, expected {_RATES[0]} to {_RATES[-1]}")
    return rate
