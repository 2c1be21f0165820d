"""Revisions of the code that makes numbers: part of every recipe, so that old and new never mix.

A table says which weights made it, and that is not enough: another filter, window or pooling makes
other vectors of the same clip. So each front end, each network's code and the poolings have a
revision here, and golden values that belong to it. The values of the front ends are held against
the code at run time too, in milliseconds: where they differ, whether by a change that nobody
numbered or by a library, the recipe says so, and the tables are others. Those of the networks and
poolings are held by tests, which say what to raise.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from extractors.backbone import BackboneSpec
from extractors.nets.filters import htk_filters, slaney_filters

Array = NDArray[np.float32]
Call = Callable[[Array], Array]  # (1, T) waveform to (1, ...) values

POOLING = 1  # of `extractors.pooling`, its golden values in tests/extractors/test_revisions.py
# Of the code of each backbone that has weights: its network, and its layers as frames.
NETWORKS: Mapping[str, int] = {
    "ast": 1, "beats": 1, "ced": 1, "eat": 1, "efficientat": 1, "fisher": 1, "hf": 1, "logmel": 1, "panns": 1,
}  # fmt: skip
_NEAR = 1e-3  # of the values' range; float32 on any processor stays within 1e-5
_PARTS = 8  # of the bands, averaged


@dataclass(frozen=True)
class FrontEnd:
    """A front end, and what it makes of `signal`.

    Attributes
    ----------
    revision
        Raised whenever the golden values change.
    build
        Makes it.
    sample_rate
        What it hears, Hz.
    bands
        Axis of the frequencies.
    golden
        What `summary` gives, a space between.
    """

    revision: int
    build: Callable[[], Call]
    sample_rate: int
    bands: int
    golden: str


def _logmel() -> Call:
    from extractors.backbones.logmel import LogMelFrames  # noqa: PLC0415 (only the front end asked for)

    log_mel = LogMelFrames(16_000, 1024, 512, 128)
    return lambda waveforms: log_mel(waveforms[0])[None]


def _logspec() -> Call:
    from extractors.backbones.logspec import Bands, LogSpectrum  # noqa: PLC0415 (as above)

    spectrum = LogSpectrum(Bands("linear+erb+mel+log"))

    def both(waveforms: Array) -> Array:
        """Windows, and behind them what is made of the whole clip."""
        found = spectrum.features(waveforms, [0])[0]
        return np.concatenate([found.frames[:, :, 0], cast(Array, found.native)[:, None]], axis=1)

    return both


def _torch(name: str, *settings: Any) -> Call:
    """Make a front end of torch, a module of `extractors.nets`."""
    import torch  # noqa: PLC0415 (where a network is)

    from extractors.nets import melspectrogram  # noqa: PLC0415

    module = getattr(melspectrogram, name)(*settings)

    def call(waveforms: Array) -> Array:
        with torch.inference_mode():
            return np.asarray(module(torch.from_numpy(waveforms)).numpy())

    return call


def _panns(sample_rate: int, n_fft: int, hop: int, top: float) -> Call:
    return _torch("CentredLogMel", slaney_filters(sample_rate, n_fft, 64, (50.0, top)), hop)


FRONT_ENDS: Mapping[tuple[str, int], FrontEnd] = {
    ("logmel", 16_000): FrontEnd(
        1, _logmel, 16_000, 2,
        "6.625 -12.82 -32.73 -30.09 -29.73 -24.63 -27.28 -25.15 -33.54 -28.46 -32.64 -29.99 "
        "-29.72 -24.35 -14.35 -25.09 -33.15 -28.92 -32.73 -30.09 -29.73 -24.62 -27.28 -16.81 30",
    ),
    ("logmel:cnn", 16_000): FrontEnd(
        1, lambda: _torch("LogMel", 16_000, 1024, 512, 128), 16_000, 2,
        "6.625 -12.82 -32.73 -30.09 -29.73 -24.63 -27.28 -25.15 -33.54 -28.46 -32.64 -29.99 "
        "-29.72 -24.35 -14.35 -25.09 -33.15 -28.92 -32.73 -30.09 -29.73 -24.62 -27.28 -16.81 30",
    ),
    ("logspec", 16_000): FrontEnd(
        1, _logspec, 16_000, 2,
        "-4.312 -15.67 -8.264 -7.657 -6.035 -9.45 -15.34 -7.171 -8.83 -9.115 -13.78 -8.345 "
        "-13.75 -6.933 -13.93 -11.28 -3.659 -9.598 -8.588 -4.753 -6.532 -5.483 -14.17 -6.198 3",
    ),
    ("beats", 16_000): FrontEnd(
        1, lambda: _torch("KaldiFbank", "povey"), 16_000, 2,
        "-2.919 -7.847 -6.834 -5.587 -3.955 -2.819 -2.197 -1.098 -12.1 -8.997 -6.696 -5.573 "
        "-3.917 -0.8559 -1.612 -1.04 -12.07 -9.051 -6.838 -5.604 -3.967 -2.86 -2.211 0.5559 98",
    ),
    ("ast", 16_000): FrontEnd(
        1, lambda: _torch("KaldiFbank", "hanning"), 16_000, 2,
        "-3.031 -8.094 -6.914 -5.665 -4.026 -2.888 -2.279 -1.182 -12.12 -9.038 -6.726 -5.618 "
        "-3.964 -0.9395 -1.707 -1.103 -12.03 -9.037 -6.834 -5.628 -4.003 -2.889 -2.269 0.4684 98",
    ),
    ("eat", 16_000): FrontEnd(
        1, lambda: _torch("KaldiFbank", "hanning"), 16_000, 2,
        "-3.031 -8.094 -6.914 -5.665 -4.026 -2.888 -2.279 -1.182 -12.12 -9.038 -6.726 -5.618 "
        "-3.964 -0.9395 -1.707 -1.103 -12.03 -9.037 -6.834 -5.628 -4.003 -2.889 -2.269 0.4684 98",
    ),
    ("ced", 16_000): FrontEnd(
        1, lambda: _torch("CentredLogMel", htk_filters(16_000, 512, 64), 160), 16_000, 2,
        "17.75 -6.614 -9.034 -12.23 -11.09 0.05153 -5.173 -0.714 -23.14 -20.37 -14.48 -14.57 "
        "-11.5 2.093 -3.483 -3.264 -21.97 -20.33 -14.22 -12.43 -9.937 -7.04 -7.018 8.041 101",
    ),
    ("fisher", 16_000): FrontEnd(
        1, lambda: _torch("BandSpectrum", 16_000), 16_000, 2,
        "0.4613 0.0882 0.1208 0.1514 0.1266 0.09121 0.1508 0.08577 0.1353 0.1115 0.1377 0.4999 "
        "0.1763 0.1277 0.1806 0.1335 0.1361 0.1137 0.1419 0.176 0.1521 0.1248 0.1821 0.493 98",
    ),
    ("efficientat", 32_000): FrontEnd(
        1, lambda: _torch("PreEmphasisedLogMel"), 32_000, 1,
        "0.4546 -0.9898 -0.4483 -0.2757 0.09511 0.4265 0.9188 1.052 -1.243 -1.007 -0.4018 -0.2479 "
        "0.1397 0.3801 1.166 0.9483 -1.229 -0.9891 -0.3992 -0.2463 0.1387 0.3796 0.7808 0.9741 "
        "100",
    ),
    ("panns", 16_000): FrontEnd(
        1, lambda: _panns(16_000, 512, 160, 8000.0), 16_000, 2,
        "-8.439 -25.81 -29.98 -31.02 -32.93 -21.26 -28.04 -25.97 -37.21 -30.72 -37.81 -33.04 "
        "-33.85 -24.16 -20.9 -27.41 -33.61 -33.06 -36.5 -30.99 -32.26 -27.24 -30.3 -17.38 101",
    ),
    ("panns", 32_000): FrontEnd(
        1, lambda: _panns(32_000, 1024, 320, 14_000.0), 32_000, 2,
        "-1.846 -25.18 -26.03 -29.73 -29.78 -27.73 -21.33 -24.49 -34.95 -35.97 -28.96 -34.82 "
        "-31.37 -27.9 -13.16 -25.86 -31.92 -37.08 -28.05 -32.14 -30.34 -26.3 -25.83 -24.74 101",
    ),
}  # fmt: skip


def code_of(spec: BackboneSpec) -> str:
    """Name the revisions of all code between a waveform and the vectors of a backbone."""
    name = "logmel:cnn" if spec.name == "logmel" and not spec.arrays else spec.name
    parts = [f"front end {revised}"] if (revised := _front_end(name, spec.sample_rate)) else []
    if spec.weights is not None and spec.name in NETWORKS:
        parts.append(f"network {NETWORKS[spec.name]}")
    return ", ".join([*parts, f"pooling {POOLING}"])


@lru_cache(maxsize=64)
def _front_end(name: str, sample_rate: int) -> str:
    """Revision of a front end, marked where this installation gives other numbers than it."""
    # Of any rate and spacing there is one code of log spectra.
    known = FRONT_ENDS.get((name, 16_000 if name == "logspec" else sample_rate))
    if known is None:
        return ""  # of a model's own, whose files and versions are in the recipe
    found = summary(known)
    if is_golden(known, found):
        return str(known.revision)
    digest = hashlib.sha256(np.round(found, 2).tobytes()).hexdigest()[:8]
    logging.getLogger(__name__).warning(
        "the front end of %s gives other numbers here than its revision %d; its tables are kept "
        "apart from others", name, known.revision,
    )  # fmt: skip
    return f"{known.revision}+{digest}"


def is_golden(front_end: FrontEnd, found: NDArray[np.float64]) -> bool:
    """Whether a front end's `summary` is that of its revision."""
    expected = np.array(front_end.golden.split(), dtype=np.float64)
    near = _NEAR * np.ptp(expected[:-1])
    return bool((np.abs(found - expected) <= near).all())


def summary(front_end: FrontEnd) -> NDArray[np.float64]:
    """Compute (25,) values that any change of a front end moves: of its first, middle, last frame.

    And how many frames there are, last.
    """
    values = front_end.build()(signal(front_end.sample_rate))[0]
    frames = np.moveaxis(values, front_end.bands - 1, -1).astype(np.float64)  # (time, bands)
    taken = [part.mean() for at in (0, len(frames) // 2, -1) for part in np.array_split(frames[at], _PARTS)]
    return np.array([*taken, float(len(frames))])


def signal(sample_rate: int) -> Array:
    """(1, T) float32, a second: a tone that rises through all frequencies, and noise."""
    count = np.arange(sample_rate)
    time = count / sample_rate
    rising = 0.3 * np.sin(2 * np.pi * (50 * time + sample_rate / 4.2 * time**2))
    noise = (count * 7919 % 10_007 / 10_007 - 0.5) * 0.1  # the same on every machine
    return (rising + noise)[None].astype(np.float32)
