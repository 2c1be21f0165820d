"""Every method of synthesis, by the effect that it must have on a sound."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.signal import hilbert, welch

from cache.base.errors import AsdError
from cache.base.options import parse
from extractors.audio.waves import at_speed, fitted, rms, with_part
from finetune.data.signals import at_pitch, stretched
from finetune.synthesis.method import PEAK, Material, SyntheticSound, find, levelled, names
from finetune.synthesis.text_to_audio import TextToAudio

RATES = (16_000, 44_100)
SIGNAL = [name for name in names() if not issubclass(find(name), TextToAudio)]
Wave = NDArray[np.float64]


def white(seconds: float = 6.0, rate: int = 16_000, seed: int = 0) -> Wave:
    return 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * rate))


def tone(hertz: float, seconds: float = 4.0, rate: int = 16_000) -> Wave:
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


def apply(text: str, *waves: Wave, rate: int = 16_000, seed: int = 1) -> SyntheticSound:
    method = parse(text, find)
    return method.apply(np.random.default_rng(seed), Material(waves, rate))


def loudest(wave: Wave, rate: int = 16_000) -> float:
    """Frequency of the largest line of a spectrum, Hz."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    spectrum[0] = 0
    return float(spectrum.argmax() * rate / len(wave))


def envelope_line(wave: Wave, lowest: float, rate: int = 16_000) -> float:
    """Frequency of the largest line of the envelope's spectrum, Hz, above a lowest one."""
    envelope = np.abs(hilbert(wave))
    spectrum = np.abs(np.fft.rfft((envelope - envelope.mean()) * np.hanning(len(wave))))
    spectrum[: int(lowest * len(wave) / rate)] = 0
    return float(spectrum.argmax() * rate / len(wave))


def decibel(part: Wave, whole: Wave) -> float:
    return float(10 * np.log10(np.mean(part**2) / np.mean(whole**2)))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", SIGNAL)
def test_the_same_seed_makes_the_same_sound_and_another_seed_another(name: str, rate: int) -> None:
    waves = (white(1.0, rate), white(1.3, rate, 7))[: find(name).clips]
    kept = [wave.copy() for wave in waves]
    first, again, other = (apply(name, *waves, rate=rate, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first.wave, again.wave)
    assert first.parameters == again.parameters
    assert not np.array_equal(first.wave, other.wave)
    assert len(first.wave) == rate
    assert np.isfinite(first.wave).all()
    assert all(np.array_equal(a, b) for a, b in zip(waves, kept, strict=True))


@pytest.mark.parametrize("name", SIGNAL)
def test_drawn_parameters_lie_in_their_ranges(name: str) -> None:
    method = find(name)()
    waves = (white(0.5), white(0.5, seed=5))[: method.clips]
    for seed in range(20):
        drawn = apply(name, *waves, seed=seed).parameters
        for key, value in vars(method).items():
            if key in drawn and key not in ("resonance", "length"):  # in other units
                assert value.low <= _size(name, drawn[key]) <= value.high


def _size(name: str, drawn: float | str) -> float:
    return abs(float(drawn)) if name == "pitch" else float(drawn)


@pytest.mark.parametrize("name", SIGNAL)
def test_a_clip_of_a_few_samples_is_no_trouble(name: str) -> None:
    waves = (white()[:50], white()[:7])[: find(name).clips]
    assert np.isfinite(apply(name, *waves).wave).all()


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("hertz", [37.0, 112.0])
def test_a_bearing_shows_its_frequency_in_the_spectrum_of_the_envelope(rate: int, hertz: float) -> None:
    wave = white(rate=rate)
    made = apply(f"bearing:frequency={hertz}..{hertz}:level=-3:resonance=0.5", wave, rate=rate)
    found = envelope_line(made.wave, 15, rate)
    assert found == pytest.approx(hertz, rel=0.02)
    assert envelope_line(wave, 15, rate) != pytest.approx(hertz, rel=0.02)


def test_a_bearing_rings_at_its_resonance_at_its_level() -> None:
    wave = white()
    made = apply("bearing:resonance=0.4:level=-6:decay=0.003", wave)
    part = made.wave - wave
    assert decibel(part, wave) == pytest.approx(-6, abs=1e-6)
    frequency, power = welch(part, 16_000, nperseg=1024)
    assert frequency[power.argmax()] == pytest.approx(0.4 * 8_000, abs=40)


def test_modulation_has_its_frequency_and_depth() -> None:
    made = apply("modulation:frequency=7:depth=0.6", tone(1_000))
    envelope = np.abs(hilbert(made.wave))[1_000:-1_000]
    depth = (envelope.max() - envelope.min()) / (envelope.max() + envelope.min())
    assert depth == pytest.approx(0.6, abs=0.01)
    assert envelope_line(made.wave, 2) == pytest.approx(7, abs=0.3)


def test_harmonics_are_lines_at_multiples_of_the_shaft() -> None:
    wave = white()
    part = apply("harmonics:frequency=60:level=-10", wave).wave - wave
    assert decibel(part, wave) == pytest.approx(-10, abs=1e-6)
    power = np.abs(np.fft.rfft(part)) ** 2
    lines = np.arange(len(power)) / 6.0  # Hz, clips of 6 s
    near = np.abs(lines / 60 - np.round(lines / 60)) * 60 < 6
    orders = np.round(lines / 60)
    assert power[near & (orders >= 1) & (orders <= 10)].sum() > 0.99 * power.sum()
    shares = [power[near & (orders == n)].sum() / power.sum() for n in range(1, 11)]
    assert shares[0] == max(shares)
    assert min(shares) > 1e-4


def test_rubbing_is_a_burst_a_turn_of_high_noise() -> None:
    wave = white()
    part = apply("rubbing:frequency=9:contact=0.2:level=-8", wave).wave - wave
    assert decibel(part, wave) == pytest.approx(-8, abs=1e-6)
    touching = np.abs(part) > 1e-6 * np.abs(part).max()
    assert np.mean(touching) == pytest.approx(0.2, abs=0.03)
    assert envelope_line(part, 3) == pytest.approx(9, abs=0.3)
    frequency, power = welch(part, 16_000, nperseg=1024)
    assert (
        power[(frequency > 1_200) & (frequency < 6_400)].sum() > 0.85 * power.sum()
    )  # skirts of 24 dB an octave


def test_clipping_cuts_the_share_it_says() -> None:
    wave = white()
    clipped = apply("clipping:share=0.1", wave).wave
    limit = np.abs(clipped).max()
    assert np.mean(np.abs(clipped) >= limit) == pytest.approx(0.1, abs=1e-3)
    inside = np.abs(wave) < limit
    assert np.array_equal(clipped[inside], wave[inside])


def test_dropouts_silence_the_share_they_say_in_gaps_of_their_length() -> None:
    wave = np.ones(160_000)
    made = apply("dropouts:share=0.1:length=0.05", wave)
    silent = made.wave == 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], silent, [False]]).astype(int)))
    gaps = np.diff(edges)[::2] / 16_000
    assert silent.mean() == pytest.approx(0.1, abs=0.002)
    assert len(gaps) == made.parameters["gaps"] == 20
    assert np.allclose(gaps, 0.05, atol=1e-3)


@pytest.mark.parametrize("snr", [-5.0, 12.0])
def test_noise_comes_at_its_ratio_and_slope(snr: float) -> None:
    wave = tone(500, 30.0)
    noise = apply(f"noise:snr={snr}..{snr}:slope=-3", wave).wave - wave
    assert decibel(wave, noise) == pytest.approx(snr, abs=1e-6)
    frequency, power = welch(noise, 16_000, nperseg=2048)
    band = (frequency > 200) & (frequency < 3_000)
    slope = np.polyfit(np.log2(frequency[band]), 10 * np.log10(power[band]), 1)[0]
    assert slope == pytest.approx(-3, abs=0.2)


def test_mixup_weighs_clips_of_one_level() -> None:
    first, second = 5 * tone(440, 2.0), 0.01 * tone(1_500, 1.0)
    mixed = apply("mixup:weight=0.75", first, second).wave
    lines = np.abs(np.fft.rfft(mixed))
    at = [lines[int(hertz * 2)] for hertz in (440, 1_500)]  # clips of 2 s
    assert at[0] / at[1] == pytest.approx(3, rel=1e-3)


@pytest.mark.parametrize("sign", [-1, 1])
def test_speed_moves_tempo_and_pitch_together(sign: int) -> None:
    factor = 1 + sign * 0.12
    assert loudest(at_speed(tone(800), factor)) == pytest.approx(800 * factor, abs=1)
    pulses = np.zeros(64_000)
    pulses[::3_200] = 1.0  # five a second
    faster = at_speed(pulses, factor)
    assert len(faster) == pytest.approx(64_000 / factor, abs=2)
    order = envelope_line(faster, 3) / (5 * factor)
    assert order == pytest.approx(round(order), abs=0.01)
    assert order > 0.9


def test_speed_goes_either_way_and_keeps_the_length() -> None:
    made = [apply("speed:change=0.1", tone(800), seed=seed) for seed in range(12)]
    assert {round(float(one.parameters["factor"]), 6) for one in made} == {0.9, 1.1}
    for one in made:
        assert len(one.wave) == 64_000
        expected = 800 * float(one.parameters["factor"])
        assert loudest(one.wave[:50_000]) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("semitones", [-2, 1, 7])
def test_pitch_moves_the_pitch_and_not_the_tempo(semitones: int) -> None:
    factor = 2 ** (semitones / 12)
    assert loudest(at_pitch(tone(700), factor)) == pytest.approx(700 * factor, rel=0.003)
    swelling = (1 + 0.9 * np.cos(2 * np.pi * 4 * np.arange(64_000) / 16_000)) * white(4.0)
    assert envelope_line(at_pitch(swelling, factor), 1) == pytest.approx(4, abs=0.3)


def test_a_stretched_clip_is_as_long_as_said_and_keeps_its_level() -> None:
    wave = torch.from_numpy(tone(700))
    for factor in (0.8, 1.0, 1.25):
        longer = stretched(wave, factor).numpy()
        assert len(longer) == pytest.approx(factor * (64_000 - 1_024), abs=1_024)
        assert loudest(longer) == pytest.approx(700, abs=2)
        assert rms(longer[1_024:-1_024]) == pytest.approx(rms(tone(700)), rel=0.05)


def test_stretching_by_one_changes_next_to_nothing() -> None:
    wave = white(1.0)
    same = stretched(torch.from_numpy(wave), 1.0).numpy()  # less half a window at either end
    inside = slice(1_024, len(same) - 1_024)
    assert np.allclose(same[inside], wave[512:][inside], atol=1e-6)


def test_equalisation_tilts_the_spectrum_smoothly() -> None:
    wave = white(30.0)
    made = apply("equalisation:deviation=0:tilt=2", wave).wave
    frequency, before = welch(wave, 16_000, nperseg=2048)
    _, after = welch(made, 16_000, nperseg=2048)
    band = (frequency > 100) & (frequency < 7_500)
    gain = 10 * np.log10(after[band] / before[band])
    slope, offset = np.polyfit(np.log2(frequency[band]), gain, 1)
    assert slope == pytest.approx(2, abs=0.05)
    assert np.abs(gain - slope * np.log2(frequency[band]) - offset).max() < 0.3


def test_equalisation_leaves_a_flat_response_alone() -> None:
    wave = white(1.0)
    assert np.allclose(apply("equalisation:deviation=0:tilt=0", wave).wave, wave)


def test_a_part_comes_at_its_level_and_a_result_at_its_clips_own() -> None:
    wave, part = white(1.0), white(1.0, seed=9)
    assert decibel(with_part(wave, part, -7) - wave, wave) == pytest.approx(-7)
    scaled, lowered = levelled(4 * wave, 0.05 * part / rms(part))
    assert rms(scaled) == pytest.approx(0.05)
    assert lowered == 0
    peaky = np.zeros(1_000)
    peaky[3] = 1.0
    scaled, lowered = levelled(peaky, np.full(9, 0.5))
    assert np.abs(scaled).max() == pytest.approx(PEAK)
    assert lowered == pytest.approx(20 * np.log10(0.5 * np.sqrt(1_000) / PEAK))


def test_a_shorter_wave_goes_on_from_its_start_without_a_click() -> None:
    wave = tone(440, 0.503)  # not whole periods
    longer = fitted(wave, 20_000)
    assert len(longer) == 20_000
    assert np.abs(np.diff(longer)).max() < 1.6 * np.abs(np.diff(wave)).max()
    assert np.array_equal(longer[:7_000], wave[:7_000])
    assert np.array_equal(fitted(wave, 100), wave[:100])
    assert np.array_equal(fitted(np.ones(1), 3), np.ones(3))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rattle", "unknown method of synthesis 'rattle'; known are"),
        ("noise:loud=3", "Noise has no option 'loud'; it has snr, slope"),
        ("noise:snr=loud", "expected a number, or LOW..HIGH"),
        ("noise:snr=5..1", "must lie in"),
        ("noise:snr=nan", "must lie in"),
        ("clipping:share=2", "must lie in"),
    ],
)
def test_what_is_no_method_is_refused(text: str, said: str) -> None:
    with pytest.raises(AsdError, match=re.escape(said)):
        parse(text, find)
