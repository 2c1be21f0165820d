"""What a clip has that its nearest normal clip has not, told from the signals in one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Kind = Literal["clipping", "dropout", "hum", "tone", "burst", "level", "broadband", "none"]

_LOWEST = 50.0  # Hz; below it lie handling noise and the offset of converters
_FRAME, _SLOW = 0.032, 0.25  # s, windows for what comes and goes and for what stays
_CLIPPED, _RUN = 0.001, 3  # share of samples at the peak, in runs of at least so many equal ones
_GONE = 25.0  # dB below a clip's own median: silence in the middle of a machine's sound
_SHORT = 0.005  # s; frames that find dropouts
_PROMINENT = 8.0  # dB above its neighbourhood: a tone (a mean of few spectra wavers by 1 to 3 dB)
_BURST = 6.0  # dB above the highest of a normal clip's moments
_STEADY = 2.0  # dB of a lasting change that is worth a word
_MAINS = (50.0, 60.0)  # Hz
_EPSILON = 1e-12  # of power: -120 dB re full scale


@dataclass(frozen=True)
class Difference:
    """What is different, strongest first.

    Attributes
    ----------
    kind
        ``clipping``, ``dropout``, ``hum``, ``tone``, ``burst``, ``level`` (all frequencies alike),
        ``broadband`` (a range of frequencies, lasting) or ``none``.
    start, end
        s; the whole clip where it lasts.
    low, high
        Hz; 0 and half the sampling rate where it is everywhere.
    decibels
        How much more than in the normal clip; negative for less.
    sentence
        In words.
    """

    kind: Kind
    start: float
    end: float
    low: float
    high: float
    decibels: float
    sentence: str


def describe(clip: NDArray[np.float32], normal: NDArray[np.float32], rate: int) -> Difference:
    """Say how a clip differs from a normal one.

    Bands are thirds of an octave; levels are compared by their medians over time, moments with the
    99th percentile of the normal clip's, tones in a mean of long spectra against the median of their
    neighbourhood.

    Parameters
    ----------
    clip, normal
        (T,) and (T',) float32 in [-1, 1], at least 0.1 s each.
    rate
        Sampling rate of both, Hz.

    Returns
    -------
    Difference
        Of kind ``none`` where nothing stands out.
    """
    heard, known = clip.astype(np.float64), normal.astype(np.float64)
    seconds, top = len(heard) / rate, rate / 2
    if (share := _clipped(heard)) > max(_CLIPPED, 3 * _clipped(known)):
        text = f"its peaks are cut off: {100 * share:.1f} % of the samples lie at the limit"
        return Difference("clipping", 0.0, seconds, 0.0, top, 0.0, text)
    if (gap := _gap(heard, known, rate)) is not None:
        start, end, depth = gap
        span = end - start
        lasted = f"{span:.1f} s" if span >= 1 else f"{1000 * span:.0f} ms"
        text = f"the sound is gone for {lasted} at {start:.2f} s"
        return Difference("dropout", start, end, 0.0, top, -depth, text)
    found = [_tone(heard, known, rate), *_bands(heard, known, rate)]
    told = [one for one in found if one is not None]
    if not told:
        text = "no clear difference from its nearest normal clip"
        return Difference("none", 0.0, seconds, 0.0, top, 0.0, text)
    # What lasts explains more than its decibels say.
    return max(told, key=lambda one: abs(one.decibels) + 4.0 * (one.kind in ("level", "broadband")))


def _clipped(samples: Floats) -> float:
    """Share of samples that stand at the highest magnitude in runs of equal ones."""
    peak = np.abs(samples).max(initial=0.0)
    if peak == 0:
        return 0.0
    at_peak = np.abs(samples) >= peak * (1 - 1e-3)
    padded = np.concatenate([[False], at_peak, [False]])
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    runs = edges[1::2] - edges[::2]
    return float(runs[runs >= _RUN].sum() / len(samples))


def _gap(heard: Floats, known: Floats, rate: int) -> tuple[float, float, float] | None:
    """Find where the sound is gone, which it never is in the normal clip: start, end, depth in dB."""
    levels, usual = _short_levels(heard, rate), _short_levels(known, rate)
    middle = float(np.median(levels))
    floor = min(middle - _GONE, float(usual.min() - np.median(usual)) + middle - 6.0)
    gone = levels < floor
    if not gone.any() or gone.mean() > 0.5:
        return None
    padded = np.concatenate([[False], gone, [False]])
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    longest = int(np.argmax(edges[1::2] - edges[::2]))
    first, last = int(edges[2 * longest]), int(edges[2 * longest + 1])
    return first * _SHORT, last * _SHORT, middle - float(levels[first:last].mean())


def _short_levels(samples: Floats, rate: int) -> Floats:
    size = max(1, round(_SHORT * rate))
    whole = samples[: len(samples) // size * size].reshape(-1, size)
    # The mean of a frame is no sound: a converter's offset goes on when a contact is loose.
    power: Floats = whole.var(axis=1)
    return 10 * np.log10(power + _EPSILON)


def _spectra(samples: Floats, rate: int, window: float) -> tuple[Floats, Floats]:
    """Power spectra of half-overlapping Hann windows: frequencies (F,), power (F, N)."""
    size = min(len(samples), max(16, round(window * rate)))
    shape = np.hanning(size + 1)[:-1]
    power = power_spectra(samples, shape / np.sqrt(rate * np.square(shape).sum()), max(1, size // 2))
    return np.arange(len(power), dtype=np.float64) * (rate / size), power


def power_spectra(samples: Floats, window: Floats, hop: int) -> Floats:
    """Compute squared magnitudes of the spectra of the windows that lie in a signal whole.

    Parameters
    ----------
    samples
        (T,), no shorter than the window.
    window
        (W,).
    hop
        Samples from one window to the next.

    Returns
    -------
    ndarray
        (W // 2 + 1, 1 + (T - W) // hop).
    """
    frames = np.lib.stride_tricks.sliding_window_view(samples, len(window))[::hop]
    power: Floats = np.square(np.abs(np.fft.rfft(frames * window))).T
    return power


def _tone(heard: Floats, known: Floats, rate: int) -> Difference | None:
    """Find the strongest tone that the normal clip lacks, and whether it is the mains."""
    from scipy.ndimage import maximum_filter1d, median_filter  # noqa: PLC0415 (see above)

    window = min(_SLOW, len(heard) / rate / 6, len(known) / rate / 6)
    frequencies, ours = _spectra(heard, rate, window)
    _, theirs = _spectra(known, rate, window)
    step = frequencies[1]
    around = 2 * int(np.clip(100 / step, 6, len(frequencies) // 4)) + 1  # bins, some 100 Hz to each side
    stands = []
    for power in (ours, theirs):
        level = 10 * np.log10(np.median(power, axis=1) + _EPSILON)
        stands.append(level - median_filter(level, around, mode="nearest"))
    new = stands[0] - np.maximum(maximum_filter1d(stands[1], 5), 0)
    fits = (frequencies >= _LOWEST - step) & (stands[0] >= _PROMINENT) & (new >= _PROMINENT - 2)
    fits &= stands[0] >= maximum_filter1d(stands[0], 5)
    if not fits.any():
        return None
    peaks = np.flatnonzero(fits)
    best = int(peaks[np.argmax(new[peaks])])
    seconds, gain = len(heard) / rate, float(new[best])
    for mains in _MAINS:
        order = np.round(frequencies[peaks] / mains)
        near = (order >= 1) & (order <= 12) & (np.abs(frequencies[peaks] - order * mains) <= step)
        if near.sum() >= 2 and near[peaks == best].any() and mains > 2 * step:
            low, high = float(frequencies[peaks[near]].min()), float(frequencies[peaks[near]].max())
            text = f"a hum of the mains, {mains:.0f} Hz and its multiples, {_more(gain)}"
            return Difference("hum", 0.0, seconds, low - step, high + step, gain, text)
    at = float(frequencies[best])
    text = f"a steady tone at {_hertz(at)}, {_more(gain)}"
    return Difference("tone", 0.0, seconds, at - step, at + step, gain, text)


def _bands(heard: Floats, known: Floats, rate: int) -> list[Difference | None]:
    """Find bursts and lasting changes in thirds of an octave."""
    frequencies, ours = _spectra(heard, rate, _FRAME)
    _, theirs = _spectra(known, rate, _FRAME)
    # First bin and the one behind the last of each third of an octave that has any (IEC 61260-1, base 2).
    tops = _LOWEST * 2 ** (np.arange(1, 60) / 3)
    cuts = np.searchsorted(frequencies, [_LOWEST, *tops[tops < frequencies[-1]], frequencies[-1] + 1])
    edges = [(int(a), int(b)) for a, b in pairwise(cuts) if b > a]
    levels, usual = _band_levels(ours, edges), _band_levels(theirs, edges)
    starts, ends = frequencies[[a for a, _ in edges]], frequencies[[b - 1 for _, b in edges]]
    hop, seconds = _FRAME / 2, len(heard) / rate
    middle, normally = np.median(levels, axis=1), np.median(usual, axis=1)
    return [
        _burst(levels, middle, np.quantile(usual, 0.99, axis=1) - normally, (starts, ends, hop)),
        _lasting(middle - normally, starts, ends, (seconds, rate / 2)),
    ]


def _band_levels(power: Floats, edges: list[tuple[int, int]]) -> Floats:
    """Mean power of each band in dB, (bands, frames)."""
    return np.stack([10 * np.log10(power[a:b].mean(axis=0) + _EPSILON) for a, b in edges])


def _burst(
    levels: Floats, middle: Floats, spread: Floats, places: tuple[Floats, Floats, float]
) -> Difference | None:
    """Find the strongest moment that rises above the clip's own level and the normal clip's moments."""
    starts, ends, hop = places
    excess = levels - (middle + spread)[:, None]
    loud = excess >= _BURST
    moments: NDArray[np.bool_] = np.logical_or.reduce(loud, axis=0)
    if not moments.any() or moments.mean() > 0.5:
        return None
    band, frame = (int(i) for i in np.unravel_index(np.argmax(excess), excess.shape))
    peak = float(excess[band, frame])
    first = last = frame
    while first > 0 and moments[first - 1]:
        first -= 1
    while last + 1 < len(moments) and moments[last + 1]:
        last += 1
    wide = excess[:, frame] >= max(_BURST, peak / 2)
    low = high = band
    while low > 0 and wide[low - 1]:
        low -= 1
    while high + 1 < len(wide) and wide[high + 1]:
        high += 1
    padded = np.concatenate([[False], moments])
    count = int(np.sum(moments & ~padded[:-1]))
    decibels = float((levels[low : high + 1, frame] - middle[low : high + 1]).max())
    many = f", one of {count}" if count > 1 else ""
    text = (
        f"a burst at {first * hop:.2f} s, {_range(starts[low], ends[high])}, "
        f"{decibels:.0f} dB above the sound around it{many}"
    )
    where = (float(starts[low]), float(ends[high]))
    return Difference("burst", first * hop, (last + 2) * hop, *where, decibels, text)


def _lasting(change: Floats, starts: Floats, ends: Floats, whole: tuple[float, float]) -> Difference | None:
    """Find the range of frequencies that is louder, or quieter, all the time; or that all are."""
    mean = float(np.median(change))
    if abs(mean) >= _STEADY and float(np.abs(change - mean).mean()) <= 1.0 + 0.2 * abs(mean):
        text = f"{_louder(mean)} by {abs(mean):.0f} dB at all frequencies, throughout"
        return Difference("level", 0.0, whole[0], 0.0, whole[1], mean, text)
    band = int(np.argmax(np.abs(change)))
    peak = float(change[band])
    if abs(peak) < _STEADY + 1:
        return None
    wide = change * np.sign(peak) >= abs(peak) / 2
    low = high = band
    while low > 0 and wide[low - 1]:
        low -= 1
    while high + 1 < len(wide) and wide[high + 1]:
        high += 1
    where = (float(starts[low]), float(ends[high]))
    text = f"{_louder(peak)} by {abs(peak):.0f} dB at {_range(*where)}, throughout"
    return Difference("broadband", 0.0, whole[0], *where, peak, text)


def _louder(decibels: float) -> str:
    return "louder" if decibels > 0 else "quieter"


def _more(decibels: float) -> str:
    return f"{decibels:.0f} dB more than in its nearest normal clip"


def _hertz(frequency: float) -> str:
    return f"{frequency / 1000:.2f} kHz" if frequency >= 1000 else f"{frequency:.0f} Hz"


def _range(low: float, high: float) -> str:
    if low == high:
        return _hertz(low)
    if high >= 1000:
        return f"{low / 1000:.1f} to {high / 1000:.1f} kHz"
    return f"{low:.0f} to {high:.0f} Hz"
