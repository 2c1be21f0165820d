"""Log-mel frames without a model: the default that needs no weights.

The spectrogram of the task's own baseline (Dohi et al. 2023, section 4): 128 mel bands, windows of
64 ms, steps of 32 ms at 16 kHz, power in decibels. ``logmel:cnn`` is a small network on top of it,
which has to be trained first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from extractors.backbone import RANDOM, ArrayBackbone, ArrayFeatures, BackboneSpec, ModelFile, Source
from extractors.nets.filters import slaney_filters

try:
    from scipy.fft import rfft
except ImportError:  # a bank that was exported scores with NumPy alone
    from numpy.fft import rfft  # type: ignore[no-redef]

if TYPE_CHECKING:  # only `logmel:cnn` needs it
    import torch

    from extractors.nets.small import LogMelCnn

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
    arrays=True,
)


_CNN = "cnn"
_FLOOR = np.float32(1e-10)  # power: -100 dB
_GROUPS = 4  # of filters, multiplied with the bins they touch: fewer multiply zeros, more are too small


class LogMelFrames:
    """Mel power in decibels; in float32, clip by clip, so that no clip depends on its batch.

    Parameters
    ----------
    sample_rate
        Hz, at least 2000.
    n_fft, hop
        Periodic Hann window and step, samples. Frames lie inside the clip: nothing is padded.
    n_mels
        Number of mel filters.
    """

    def __init__(self, sample_rate: int, n_fft: int, hop: int, n_mels: int) -> None:
        self._hop = hop
        phase = 2 * np.pi * np.arange(n_fft) / n_fft
        self._window = (0.5 - 0.5 * np.cos(phase)).astype(np.float32)
        filters = slaney_filters(sample_rate, n_fft, n_mels).astype(np.float32)
        self._parts: list[tuple[slice, NDArray[np.float32]]] = []
        for columns in np.array_split(np.arange(n_mels), _GROUPS):
            bins = np.flatnonzero(filters[:, columns].any(axis=1))
            span = slice(int(bins.min(initial=len(filters))), int(bins.max(initial=0)) + 1)
            self._parts.append((span, np.ascontiguousarray(filters[span][:, columns])))

    def __call__(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the log-mel spectrogram of a clip.

        Parameters
        ----------
        waveform
            (T,) float32 in [-1, 1], T >= n_fft.

        Returns
        -------
        ndarray
            (1 + (T - n_fft) // hop, n_mels) float32, dB; 1e-10 and less is -100 dB.
        """
        frames = np.lib.stride_tricks.sliding_window_view(waveform, len(self._window))[:: self._hop]
        spectrum = rfft(frames * self._window)
        power = np.square(spectrum.real)
        power += np.square(spectrum.imag)
        mel = np.concatenate([power[:, span] @ part for span, part in self._parts], axis=1)
        np.log10(np.maximum(mel, _FLOOR, out=mel), out=mel)
        mel *= np.float32(10)
        return mel


class LogMelBackbone:
    """Log-mel frames as a backbone."""

    spec = SPEC

    def __init__(self) -> None:
        hop, n_fft = (int(value) for _, value in SPEC.settings)
        self._log_mel = LogMelFrames(SPEC.sample_rate, n_fft, hop, SPEC.dim)

    def features(self, waveforms: NDArray[np.float32], layers: Sequence[int]) -> list[ArrayFeatures]:
        """Compute (B, time, 1, 128) float32 frames, dB; see `ArrayBackbone.features`."""
        frames = np.stack([self._log_mel(waveform) for waveform in waveforms])[:, :, None]
        return [ArrayFeatures(frames) for _ in layers]


def without_torch(source: Source) -> bool:
    """Tell whether NumPy does: yes, but for the network; see `BackboneFile.without_torch`."""
    return not source.variant and source.weights is None


def load(source: Source, device: torch.device) -> ArrayBackbone | LogMelCnn:
    """Build the front end on a device; see `BackboneFile.load`."""
    if source.weights is not None:
        raise AsdError(
            f"logmel has no published weights: {source.weights} was not made by finetune.run; "
            "leave --weights out"
        )
    if source.variant not in {"", _CNN}:
        raise AsdError(f"logmel has no variant {source.variant!r}; leave it out, or take {_CNN}")
    if not source.variant:
        return LogMelBackbone()
    if source.seed is None:
        raise AsdError(
            f"logmel:{_CNN} has no published weights; train it with python -m finetune.run "
            f"--backbone logmel:{_CNN}, then --backbone logmel --weights FILE"
        )
    from extractors.nets.small import LogMelCnn, SmallCnn  # noqa: PLC0415
    from extractors.weights.loading import random_parameters  # noqa: PLC0415 (torch comes with it)

    return LogMelCnn(SPEC, random_parameters(SmallCnn, source.seed), device, RANDOM)


def rebuild(kept: ModelFile, device: torch.device) -> LogMelCnn:
    """Build the network of a fine-tuned file; see `BackboneFile.rebuild`."""
    from extractors.nets.small import LogMelCnn, SmallCnn  # noqa: PLC0415
    from extractors.weights.loading import load_strictly  # noqa: PLC0415 (torch comes with it)

    backbone = LogMelCnn(SPEC, SmallCnn(), device, kept.sha256)
    load_strictly(backbone.network, kept.state, kept.path)
    return backbone
