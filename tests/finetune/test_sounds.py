"""What augmentations do to a sound, measured: ratios, slopes, tempo, pitch, levels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import signal, stats

from extractors.audio import waves
from extractors.device import torchaudio
from finetune.data.signals import cropped, fitted, stretched, vocoder
from tests.helpers.sounds import RATE, batch, changed, frequency, noise, parsed, seeded, sine


def ratio(clean: torch.Tensor, noisy: torch.Tensor) -> np.ndarray:
    """Signal-to-noise ratio of each clip, dB."""
    clean, added = clean.double().numpy(), (noisy - clean).double().numpy()
    return 10 * np.log10((clean**2).sum(axis=1) / (added**2).sum(axis=1))


@pytest.mark.parametrize("text", ["noise:p=1:snr=-5..15", "other-machine:p=1:snr=-5..15"])
def test_noise_comes_at_the_ratios_asked_for(text: str) -> None:
    clean = noise(600, 2000) * torch.linspace(0.1, 3, 600)[:, None]
    found = ratio(clean, changed(text, clean))
    assert stats.kstest(found, stats.uniform(-5, 20).cdf).pvalue > 0.01
    assert found.mean() == pytest.approx(5, abs=0.7)
    constant = text.replace("-5..15", "7")
    np.testing.assert_allclose(ratio(clean, changed(constant, clean)), 7, atol=0.01)


@pytest.mark.parametrize("exponent", [-1, 0, 1, 2])
def test_noise_has_the_slope_of_its_colour(exponent: int) -> None:
    clean = sine(440, 20)
    added = changed(f"noise:p=1:snr=0:exponent={exponent}", clean) - clean
    hertz, density = signal.welch(added.numpy(), RATE, nperseg=1024)
    density, inner = density.mean(axis=0), (hertz > 100) & (hertz < 7000)
    slope = stats.linregress(np.log(hertz[inner]), np.log(density[inner])).slope
    assert slope == pytest.approx(-exponent, abs=0.05)
    assert abs(added.mean(dim=1)).max() < 1e-4


def test_silence_gets_no_noise_and_gives_none() -> None:
    clean = noise(6, 500)
    clean[::2] = 0
    found = changed("noise:p=1", clean)
    assert torch.equal(found[::2], clean[::2])
    found = parsed("other-machine:p=1")(batch(clean, 2), seeded()).waveforms  # odd ones hear even
    assert torch.equal(found, clean)


def test_the_background_is_another_machine_of_the_batch() -> None:
    """Each clip is a sine of its own: what was added tells whose it is."""
    clips = 60
    hertz = 200 * (1 + np.arange(clips))
    clean = torch.stack([sine(f, 1, RATE)[0] for f in hertz[: clips // 2]])
    made = parsed("other-machine:p=1:snr=0")(batch(clean, 3), seeded()).waveforms
    heard = [round(frequency(clip) / 200) - 1 for clip in made - clean]
    assert all(one % 3 != other % 3 for one, other in enumerate(heard))
    assert len(set(heard)) > 10
    alone = parsed("other-machine:p=1")(batch(clean, 1), seeded())
    assert torch.equal(alone.waveforms, clean)


def signal_at(clip: torch.Tensor, hertz: float) -> torch.Tensor:
    """The least-squares sine of about that frequency, measured first."""
    time = np.arange(len(clip)) / RATE
    fine = hertz * (1 + np.linspace(-2e-3, 2e-3, 401))
    spectrum = np.exp(-2j * np.pi * fine[:, None] * time) @ clip.double().numpy()
    best = np.abs(spectrum).argmax()
    wave = 2 / len(clip) * (spectrum[best] * np.exp(2j * np.pi * fine[best] * time)).real
    return torch.from_numpy(wave)


def clicks(period: int, clips: int, samples: int) -> torch.Tensor:
    train = torch.zeros(clips, samples)
    train[:, 50::period] = 1
    return train


def tempo(clip: torch.Tensor) -> int:
    """Lag of the strongest repetition, samples."""
    correlation = signal.correlate(clip.numpy(), clip.numpy(), method="fft")[len(clip) - 1 :]
    return int(correlation[200:1900].argmax()) + 200


@pytest.mark.parametrize("factor", [0.8, 0.9, 0.97, 1.1, 1.25])
def test_speed_changes_tempo_and_pitch(factor: float) -> None:
    found = changed(f"speed:p=1:factor={factor}", clicks(1000, 2, 2 * RATE))
    assert found.shape == (2, 2 * RATE)
    assert [tempo(clip) for clip in found] == [round(1000 / factor)] * 2
    part = changed(f"speed:p=1:factor={factor}", sine(1000, 1))[0]
    assert frequency(part) == pytest.approx(1000 * factor, abs=2)  # it may hold a seam
    assert part.square().mean() == pytest.approx(0.5**2 / 2, rel=0.02)


def test_speeds_are_spread_over_their_range() -> None:
    found = changed("speed:p=1:factor=0.9..1.1", sine(1000, 420, 8000))
    factors = np.array([frequency(clip) for clip in found]) / 1000
    counts = np.bincount(np.rint(100 * factors - 90).astype(int), minlength=21)
    assert len(counts) == 21
    assert counts.min() > 0
    assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize("semitones", [-5, -2, 0.5, 2, 7])
def test_pitch_changes_and_tempo_stays(semitones: float) -> None:
    wanted = 1000 * 2 ** (semitones / 12)
    found = changed(f"pitch:p=1:semitones={semitones}", sine(1000, 1))
    assert found.shape == (1, 2 * RATE)
    assert frequency(found[0]) == pytest.approx(wanted, rel=1e-3)
    # A tone that swells twice a second goes on doing so.
    time = torch.arange(2 * RATE) / RATE
    swelling = sine(1000, 1) * (1 + torch.sin(2 * torch.pi * 2 * time))
    envelope = changed(f"pitch:p=1:semitones={semitones}", swelling)[0].abs().numpy()
    assert np.abs(np.fft.rfft(envelope - envelope.mean()))[:100].argmax() == 4  # of 2 seconds


@pytest.mark.parametrize("semitones", [-5, 0.5, 7])
def test_a_stretched_tone_is_the_same_tone(semitones: float) -> None:
    ratio = 2 ** (semitones / 12)
    found = stretched(sine(1000, 1)[0], ratio)
    assert len(found) == pytest.approx(2 * RATE * ratio, abs=3 * 1024)
    inner = found[RATE // 4 : -RATE // 4]
    remainder = inner - signal_at(inner, 1000)
    assert remainder.square().mean() < 1e-4 * inner.square().mean()
    assert inner.square().mean() == pytest.approx(0.5**2 / 2, rel=0.01)


@pytest.mark.parametrize("ratio", [0.6, 0.95, 1.3, 2.0])
def test_the_vocoder_is_torchaudios(ratio: float) -> None:
    spectrum = torch.randn(513, 60, dtype=torch.complex128, generator=seeded())
    spectrum[100] = 0
    advance = torch.linspace(0, torch.pi * 256, 513, dtype=torch.float64)[:, None]
    expected = torchaudio().functional.phase_vocoder(spectrum, 1 / ratio, advance)
    found = vocoder(spectrum, ratio)
    assert found.shape[1] == np.ceil(59 * ratio)
    torch.testing.assert_close(found, expected[:, : found.shape[1]], rtol=0, atol=1e-8)
    single = vocoder(spectrum.to(torch.complex64), ratio)
    torch.testing.assert_close(single.to(torch.complex128), found, rtol=0, atol=1e-4)


def test_a_shifted_clip_is_as_loud_as_before_and_silence_is_silent() -> None:
    clean = noise(8) * torch.arange(8)[:, None]
    found = changed("pitch:p=1", clean)
    np.testing.assert_allclose(found.square().mean(1), clean.square().mean(1), rtol=1e-4)


def test_a_clip_without_two_windows_has_no_pitch() -> None:
    clean = noise(2, 2047)
    assert torch.equal(changed("pitch:p=1", clean), clean)


@pytest.mark.parametrize("length", [1, 2, 999, 1000, 1001, 1500, 7000])
@pytest.mark.parametrize("have", [1, 2, 700, 1000])
def test_any_length_is_brought_to_any_other_without_silence(have: int, length: int) -> None:
    found = fitted(np.ones(have, np.float32), length, seeded())
    assert found.shape == (1, length)
    assert found.dtype == torch.float32
    assert found.min() > 0.99
    assert found.max() < 1.5  # equal sounds add up at a seam of constant power
    loud = [fitted(clip, 1700, seeded()) for clip in noise(200, 1000).numpy()]
    np.testing.assert_allclose(torch.cat(loud).square().mean(), 0.1**2, rtol=0.02)
    assert torch.equal(cropped(found, length, seeded()), found)


def test_numpy_and_torch_hear_the_same() -> None:
    first, second = noise(2, 4000).double(), noise(2, 4000, seed=2).double()
    level, frequency = torch.tensor([[-3.0], [8.0]]), torch.arange(1, 500, dtype=torch.float64)
    for formula, given in (
        (waves.rms, (first,)),
        (waves.with_part, (first, second, level)),
        (waves.mixed, (first, second, level / 10)),
        (waves.colour, (frequency, -0.7, (40.0, 300.0))),
    ):
        alike = formula(*(one.numpy() if isinstance(one, torch.Tensor) else one for one in given))
        np.testing.assert_allclose(formula(*given).numpy(), alike, rtol=1e-12)
