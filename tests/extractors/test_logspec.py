"""The front end ``logspec`` against its definition in NumPy, and through the whole chain."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from cache.base.errors import AsdError
from cache.recipe import Recipe
from cache.store import Store
from extractors import pooling
from extractors.backbone import Source
from extractors.backbones.logspec import LogSpectrum, band_edges, load, parse_variant
from extractors.run import main

CPU = torch.device("cpu")


def spectrum(variant: str = "") -> LogSpectrum:
    backbone = load(Source(variant), CPU)
    assert isinstance(backbone, LogSpectrum)
    return backbone


def reference(wave: np.ndarray, window: int, edges: np.ndarray) -> np.ndarray:
    """ln of the power averaged over half overlapping windows, averaged over each band's bins."""
    length = min(window, len(wave))
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    starts = range(0, len(wave) - length + 1, window // 2)
    powers = [np.abs(np.fft.rfft(wave[i : i + length] * hann, window)) ** 2 for i in starts]
    levels = np.log(np.maximum(np.mean(powers, axis=0) / np.sum(hann**2), 1e-14))
    return np.array([levels[a:b].mean() for a, b in pairwise(edges)])


@pytest.mark.parametrize(
    ("variant", "window", "rate"),
    [("linear", 8192, 16_000), ("erb", 8192, 16_000), ("mel,bands=20", 8192, 16_000),
     ("log,window=2048", 2048, 16_000), ("linear,rate=44100", 22_580, 44_100)],
)  # fmt: skip
@pytest.mark.parametrize("samples", [50_000, 5000])
def test_it_is_its_definition(variant: str, window: int, rate: int, samples: int) -> None:
    rng = np.random.default_rng(0)
    waves = (0.1 * rng.normal(size=(3, samples)).cumsum(axis=1)).astype(np.float32)
    waves[2] = 0  # silence
    backbone, bands = spectrum(variant), parse_variant(variant)
    assert backbone.spec.sample_rate == rate
    edges = band_edges(bands.spacing, bands.bands, window, rate)
    features = backbone.features(waves, [0])[0]
    expected = [reference(wave.astype(np.float64), window, edges) for wave in waves]
    assert features.native is not None
    np.testing.assert_allclose(features.native, expected, rtol=1e-4, atol=1e-3)
    first = waves[0, : min(window, samples)].astype(np.float64)
    frame = features.frames[0, 0, 0]
    np.testing.assert_allclose(frame, reference(first, window, edges), rtol=1e-4, atol=2e-3)


def test_the_usual_is_a_linear_and_an_erb_spectrum_side_by_side() -> None:
    wave = (np.random.default_rng(0).normal(size=(2, 30_000)) / 10).astype(np.float32)
    both = spectrum().features(wave, [0])[0].native
    apart = [spectrum(name).features(wave, [0])[0].native for name in ("linear", "erb")]
    assert np.array_equal(both, np.concatenate(apart, axis=1))
    assert spectrum("linear+erb,bands=64").spec == spectrum().spec


@pytest.mark.parametrize("spacing", ["linear", "erb", "mel", "log"])
@pytest.mark.parametrize(("bands", "samples", "rate"), [(64, 8192, 16_000), (512, 1024, 48_000)])
def test_every_bin_but_that_of_0_hz_is_in_one_band(spacing: str, bands: int, samples: int, rate: int) -> None:
    edges = band_edges(spacing, bands, samples, rate)
    assert len(edges) == bands + 1
    assert (edges[0], edges[-1]) == (1, samples // 2 + 1)
    assert np.diff(edges).min() >= 1


def test_edges_are_where_the_scales_have_them() -> None:
    assert band_edges("linear", 64, 8192, 16_000).tolist() == list(range(1, 4098, 64))
    erb = (band_edges("erb", 64, 8192, 16_000)[1:-1] - 1) * 16_000 / 8192  # Hz
    rates = 21.4 * np.log10(1 + 0.00437 * erb)
    np.testing.assert_allclose(np.diff(rates), rates[-1] / 63, atol=0.08)
    octaves = np.log2(band_edges("log", 12, 8192, 16_000)[5:-1])
    np.testing.assert_allclose(np.diff(octaves), 1, atol=0.05)


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("bark", "spacing 'bark'; expected one of linear, erb, mel, log"),
        ("erb+erb", "expected one of"),
        ("bands=many", "expected bands=<whole number>"),
        ("bands=0", r"bands 0 must lie in \[1"),
        ("hop=5", "no option 'hop'; it has spacing, bands, rate, window"),
        ("bands=600,window=1024", "600 bands of a window of 1024 samples; .* at most 512"),
        ("window=1001", "an even number"),
    ],
)
def test_variants_that_are_refused(variant: str, message: str) -> None:
    with pytest.raises(AsdError, match=message):
        spectrum(variant)


def test_weights_are_refused() -> None:
    with pytest.raises(AsdError, match="logspec has no weights"):
        load(Source(weights=Path("x.pt")), CPU)


def test_a_table_has_a_block_a_spacing_and_a_recipe_that_says_everything(tmp_path: Path) -> None:
    rng, folder = np.random.default_rng(0), tmp_path / "data" / "a fan" / "train"
    folder.mkdir(parents=True)
    for i, seconds in enumerate((6, 18, 0.3)):
        wave = 0.1 * rng.normal(size=int(16_000 * seconds))
        soundfile.write(folder / f"section_00_source_train_normal_{i}.wav", wave, 16_000)
    where = ["--data", str(tmp_path / "data"), "--cache-dir", str(tmp_path / "cache")]
    assert main([*where, "--backbone", "logspec"]) == 0
    assert main([*where, "--backbone", "logspec:erb,bands=32", "--pooling", "native", "mean"]) == 0
    store = Store(tmp_path / "cache")
    found: dict[str, Recipe] = {f"{r.named} {r.pooling}": r for r in store.recipes()}
    assert set(found) == {
        "logspec native", "logspec:erb,bands=32 native", "logspec:erb,bands=32 mean"
    }  # fmt: skip
    usual = found["logspec native"]
    assert {("spacing", "linear+erb"), ("n_fft", 8192)} <= set(usual.settings)
    section = store.tables(usual)[0].section
    table = store.read(usual, section, "train")
    assert table.blocks == {"logspec.linear": (0, 64), "logspec.erb": (64, 128)}
    assert len(table) == 3
    other = store.read(found["logspec:erb,bands=32 native"], section, "train")
    assert other.blocks == {"logspec": (0, 32)}


def test_the_usual_pooling_is_not_the_mean_of_the_windows_logarithms() -> None:
    wave = np.zeros((1, 40_960), np.float32)
    wave[:, :20_480] = np.random.default_rng(0).normal(size=20_480)
    backbone = spectrum("linear,bands=1")
    features = backbone.features(wave, [0])[0]
    ours = pooling.find(backbone.spec.pooling, {})(features, "merge")
    mean = pooling.find("mean", {})(features, "merge")
    assert ours.item() - mean.item() > 5  # half of the time silent: 3 dB less, not -140 dB
