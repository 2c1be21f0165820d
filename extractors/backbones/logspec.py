"""Log spectra in bands without a model: the default that needs no weights.

Power is averaged over time first and its logarithm taken after that, bin by bin, so that a short
silence or click moves a band little; a band is the mean of its bins' logarithms, which a single
line moves by no more than its share. Bands of equal width resolve what happens above 2 kHz, where
mel bands are wide; bands on the ear's scale resolve what happens below. No one spacing is best for
every machine and noise, so the default has both, each a block of its own (benchmarks/scorers.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.base.options import Options, make, option, options_of
from cache.recipe import Setting
from extractors.backbone import (
    ArrayBackbone,
    ArrayFeatures,
    BackboneSpec,
    ModelFile,
    Source,
    Tunable,
)

try:
    from scipy.fft import rfft
except ImportError:  # a bank that was exported scores with NumPy alone
    from numpy.fft import rfft  # type: ignore[no-redef]

if TYPE_CHECKING:
    import torch

SECONDS = 0.512  # of a window: 8192 samples at 16 kHz
_FLOOR = np.float32(1e-14)  # power of a bin: float32's rounding errors beside a tone of full scale
_SPACINGS = ("linear", "erb", "mel", "log")


@dataclass(frozen=True)
class Bands(Options):
    """How a log spectrum is taken: the variant of ``--backbone logspec:VARIANT``."""

    spacing: str = option("linear+erb", "linear, erb, mel or log; several with + between")
    bands: int = option(64, "of each spacing", least=1, most=4096)
    rate: int = option(16_000, "sample rate, Hz", least=1000, most=1_000_000)
    window: int = option(0, "samples of the Hann window; 0 for 0.512 s", least=0, most=1 << 20)

    @property
    def samples(self) -> int:
        """Of a window, an even number."""
        return self.window or 2 * round(SECONDS * self.rate / 2)

    @property
    def variant(self) -> str:
        """As text that `parse_variant` reads, without what is as usual; empty for the usual."""
        usual = options_of(Bands())
        other = {name: value for name, value in options_of(self).items() if value != usual[name]}
        return ",".join(str(v) if n == "spacing" else f"{n}={v}" for n, v in other.items())

    @property
    def spacings(self) -> list[str]:
        """Their names, in order."""
        return self.spacing.split("+")


def parse_variant(text: str) -> Bands:
    """Read ``[SPACING][,bands=N][,rate=HZ][,window=SAMPLES]``.

    Raises
    ------
    AsdError
        If there is no such spacing or option, or a value is out of range.
    """
    values: dict[str, str | int] = {}
    for item in filter(None, text.split(",")):
        name, equals, value = item.partition("=")
        if not equals:
            values["spacing"] = item
        elif value.isdigit():
            values[name] = int(value)
        else:
            raise AsdError(f"logspec:{text}: {item!r}; expected {name}=<whole number>")
    bands = make(Bands, values, f"logspec:{text}: ")
    wrong = [name for name in bands.spacings if name not in _SPACINGS]
    if wrong or len(set(bands.spacings)) < len(bands.spacings):
        raise AsdError(
            f"logspec:{text}: spacing {bands.spacing!r}; expected one of {', '.join(_SPACINGS)}, "
            "or several with + between"
        )
    if bands.samples % 2 or bands.bands > bands.samples // 2:
        raise AsdError(
            f"logspec:{text}: {bands.bands} bands of a window of {bands.samples} samples; expected "
            f"an even number of samples and at most {bands.samples // 2} bands"
        )
    return bands


def band_edges(spacing: str, bands: int, samples: int, rate: int) -> NDArray[np.intp]:
    """Divide the bins of a spectrum among bands.

    Parameters
    ----------
    spacing
        Of the edges: ``linear`` in Hz; ``erb`` in ERB-rate, ``21.4 log10(1 + 0.00437 f)`` (Glasberg
        and Moore 1990, eq. 4); ``mel`` in ``2595 log10(1 + f / 700)`` (O'Shaughnessy 1987); ``log``
        in octaves above the first bin.
    bands
        From 1 to ``samples // 2``.
    samples
        Of the transform, even.
    rate
        Hz.

    Returns
    -------
    ndarray
        (bands + 1,) bins, ascending: band i holds bins ``edges[i]`` to ``edges[i + 1] - 1``, at
        least one. The bin of 0 Hz is in none, that of half the rate is in the last.
    """
    top, step = rate / 2, rate / samples
    position = np.linspace(0, 1, bands + 1)
    erb = 21.4 * np.log10(1 + 0.00437 * top)
    mel = 2595 * np.log10(1 + top / 700)
    hertz = {
        "linear": position * top,
        "erb": (10 ** (position * erb / 21.4) - 1) / 0.00437,
        "mel": 700 * (10 ** (position * mel / 2595) - 1),
        "log": step * (top / step) ** position,
    }[spacing]
    edges = np.round(hertz / step).astype(np.intp) + (1 if spacing != "log" else 0)
    edges[0], edges[-1] = 1, samples // 2 + 1
    places = np.arange(bands + 1)
    edges = np.maximum.accumulate(edges - places) + places  # one bin at least, from below
    return np.asarray(np.minimum(edges, edges[-1] - places[::-1]))


class LogSpectrum:
    """Log spectra as a backbone.

    Parameters
    ----------
    bands
        Which.
    """

    def __init__(self, bands: Bands) -> None:
        dim = bands.bands * len(bands.spacings)
        settings: dict[str, Setting] = {
            "spacing": bands.spacing,
            "n_bands": bands.bands,
            "n_fft": bands.samples,
            "hop": bands.samples // 2,
        }
        if bands.variant:
            settings["variant"] = bands.variant
        self.spec = BackboneSpec(
            name="logspec",
            sample_rate=bands.rate,
            layers=(0,),
            layer=0,
            dim=dim,
            bands=1,
            min_samples=min(1024, bands.samples),
            max_samples=60 * bands.rate,
            native=(0,),
            pooling="native",
            batch={"cpu": 1, "cuda": 64},
            cpu_threads=1,
            settings=tuple(sorted(settings.items())),
            parts=tuple(bands.spacings) if len(bands.spacings) > 1 else (),
            arrays=True,
        )
        self._samples = bands.samples
        self._edges = [
            band_edges(spacing, bands.bands, bands.samples, bands.rate) for spacing in bands.spacings
        ]

    def features(self, waveforms: NDArray[np.float32], layers: Sequence[int]) -> list[ArrayFeatures]:
        """Compute log spectra; see `ArrayBackbone.features`.

        Parameters
        ----------
        waveforms
            (B, T) float32 in [-1, 1]. Windows lie inside the clip, half of one apart; a clip
            shorter than one has a window of its own length.
        layers
            Only 0.

        Returns
        -------
        list of ArrayFeatures
            ``native``: (B, D) the mean over each band's bins of ln of the power averaged over
            windows. ``frames``: (B, time, 1, D) the same of each window alone. Power is of a window
            of unit energy, at least 1e-14.
        """
        length = min(waveforms.shape[1], self._samples)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
        window = (window / np.linalg.norm(window)).astype(np.float32)
        native, each = [], []
        for waveform in waveforms:  # clip by clip, whatever the batch
            windows = np.lib.stride_tricks.sliding_window_view(waveform, length)
            spectrum = rfft(windows[:: self._samples // 2] * window, self._samples)[:, 1:]
            power = np.square(spectrum.real)
            power += np.square(spectrum.imag)
            native.append(self._bands(power.mean(axis=0)))
            each.append(self._bands(power))
        return [ArrayFeatures(np.stack(each)[:, :, None], np.stack(native)) for _ in layers]

    def _bands(self, power: NDArray[np.float32]) -> NDArray[np.float32]:
        """(..., bin) from the second bin on to (..., D)."""
        levels = np.log(np.maximum(power, _FLOOR))
        sums = [np.add.reduceat(levels, edges[:-1] - 1, axis=-1) for edges in self._edges]
        means = [part / np.diff(edges) for part, edges in zip(sums, self._edges, strict=True)]
        return np.concatenate(means, axis=-1, dtype=np.float32)


def without_torch(source: Source) -> bool:  # noqa: ARG001
    """Tell that NumPy does; see `BackboneFile.without_torch`."""
    return True


def load(source: Source, device: object) -> ArrayBackbone:  # noqa: ARG001
    """Build the front end on a device; see `BackboneFile.load`."""
    if source.weights is not None or source.seed is not None:
        raise AsdError(f"logspec has no weights: leave --weights {source.weights or 'random'} out")
    return LogSpectrum(parse_variant(source.variant))


def rebuild(kept: ModelFile, device: torch.device) -> Tunable:  # noqa: ARG001
    """Refuse: there is no network; see `BackboneFile.rebuild`."""
    raise AsdError(f"{kept.path}: logspec has no network that could be fine-tuned")
