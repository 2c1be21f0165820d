"""What augmentations do to sounds, measured: ratios, tempo, pitch, slopes, shares, frequencies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import signal, stats

from cache.errors import AsdError
from cache.options import Span
from finetune import augmentation
from finetune.augmentation import Augmentation, Batch
from finetune.lengths import cropped, fitted
from finetune.mixture import Mixture
from finetune.stretch import stretched

RATE = 16_000
ON_BATCHES = [name for name in augmentation.names() if name != "specaugment"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(waveforms: torch.Tensor, machines: int = 3) -> Batch:
    numbers = torch.arange(len(waveforms))
    return Batch(waveforms, Mixture.plain(numbers % 5), numbers % machines, 5)


def noise(clips: int, samples: int = RATE, seed: int = 1) -> torch.Tensor:
    return 0.1 * torch.randn(clips, samples, generator=seeded(seed))


def parsed(text: str) -> Augmentation:
    return augmentation.parse([text]).of_batches[0]


def changed(text: str, waveforms: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return parsed(text)(batch(waveforms), seeded(seed)).waveforms


def ratio(clean: torch.Tensor, noisy: torch.Tensor) -> np.ndarray:
    """Signal-to-noise ratio of each clip, dB."""
    clean, added = clean.double().numpy(), (noisy - clean).double().numpy()
    return 10 * np.log10((clean**2).sum(axis=1) / (added**2).sum(axis=1))


def frequency(clip: torch.Tensor) -> float:
    """The strongest, Hz, between bins by a parabola through its logarithms."""
    window = signal.windows.hann(len(clip), sym=False)
    power = np.log(np.abs(np.fft.rfft(clip.double().numpy() * window)) + 1e-30)
    peak = int(power.argmax())
    below, at, above = power[peak - 1 : peak + 2]
    return (peak + (below - above) / (below - 2 * at + above) / 2) * RATE / len(clip)


def sine(hertz: float, clips: int, samples: int = 2 * RATE) -> torch.Tensor:
    time = torch.arange(samples, dtype=torch.float64) / RATE
    return (0.5 * torch.sin(2 * torch.pi * hertz * time)).float().expand(clips, -1).contiguous()


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
    found = changed("speed:p=1:factor=0.9..1.1", sine(1000, 420, 4000))
    factors = np.array([frequency(clip[:3000]) for clip in found]) / 1000
    counts = np.bincount(np.rint(100 * factors - 90).astype(int), minlength=21)
    assert len(counts) == 21
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


def test_a_shifted_clip_is_as_loud_as_before_and_silence_is_silent() -> None:
    clean = noise(8) * torch.arange(8)[:, None]
    found = changed("pitch:p=1", clean)
    np.testing.assert_allclose(found.square().mean(1), clean.square().mean(1), rtol=1e-4)


def test_a_clip_without_two_windows_has_no_pitch() -> None:
    clean = noise(2, 2047)
    assert torch.equal(changed("pitch:p=1", clean), clean)


def test_mixup_is_the_weighted_sum_its_label_says() -> None:
    clean = noise(400, 50)
    made = parsed("mixup:p=0.5:alpha=0.4")(batch(clean), seeded())
    labels, is_mixed = made.labels, made.labels.weight != 1
    assert 160 < is_mixed.sum() < 240
    assert torch.equal(made.waveforms[~is_mixed], clean[~is_mixed])
    for clip in is_mixed.nonzero()[:, 0].tolist():
        weight = labels.weight[clip].double()
        rest = (made.waveforms[clip].double() - weight * clean[clip].double()) / (1 - weight)
        if weight < 0.99:
            distance = (clean.double() - rest).abs().amax(dim=1)
            other = int(distance.argmin())
            assert distance[other] < 1e-4
            assert other != clip
            assert labels.second[clip] == other % 5
        assert labels.first[clip] == clip % 5


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_mixup_weights_are_of_the_beta_distribution(alpha: float) -> None:
    made = parsed(f"mixup:p=1:alpha={alpha}")(batch(torch.zeros(2000, 1)), seeded(3))
    assert stats.kstest(made.labels.weight.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_mixed_clips_may_be_a_class_of_their_own() -> None:
    chain = augmentation.parse(["mixup:p=0.3:labels=extra", "noise"])
    assert chain.extra_classes == 1
    assert augmentation.parse(["mixup"]).extra_classes == 0
    clean = noise(1000, 20)
    made = parsed("mixup:p=0.3:labels=extra:alpha=1")(batch(clean), seeded())
    assert made.labels.is_plain
    assert (made.labels.weight == 1).all()
    is_mixed = (made.waveforms != clean).any(dim=1)
    assert stats.binomtest(int(is_mixed.sum()), 1000, 0.3).pvalue > 0.01
    expected = torch.where(is_mixed, 5, torch.arange(1000) % 5)
    assert torch.equal(made.labels.first, expected)


def test_one_clip_is_not_mixed_and_none_is_mixed_twice() -> None:
    alone = parsed("mixup:p=1")(batch(noise(1)), seeded())
    assert torch.equal(alone.waveforms, noise(1))
    assert torch.equal(alone.labels.weight, torch.ones(1))
    twice = augmentation.parse(["mixup:p=1", "mixup:p=1"])
    with pytest.raises(AsdError, match="mixed already: name it once"):
        twice.batch(batch(noise(4)), seeded())


def masked(text: str, shape: tuple[int, ...], axes: tuple[int, int]) -> torch.Tensor:
    """Which values were replaced; by nothing else than their clip's mean."""
    values = torch.rand(shape, generator=seeded(4)).round()  # 0 or 1, never the mean
    found = augmentation.parse([text]).spectrograms(values, axes, seeded())
    is_masked = found != values
    mean = values.flatten(1).mean(dim=1).view(-1, *[1] * (len(shape) - 1)).expand(shape)
    torch.testing.assert_close(found[is_masked], mean[is_masked])
    return is_masked


def test_masks_are_stripes_of_the_widths_asked_for() -> None:
    text = "specaugment:time=0.2:time-masks=1:frequency=0.5:frequency-masks=0"
    hidden = masked(text, (900, 100, 16), (1, 2))
    assert torch.equal(hidden.all(dim=2), hidden.any(dim=2))
    rows = hidden.all(dim=2)
    assert (rows.int().diff(dim=1).abs().sum(dim=1) <= 2).all()  # one stripe
    widths = rows.sum(dim=1).numpy()
    counts = np.bincount(widths, minlength=21)
    assert len(counts) == 21
    assert stats.chisquare(counts).pvalue > 0.01
    text = "specaugment:time=0:frequency=0.25:frequency-masks=1"
    hidden = masked(text, (900, 1, 64, 20), (-1, -2))
    assert torch.equal(hidden.all(dim=3), hidden.any(dim=3))
    share = hidden[:, 0, :, 0].float().mean().item()
    assert share == pytest.approx(8 / 64, rel=0.05)  # the mean of 0 to 16 bins


def test_masks_of_both_axes_overlap_freely() -> None:
    shares = masked("specaugment:time=0.3:frequency=0.3", (2000, 50, 40), (1, 2)).float()
    # A stripe hides 0.15 of its axis on average, places near the border less often.
    assert 1 - shares.mean().item() == pytest.approx((1 - 0.15) ** 4, abs=0.02)


def test_a_crop_begins_anywhere() -> None:
    clean = torch.arange(1000.0).expand(2200, -1).contiguous()
    found = changed("crop:samples=990", clean)
    assert torch.equal(found.diff(dim=1), torch.ones(2200, 989))
    assert stats.chisquare(np.bincount(found[:, 0].int().numpy(), minlength=11)).pvalue > 0.01
    assert torch.equal(changed("crop:samples=5000", clean), clean)


@pytest.mark.parametrize("length", [1, 2, 999, 1000, 1001, 1500, 7000])
@pytest.mark.parametrize("have", [1, 2, 700, 1000])
def test_any_length_is_brought_to_any_other_without_silence(have: int, length: int) -> None:
    found = fitted(torch.ones(2, have), length, seeded())
    assert found.shape == (2, length)
    assert found.min() > 0.99
    assert found.max() < 1.5  # equal sounds add up at a seam of constant power
    loud = fitted(torch.randn(200, 1000, generator=seeded()), 1700, seeded())
    np.testing.assert_allclose(loud.square().mean(dim=0).mean(), 1, atol=0.02)
    assert torch.equal(cropped(found, length, seeded()), found)


@pytest.mark.parametrize("name", ON_BATCHES)
def test_the_generator_decides_everything(name: str) -> None:
    given = batch(noise(12, 3000))
    before = given.waveforms.clone()
    text = "crop:samples=2000" if name == "crop" else name
    first = parsed(text)(given, seeded(7))
    torch.manual_seed(1)
    second, other = parsed(text)(given, seeded(7)), parsed(text)(given, seeded(8))
    assert torch.equal(first.waveforms, second.waveforms)
    assert torch.equal(first.labels.weight, second.labels.weight)
    assert not torch.equal(first.waveforms, other.waveforms)
    assert torch.equal(given.waveforms, before)
    assert first.waveforms.dtype == torch.float32
    assert torch.isfinite(first.waveforms).all()
    assert first.waveforms.shape == ((12, 2000) if name == "crop" else (12, 3000))


@pytest.mark.parametrize("name", [name for name in ON_BATCHES if name != "crop"])
def test_as_many_clips_change_as_asked_for(name: str) -> None:
    clean = noise(300, 2200)
    name += ":alpha=1" if name == "mixup" else ""  # no weight so near 1 that nothing changes
    for p in (0.0, 0.4, 1.0):
        count = int((changed(f"{name}:p={p}", clean) != clean).any(dim=1).sum())
        # A speed of exactly 1 changes nothing: one in 21.
        chance = p * 20 / 21 if name == "speed" else p
        assert stats.binomtest(count, 300, chance).pvalue > 0.01


def test_several_run_in_the_order_named() -> None:
    texts = ["crop:samples=1000", "mixup:p=1", "specaugment", "noise:p=1"]
    chain = augmentation.parse(texts)
    given, generator = batch(noise(4)), seeded()
    expected = given
    for text in (texts[0], texts[1], texts[3]):
        expected = parsed(text)(expected, generator)
    found = chain.batch(given, seeded())
    assert torch.equal(found.waveforms, expected.waveforms)
    values = torch.rand(4, 20, 30, generator=seeded())
    assert not torch.equal(chain.spectrograms(values, (1, 2), seeded()), values)
    nothing = augmentation.parse([])
    assert nothing.batch(given, seeded()) is given
    assert nothing.spectrograms(values, (1, 2), seeded()) is values


@pytest.mark.parametrize("name", augmentation.names())
def test_the_record_reads_back_as_the_same(name: str) -> None:
    made = augmentation.parse([name])
    again = augmentation.parse(made.texts)
    assert again == made
    assert made.texts[0].startswith(f"{name}:")


def test_spans_are_written_and_read() -> None:
    made = augmentation.parse(["noise:snr=-5..20:p=0.25", " speed:factor=1.1"])
    assert made.texts == (
        "noise:p=0.25:snr=-5.0..20.0:exponent=1.0",
        "speed:p=0.5:factor=1.1..1.1",
    )
    assert replace(made.of_batches[0], snr=Span(0, 1)).snr == (0, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reverb", "unknown augmentation 'reverb'; known are crop, mixup, noise, other-machine, p"),
        ("mixup:beta=1", "no option 'beta'; it has p, alpha, labels"),
        ("mixup:p=1.5", r"p 1.5 must lie in \[0.0, 1.0\]"),
        ("mixup:labels=hard", "labels is 'hard'; expected soft or extra"),
        ("noise:snr=20..0", r"snr 20.0..0.0 must lie in \[-40.0, 100.0\]"),
        ("noise:snr=0-20", "snr is '0-20'; expected a number, or LOW..HIGH"),
        ("noise:snr=nan", "snr nan..nan must lie in"),
        ("speed:factor=0.1..1", "factor 0.1..1.0 must lie in"),
        ("crop:samples=0", "samples 0 must lie in"),
    ],
)
def test_wrong_augmentations_are_told_with_what_is_known(text: str, message: str) -> None:
    with pytest.raises(AsdError, match=message):
        augmentation.parse([text])
