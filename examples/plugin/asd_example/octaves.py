"""A backbone without weights: the level of each octave band, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cache.base.errors import AsdError
from extractors.backbone import Backbone, BackboneSpec, Features, Source

_WINDOW, _HOP = 1024, 512  # samples at 16 kHz
_BANDS = 7  # octaves between 62.5 Hz and 8 kHz: 4 to 512 bins of 15.625 Hz

SPEC = BackboneSpec(
    name="octaves",
    sample_rate=16_000,
    layers=(0,),
    layer=0,
    dim=1,
    bands=_BANDS,
    min_samples=_WINDOW,
    max_samples=60 * 16_000,
    pooling="mean",
    banding="keep",
    settings=(("hop", _HOP), ("n_fft", _WINDOW)),
)


class Octaves:
    """Power of octave bands in decibels."""

    spec = SPEC

    def __init__(self, device: torch.device) -> None:
        self._window = torch.hann_window(_WINDOW, device=device)

    def features(self, waveforms: Tensor, layers: Sequence[int]) -> list[Features]:
        """Measure the bands of waveforms (B, T) in [-1, 1]: (B, time, band, 1), dB."""
        spectrum = torch.stft(
            waveforms, _WINDOW, _HOP, window=self._window, center=False, return_complex=True
        )
        power = spectrum.abs().square()  # (B, bin, time)
        bands = [power[:, 4 << band : 8 << band].mean(1) for band in range(_BANDS)]
        levels = 10 * torch.stack(bands, dim=2).clamp_min(1e-10).log10()  # (B, time, band)
        return [Features(levels.unsqueeze(3)) for _ in layers]


def load(source: Source, device: torch.device) -> Backbone:
    """Make the backbone; see `extractors.backbone.BackboneFile`."""
    if source.variant or source.weights is not None:
        raise AsdError("octaves has no variants and takes no weights")
    return Octaves(device)
