"""How loud: a part against the clip it is added to, a result against the clip it is made of."""

from __future__ import annotations

import numpy as np

from extractors.demo.waves import Wave, ratio

# The largest that 16 bits hold; libsndfile writes 1.0 as this integer.
PEAK = (2**15 - 1) / 2**15
_FADE = 256  # samples, 16 ms at 16 kHz


def rms(wave: Wave) -> float:
    """Root mean square of a (T,) wave."""
    return float(np.sqrt(np.mean(wave**2)))


def added(wave: Wave, part: Wave, decibel: float) -> Wave:
    """Add a part whose level is given against the wave's own.

    Parameters
    ----------
    wave, part
        (T,) each, neither silent.
    decibel
        RMS of the part against RMS of the wave: what a fault's or a noise's strength is given in.

    Returns
    -------
    Wave
        (T,).
    """
    return np.asarray(wave + part * (ratio(decibel) * rms(wave) / rms(part)))


def levelled(wave: Wave, level: float) -> tuple[Wave, float]:
    """Bring a wave to a level, and below it where 16 bits would not hold its peaks.

    Loudness alone must not tell a synthetic clip from the one it was made of.

    Parameters
    ----------
    wave
        (T,), not silent.
    level
        Wanted RMS, full scale 1.

    Returns
    -------
    wave, lowered
        (T,) in [-`PEAK`, `PEAK`]; how much lower than wanted it is, dB, 0 where nothing would clip.
    """
    scaled = wave * (level / rms(wave))
    excess = float(np.abs(scaled).max() / PEAK)
    if excess <= 1:
        return scaled, 0.0
    return np.asarray(scaled / excess), 20 * float(np.log10(excess))


def fitted(wave: Wave, samples: int) -> Wave:
    """Bring a wave to a length.

    Parameters
    ----------
    wave
        (T,), T >= 1. What is longer is cut; what is shorter goes on from its start, with a
        crossfade of constant power of `_FADE` samples, because a click would be a mark.
    samples
        Wanted length.

    Returns
    -------
    Wave
        (samples,).
    """
    fade = min(_FADE, len(wave) // 2)
    angle = np.linspace(0, np.pi / 2, fade)
    whole = wave
    while len(whole) < samples:
        seam = whole[len(whole) - fade :] * np.cos(angle) + wave[:fade] * np.sin(angle)
        whole = np.concatenate([whole[: len(whole) - fade], seam, wave[fade:]])
    return whole[:samples]
