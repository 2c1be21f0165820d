"""A backbone in NumPy, so without torch: how loud each frame is, and how far its peak stands out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from extractors.backbone import ArrayBackbone, ArrayFeatures, BackboneSpec, Source

_FRAME = 1024  # samples at 16 kHz

SPEC = BackboneSpec(
    name="crest",
    sample_rate=16_000,
    layers=(0,),
    layer=0,
    dim=2,
    bands=1,
    min_samples=_FRAME,
    max_samples=60 * 16_000,
    pooling="mean+std",
    settings=(("frame", _FRAME),),
    arrays=True,
)


class Crest:
    """Level and crest factor of frames, both in decibels."""

    spec = SPEC

    def features(self, waveforms: NDArray[np.float32], layers: Sequence[int]) -> list[ArrayFeatures]:
        """Measure waveforms (B, T) in [-1, 1]: (B, time, 1, 2), dB."""
        count = waveforms.shape[1] // _FRAME
        frames = waveforms[:, : count * _FRAME].reshape(len(waveforms), count, _FRAME)
        power = np.maximum(np.square(frames).mean(axis=2), 1e-10)
        peak = np.maximum(np.square(frames).max(axis=2), 1e-10)
        values = 10 * np.log10(np.stack([power, peak / power], axis=2))
        return [ArrayFeatures(values[:, :, None].astype(np.float32)) for _ in layers]


def without_torch(source: Source) -> bool:  # noqa: ARG001
    """Say that `load` makes a backbone in NumPy; see `extractors.backbone.BackboneFile`."""
    return True


def load(source: Source, device: object) -> ArrayBackbone:  # noqa: ARG001
    """Make the backbone; see `extractors.backbone.BackboneFile`."""
    if source.variant or source.weights is not None:
        raise AsdError("crest has no variants and takes no weights")
    return Crest()
