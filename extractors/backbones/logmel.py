"""Log-mel frames without a model: the default that needs no weights.

The spectrogram of the task's own baseline (Dohi et al. 2023, section 4): 128 mel bands, windows of
64 ms, steps of 32 ms at 16 kHz, power in decibels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cache.errors import AsdError
from extractors.backbone import BackboneSpec, Features, Source
from extractors.frontend import LogMel

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


class LogMelBackbone:
    """Log-mel frames as a backbone.

    Parameters
    ----------
    device
        Where to compute.
    """

    spec = SPEC

    def __init__(self, device: torch.device) -> None:
        self._frontend = LogMel(SPEC.sample_rate, n_fft=1024, hop=512, n_mels=SPEC.dim).to(device)

    def features(self, waveforms: Tensor, layers: Sequence[int]) -> list[Features]:
        """Compute (B, time, 1, 128) float32 frames, dB; see `Backbone.features`."""
        frames = self._frontend(waveforms).unsqueeze(2)
        return [Features(frames) for _ in layers]


def load(source: Source, device: torch.device) -> LogMelBackbone:
    """Build the front end on a device; see `BackboneFile.load`."""
    if source.weights is not None:
        raise AsdError(f"logmel has no weights; leave --weights {source.weights} out")
    if source.variant:
        raise AsdError(f"logmel has no variants; leave {source.variant!r} out")
    return LogMelBackbone(device)
