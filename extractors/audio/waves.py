"""Formulas of waveforms: noise, levels, mixtures, speed, lengths, ringing.

Synthetic machines, synthetic clips and augmentations are made of it, so each formula stands here once;
the shift of pitch, which needs torch's spectra, in `finetune.data.signals`. What takes any `S` is written
in operators that NumPy and torch share: a batch on a GPU stays there.
"""

from __future__ import annotations

import io
from typing import Any, TypeVar

import numpy as np
import soundfile
import soxr
from numpy.random import Generator
from numpy.typing import NDArray

Wave = NDArray[np.float64]
S = TypeVar("S", bound=Any)  # an array of NumPy or a tensor
F = TypeVar("F", np.float32, np.float64)

SAMPLE_RATE = 16_000  # Hz, the task's own
_FADE = 256  # samples, 16 ms at 16 kHz: too short to hear, long enough not to click


def colour(frequency: S, power: float, band: tuple[float, float] | None = None) -> S:
    """Gain of a filter that makes white noise coloured.

    Parameters
    ----------
    frequency
        (F,) above 0, in any unit.
    power
        Of the frequency, to which the amplitude is proportional; the power density has twice as much.
    band
        Lower and upper edge, in the same unit, with skirts of 24 dB an octave; ``None`` for none.

    Returns
    -------
    S
        (F,).
    """
    gain: S = frequency**power
    if band is not None:
        gain = gain / ((1 + (band[0] / frequency) ** 8) * (1 + (frequency / band[1]) ** 8)) ** 0.5
    return gain


def coloured_noise(
    rng: Generator,
    samples: int,
    slope: float,
    band: tuple[float, float],
    sample_rate: int = SAMPLE_RATE,
) -> Wave:
    """Gaussian noise with a sloping, band-limited spectrum.

    Parameters
    ----------
    rng
        Source of the noise.
    samples
        Length.
    slope
        dB an octave inside the band.
    band
        Lower and upper edge, Hz, with skirts of 24 dB an octave.
    sample_rate
        Hz.

    Returns
    -------
    Wave
        (samples,) float64, RMS 1.
    """
    from scipy.fft import irfft, rfft  # noqa: PLC0415 -- heavy, and names are had without it

    frequency = np.fft.rfftfreq(samples, 1 / sample_rate)  # (F,) Hz
    frequency[0] = frequency[1]
    gain = colour(frequency, slope / (20 * np.log10(2)), band)
    return unit_rms(irfft(gain * rfft(rng.standard_normal(samples)), samples))


def rms(wave: S) -> S:
    """Root mean square of (..., T): (..., 1)."""
    found: S = (wave**2).mean(axis=-1, keepdims=True) ** 0.5
    return found


def unit_rms(wave: Wave) -> Wave:
    """Scale (..., T) to a root mean square of 1."""
    return np.asarray(wave / rms(wave))


def with_part(wave: S, part: S, level: Any) -> S:
    """Add a part whose level is given against the wave's own.

    Parameters
    ----------
    wave, part
        (..., T) each, the part not silent.
    level
        dB, RMS of the part against RMS of the wave: what a fault's or a noise's strength is given in; a
        number, or (..., 1) of them.

    Returns
    -------
    S
        (..., T).
    """
    both: S = wave + part * (10 ** (level / 20) * rms(wave) / rms(part))
    return both


def mixed(first: S, second: S, weight: Any) -> S:
    """Mix (..., T) waves: ``w a + (1 - w) b``, the mixup of Zhang et al. 2018 (arXiv 1710.09412)."""
    both: S = weight * first + (1 - weight) * second
    return both


def at_speed(wave: Wave, factor: float) -> Wave:
    """Play a wave faster: tempo and pitch times `factor`.

    Parameters
    ----------
    wave
        (T,).
    factor
        Above 0; below 1 it is slower.

    Returns
    -------
    Wave
        (about T / factor,).
    """
    return np.asarray(soxr.resample(wave, factor, 1.0, quality="HQ"), dtype=np.float64)


def lengthened(wave: NDArray[F], samples: int) -> NDArray[F]:
    """Let a wave go on from its start until it is long enough.

    Parameters
    ----------
    wave
        (T,), T >= 1.
    samples
        Least length.

    Returns
    -------
    NDArray
        (samples or more,), the wave itself where it is as long. The seam is a crossfade of constant power:
        silence, or a click, would tell a network what was done.
    """
    fade = min(_FADE, len(wave) // 2)
    angle = np.linspace(0, np.pi / 2, fade, dtype=wave.dtype)
    whole = wave
    while len(whole) < samples:
        seam = whole[len(whole) - fade :] * np.cos(angle) + wave[:fade] * np.sin(angle)
        whole = np.concatenate([whole[: len(whole) - fade], seam, wave[fade:]])
    return whole


def fitted(wave: NDArray[F], samples: int) -> NDArray[F]:
    """Bring a (T,) wave, T >= 1, to a length: its start, or `lengthened`."""
    return lengthened(wave, samples)[:samples]


def ratio(decibel: float) -> float:
    """Amplitude ratio of a level in dB."""
    return float(10 ** (decibel / 20))


def jitter(rng: Generator, decibel: float) -> float:
    """Random amplitude ratio, its level normal with this standard deviation in dB."""
    return ratio(rng.normal(0, decibel))


def slow(rng: Generator, samples: int, rate: float, sample_rate: int = SAMPLE_RATE) -> Wave:
    """Return (samples,) of a smooth random course, RMS about 1, with `rate` knots a second."""
    knots = rng.standard_normal(int(samples / sample_rate * rate) + 2)
    places = np.linspace(0, len(knots) - 1, samples)
    return np.asarray(np.interp(places, np.arange(len(knots)), knots))


def impulses(times: Wave, gains: Wave, samples: int, sample_rate: int = SAMPLE_RATE) -> Wave:
    """Place impulses at times, s, from the clip's start; those outside are lost.

    Parameters
    ----------
    times, gains
        (K,) each.
    samples
        Length.
    sample_rate
        Hz.

    Returns
    -------
    Wave
        (samples,) float64.
    """
    places = np.round(times * sample_rate).astype(np.intp)
    inside = (places >= 0) & (places < samples)
    train = np.zeros(samples)
    np.add.at(train, places[inside], gains[inside])
    return train


def ring(excitation: Wave, frequency: float, decay: float, sample_rate: int = SAMPLE_RATE) -> Wave:
    """Let a resonance answer.

    Parameters
    ----------
    excitation
        (T,) float64.
    frequency
        Of the resonance, Hz, below half the sample rate.
    decay
        Time in which its amplitude falls to 1/e, s.
    sample_rate
        Hz.

    Returns
    -------
    Wave
        (T,) float64.
    """
    from scipy.signal import lfilter  # noqa: PLC0415 -- heavy, and names are had without it

    radius = np.exp(-1 / (decay * sample_rate))
    angle = 2 * np.pi * frequency / sample_rate
    poles = [1.0, -2 * radius * np.cos(angle), radius**2]
    return np.asarray(lfilter([np.sin(angle)], poles, excitation))


def smooth(wave: Wave, seconds: float) -> Wave:
    """Let every step of a (T,) wave rise or fall with this time constant."""
    pole = np.exp(-1 / (seconds * SAMPLE_RATE))
    from scipy.signal import lfilter  # noqa: PLC0415

    return np.asarray(lfilter([1 - pole], [1.0, -pole], wave))


def wav_bytes(wave: Wave, sample_rate: int, comment: str = "") -> bytes:
    """Encode a waveform as a 16-bit WAV file.

    Parameters
    ----------
    wave
        (T,) float in [-1, 1]; libsndfile takes 1 for the largest integer, 32767.
    sample_rate
        Hz.
    comment
        Text to put into the file beside the sound, in ASCII; none where empty.

    Returns
    -------
    bytes
        The file.
    """
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", samplerate=sample_rate, channels=1, format="WAV", subtype="PCM_16"
    ) as file:
        if comment:
            file.comment = comment
        file.write(wave)
    return buffer.getvalue()
