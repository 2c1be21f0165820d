"""Sentences about clips with a fault of known kind, time and frequency."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.signal import butter, sosfilt

from eval.scoring.difference import Difference, describe

RATE, SECONDS, TRIES = 16_000, 6.0, 20
Floats = np.ndarray


def _machine(rng: np.random.Generator) -> Floats:
    """Noise that falls with frequency and the harmonics of a shaft, at -25 dB re full scale or so."""
    size = int(RATE * SECONDS)
    spectrum = np.fft.rfft(rng.normal(size=size))
    spectrum /= (1 + np.fft.rfftfreq(size, 1 / RATE) / 300) ** 0.7
    noise = np.fft.irfft(spectrum, size)
    times = np.arange(size) / RATE
    shaft = sum(np.sin(2 * np.pi * 24.3 * k * times + k) / k for k in range(1, 12))
    sound = noise / noise.std() + 0.3 * shaft
    return 0.05 * sound / sound.std()


def _noise(rng: np.random.Generator, low: float, high: float, size: int) -> Floats:
    made = sosfilt(butter(4, [low, high], "bandpass", fs=RATE, output="sos"), rng.normal(size=size + 500))
    return made[500:] / made[500:].std()


def _band_level(sound: Floats, low: float, high: float) -> float:
    power = np.abs(np.fft.rfft(sound)) ** 2
    frequencies = np.fft.rfftfreq(len(sound), 1 / RATE)
    return float(np.sqrt(2 * power[(frequencies >= low) & (frequencies < high)].sum()) / len(sound))


Made = tuple[Floats, float, float, float]  # the clip; start, s; lowest and highest frequency, Hz


def _burst(rng: np.random.Generator, sound: Floats) -> Made:
    low = float(rng.uniform(300, 4000))
    start, size = float(rng.uniform(0.5, 5)), int(rng.uniform(0.03, 0.3) * RATE)
    made, at = sound.copy(), int(start * RATE)
    gain = _band_level(sound, low, 1.5 * low) * 10 ** (rng.uniform(14, 25) / 20)
    made[at : at + size] += gain * _noise(rng, low, 1.5 * low, size)
    return made, start, low, 1.5 * low


def _tone(rng: np.random.Generator, sound: Floats) -> Made:
    at = float(rng.uniform(400, 7000))
    level = _band_level(sound, at - 25, at + 25) * 10 ** (rng.uniform(6, 15) / 20)
    times = np.arange(len(sound)) / RATE
    return sound + level * np.sqrt(2) * np.sin(2 * np.pi * at * times), 0.0, at, at


def _hum(rng: np.random.Generator, sound: Floats) -> Made:
    times, mains = np.arange(len(sound)) / RATE, float(rng.choice([50, 60]))
    tones = sum(np.sin(2 * np.pi * mains * k * times + k) / k**0.5 for k in range(1, 7))
    return sound + rng.uniform(0.02, 0.1) * tones, 0.0, mains, 6 * mains


def _level(rng: np.random.Generator, sound: Floats) -> Made:
    return sound * 10 ** (rng.choice([-1, 1]) * rng.uniform(4, 12) / 20), 0.0, 0.0, RATE / 2


def _broadband(rng: np.random.Generator, sound: Floats) -> Made:
    low = float(rng.uniform(300, 3500))
    gain = _band_level(sound, low, 2 * low) * 10 ** (rng.uniform(4, 12) / 20)
    return sound + gain * _noise(rng, low, 2 * low, len(sound)), 0.0, low, 2 * low


def _dropout(rng: np.random.Generator, sound: Floats) -> Made:
    start, size = float(rng.uniform(0.5, 5)), int(rng.uniform(0.02, 0.4) * RATE)
    made, at = sound.copy(), int(start * RATE)
    made[at : at + size] = rng.normal(0, 1e-5, size)
    return made, start, 0.0, RATE / 2


def _clipping(rng: np.random.Generator, sound: Floats) -> Made:
    limit = float(np.quantile(np.abs(sound), rng.uniform(0.9, 0.99)))
    return np.clip(sound, -limit, limit), 0.0, 0.0, RATE / 2


FAULTS: dict[str, Callable[[np.random.Generator, Floats], Made]] = {
    "burst": _burst, "tone": _tone, "hum": _hum, "level": _level, "broadband": _broadband,
    "dropout": _dropout, "clipping": _clipping,
}  # fmt: skip


def _described(made: Floats, normal: Floats) -> Difference:
    return describe(made.astype(np.float32), normal.astype(np.float32), RATE)


@pytest.mark.parametrize("kind", FAULTS)
def test_faults_are_told_by_kind_time_and_frequency(kind: str) -> None:
    third = 2 ** (1 / 3)
    right = timed = placed = 0
    for seed in range(TRIES):
        rng = np.random.default_rng([seed, len(kind)])
        normal = _machine(rng)
        made, start, low, high = FAULTS[kind](rng, _machine(rng))
        told = _described(made, normal)
        right += told.kind == kind
        timed += told.kind == kind and abs(told.start - start) < 0.05
        middle = np.sqrt(max(told.low, 1) * told.high)
        placed += told.kind == kind and (low == 0 or low / third <= middle <= high * third)
    assert right >= 0.9 * TRIES
    assert timed >= 0.9 * TRIES
    assert placed >= 0.9 * TRIES


def test_two_normal_clips_hardly_differ() -> None:
    told = [_described(_machine(np.random.default_rng(2 * i)), _machine(np.random.default_rng(2 * i + 1)))
            for i in range(TRIES)]  # fmt: skip
    assert sum(one.kind == "none" for one in told) >= 0.9 * TRIES
    assert told[0].sentence == "no clear difference from its nearest normal clip"


def test_decibels_are_those_put_in() -> None:
    rng = np.random.default_rng(0)
    normal = _machine(rng)
    told = _described(normal * 10 ** (-6 / 20), normal)
    assert told.decibels == pytest.approx(-6, abs=0.1)
    assert told.sentence == "quieter by 6 dB at all frequencies, throughout"
    tone = normal + 0.05 * np.sin(2 * np.pi * 3000 * np.arange(len(normal)) / RATE)
    assert "steady tone at 3.00 kHz" in _described(tone, normal).sentence


@pytest.mark.parametrize("rate", [8_000, 44_100, 96_000])
def test_any_rate_and_short_or_silent_clips(rate: int) -> None:
    rng = np.random.default_rng(rate)
    short = rng.normal(0, 0.1, rate // 10).astype(np.float32)
    silent = np.zeros(rate, np.float32)
    for clip in (short, silent, np.ones(rate, np.float32)):
        for normal in (short, silent):
            told = describe(clip, normal, rate)
            assert np.isfinite([told.start, told.end, told.low, told.high, told.decibels]).all()
            assert told.sentence
