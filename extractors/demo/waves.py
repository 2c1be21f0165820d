"""Noise, ringing and levels: what synthetic machines are made of."""

from __future__ import annotations

import io

import numpy as np
import soundfile
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.fft import irfft, rfft

Wave = NDArray[np.float64]

SAMPLE_RATE = 16_000  # Hz, the task's own


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
    frequency = np.fft.rfftfreq(samples, 1 / sample_rate)  # (F,) Hz
    frequency[0] = frequency[1]
    skirts = (1 + (band[0] / frequency) ** 8) * (1 + (frequency / band[1]) ** 8)  # (F,)
    gain = frequency ** (slope / (20 * np.log10(2))) / np.sqrt(skirts)  # (F,)
    return unit_rms(irfft(gain * rfft(rng.standard_normal(samples)), samples))


def unit_rms(wave: Wave) -> Wave:
    """Scale to a root mean square of 1; shape (T,) as given."""
    return np.asarray(wave / np.sqrt(np.mean(wave**2)))


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
