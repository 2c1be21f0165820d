"""Augmentations by name: their draws, labels and masks; for sounds see test_finetune_sounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from cache.base.errors import AsdError
from cache.base.options import Span
from finetune.data import AUGMENTATIONS, augmentation
from tests.helpers.sounds import batch, changed, noise, parsed, seeded

ON_BATCHES = [name for name in AUGMENTATIONS.names() if name != "specaugment"]


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
    assert rows[:, 0].any()  # from border
    assert rows[:, -1].any()  # to border
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


@pytest.mark.parametrize("name", ON_BATCHES)
def test_the_generator_decides_everything(name: str) -> None:
    given = batch(noise(12, 3000))
    before = given.waveforms.clone()
    first = parsed(name)(given, seeded(7))
    torch.manual_seed(1)
    second, other = parsed(name)(given, seeded(7)), parsed(name)(given, seeded(8))
    assert torch.equal(first.waveforms, second.waveforms)
    assert torch.equal(first.labels.weight, second.labels.weight)
    assert not torch.equal(first.waveforms, other.waveforms)
    assert torch.equal(given.waveforms, before)
    assert first.waveforms.dtype == torch.float32
    assert torch.isfinite(first.waveforms).all()
    assert first.waveforms.shape == (12, 3000)


@pytest.mark.parametrize("name", ON_BATCHES)
def test_as_many_clips_change_as_asked_for(name: str) -> None:
    clean = noise(300, 2200)
    name += ":alpha=1" if name == "mixup" else ""  # no weight so near 1 that nothing changes
    for p in (0.0, 0.4, 1.0):
        count = int((changed(f"{name}:p={p}", clean) != clean).any(dim=1).sum())
        assert stats.binomtest(count, 300, p).pvalue > 0.01


def test_several_run_in_the_order_named() -> None:
    texts = ["speed:p=1", "mixup:p=1", "specaugment", "noise:p=1"]
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


@pytest.mark.parametrize("name", AUGMENTATIONS.names())
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
        ("reverb", "unknown augmentation 'reverb'; known are mixup, noise, other-machine, pit"),
        ("mixup:beta=1", "no option 'beta'; it has p, alpha, labels"),
        ("mixup:p=1.5", r"p 1.5 must lie in \[0.0, 1.0\]"),
        ("mixup:labels=hard", "labels is 'hard'; expected soft or extra"),
        ("noise:snr=20..0", r"snr 20.0..0.0 must lie in \[-40.0, 100.0\]"),
        ("noise:snr=0-20", "snr is '0-20'; expected a number, or LOW..HIGH"),
        ("noise:snr=nan", "snr nan..nan must lie in"),
        ("speed:factor=0.1..1", "factor 0.1..1.0 must lie in"),
    ],
)
def test_wrong_augmentations_are_told_with_what_is_known(text: str, message: str) -> None:
    with pytest.raises(AsdError, match=message):
        augmentation.parse([text])
