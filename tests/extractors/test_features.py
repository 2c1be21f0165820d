"""Front end, pooling and the backbones' contract, against independent computations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import torch

from cache.base.errors import AsdError
from extractors import backbones, pooling
from extractors.backbone import ArrayFeatures, Features, Source
from extractors.backbones import logmel
from extractors.nets.filters import slaney_filters
from extractors.nets.melspectrogram import LogMel
from tests.helpers.references import mel_powers
from tests.helpers.small_models import SMALL

CPU = torch.device("cpu")


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[[str], Any]:
    """Load a backbone in its smallest size."""

    def load(name: str) -> Any:
        return backbones.find(name).load(SMALL[name](tmp_path), CPU)

    return load


@pytest.mark.parametrize(
    ("rate", "n_fft", "n_mels"), [(16_000, 1024, 128), (32_000, 1024, 64), (44_100, 2048, 40)]
)
def test_filters_are_librosas(rate: int, n_fft: int, n_mels: int) -> None:
    expected = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=n_mels, dtype=np.float64).T
    np.testing.assert_allclose(slaney_filters(rate, n_fft, n_mels), expected, atol=1e-12)


@pytest.mark.parametrize("kind", ["noise", "tone", "silence"])
def test_log_mel_is_librosas(kind: str) -> None:
    time = np.arange(24_000, dtype=np.float32) / 16_000
    wave = {
        "noise": np.random.default_rng(0).normal(0, 0.1, time.size),
        "tone": 0.5 * np.sin(2 * np.pi * 1000 * time),
        "silence": np.zeros_like(time),
    }[kind].astype(np.float32)
    power = mel_powers(wave, mirrored=False)
    expected = 10 * np.log10(np.maximum(power, 1e-10)).T
    ours = logmel.LogMelFrames(16_000, 1024, 512, 128)(wave)
    networks = LogMel(16_000, 1024, 512, 128)(torch.from_numpy(wave)[None])[0].numpy()
    # Far from a tone, float32 leaves only rounding noise: compare what carries power.
    loud = expected > expected.max() - 80
    for frames in (ours, networks):
        np.testing.assert_allclose(frames[loud], expected[loud], atol=1e-2)
    assert np.abs(ours - networks)[loud].max() <= 1e-5 * np.abs(networks).max()
    (pooled,) = logmel.load(Source(), CPU).features(wave[None], [0])  # type: ignore[arg-type]
    assert np.array_equal(pooled.frames[0, :, 0], ours)


FRAMES = torch.tensor([[[1.0, 4.0], [3.0, 0.0], [2.0, 2.0]]])[:, :, None, :]  # (1, 3, 1, 2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mean", [2.0, 2.0]),
        ("max", [3.0, 4.0]),
        ("mean+std", [2.0, 2.0, (2 / 3) ** 0.5, (8 / 3) ** 0.5]),
        # Descending 3 2 1 and 4 2 0 with weights 1, 1/2, 1/4 over 7/4.
        ("gwrp:0.5", [(3 + 1 + 0.25) / 1.75, (4 + 1 + 0) / 1.75]),
        ("gwrp:1", [2.0, 2.0]),
        ("gem:1", [2.0, 2.0]),
        ("gem:2", [(14 / 3) ** 0.5, (20 / 3) ** 0.5]),
        # Distances to the mean (2, 2): sqrt 5, sqrt 5, 0; with gamma 1 the weights 2, 2, 1 over 5.
        ("rdp:1", [(2 * 1 + 2 * 3 + 2) / 5, (2 * 4 + 0 + 2) / 5]),
        ("rdp:0", [2.0, 2.0]),
        ("rdp+gem:2,1", [(2 / 5 + 18 / 5 + 4 / 5) ** 0.5, (32 / 5 + 4 / 5) ** 0.5]),
    ],
)
def test_poolings_by_hand(name: str, expected: list[float]) -> None:
    pooled = pooling.find(name, {})(Features(FRAMES), "merge")
    np.testing.assert_allclose(pooled.numpy(), [expected], rtol=1e-6)


def test_bands_are_merged_as_tokens_or_kept_one_after_the_other() -> None:
    frames = torch.arange(24, dtype=torch.float32).reshape(2, 3, 2, 2)  # (B, time, band, C)
    merged = pooling.find("max", {})(Features(frames), "merge")
    kept = pooling.find("max", {})(Features(frames), "keep")
    np.testing.assert_array_equal(merged.numpy(), frames.numpy().max(axis=(1, 2)))
    np.testing.assert_array_equal(kept.numpy(), frames.numpy().max(axis=1).reshape(2, 4))


def test_a_backbones_own_parameter_is_used_unless_one_is_given() -> None:
    assert pooling.find("gwrp", {}).name == "gwrp:0.7"
    assert pooling.find("gwrp", {"gwrp": (0.4,)}).name == "gwrp:0.4"
    assert pooling.find("rdp+gem", {}).name == "rdp+gem:9,10"
    assert pooling.find("gwrp:0.9", {"gwrp": (0.4,)}).name == "gwrp:0.9"


def test_powers_stay_finite_and_keep_their_digits() -> None:
    frames = torch.randn(2, 50, 1, 4, generator=torch.Generator().manual_seed(0)) * 1e6
    exact = frames[:, :, 0].double()
    for name in ("gem:1000", "rdp:1000", "rdp+gem:30,200"):
        pooled = pooling.find(name, {})(Features(frames), "merge")
        slow = pooling.find(name, {}).reduce(exact)  # type: ignore[misc]
        np.testing.assert_allclose(pooled.numpy(), slow.numpy(), rtol=2e-4)
    for name in pooling.names():
        if name != "native":
            silence = pooling.find(name, {})(Features(torch.zeros(1, 3, 1, 2)), "merge")
            assert not silence.any()


def test_the_models_own_embedding() -> None:
    native = torch.arange(6.0).reshape(2, 3)
    assert pooling.find("native", {})(Features(FRAMES, native), "keep") is native
    with pytest.raises(AsdError, match="no embedding of its own"):
        pooling.find("native", {})(Features(FRAMES), "merge")


@pytest.mark.parametrize("bands", pooling.BANDS)
@pytest.mark.parametrize("name", pooling.names())
def test_arrays_are_pooled_as_tensors_are(name: str, bands: str) -> None:
    rng = np.random.default_rng(0)
    frames = rng.normal(-30, 10, (3, 57, 4, 6)).astype(np.float32)
    own = rng.normal(size=(3, 5)).astype(np.float32)
    pool = pooling.find(name, {})
    expected = pool(Features(torch.from_numpy(frames), torch.from_numpy(own)), bands).numpy()
    found = pool(ArrayFeatures(frames, own), bands)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(AsdError, match="no embedding of its own"):
        pooling.find("native", {})(ArrayFeatures(frames), bands)


@pytest.mark.parametrize(
    "text",
    ["median", "mean:2", "gwrp:0", "gwrp:1.5", "gwrp:x", "gwrp:nan", "gwrp:", "rdp+gem:3", "gem:0"],
)
def test_poolings_that_are_refused(text: str) -> None:
    with pytest.raises(AsdError, match="unknown pooling|must be in|expected rdp|no parameter"):
        pooling.find(text, {})


@pytest.mark.parametrize("name", ["rdp", "rdp+gem"])
def test_a_weight_of_a_whole_frame_is_shared_by_its_bands(name: str) -> None:
    frames = torch.from_numpy(np.random.default_rng(5).normal(1, 1, (2, 7, 3, 4)).astype(np.float32))
    text = {"rdp": "rdp-frames:4", "rdp+gem": "rdp-frames+gem:3,4"}[name]
    p = 1 if name == "rdp" else 3
    found = pooling.find(text, {})(Features(frames), "keep").numpy()
    for clip, vector in zip(frames.double().numpy(), found, strict=True):
        whole = clip.reshape(7, 12)
        deviation = np.linalg.norm(whole - whole.mean(0), axis=1)
        weights = (1 + deviation / deviation.max()) ** 4
        values = whole if name == "rdp" else np.maximum(whole, 0)
        expected = (weights / weights.sum()) @ values**p
        np.testing.assert_allclose(vector, expected ** (1 / p), rtol=1e-5)
    merged = pooling.find(text, {})(Features(frames), "merge").numpy()
    np.testing.assert_allclose(merged, found.reshape(2, 3, 4).mean(1), rtol=1e-5)
    one = Features(frames[:, :, :1])  # of a model without bands the two are the same
    both = (pooling.find(t, {})(one, "keep") for t in (text, text.replace("-frames", "")))
    np.testing.assert_allclose(*both, rtol=1e-6)


def test_an_unknown_backbone_lists_the_known() -> None:
    with pytest.raises(AsdError, match="unknown backbone 'nothing'; known are .*logmel"):
        backbones.find("nothing")


def features_of(backbone: Any, waveforms: torch.Tensor, layers: Sequence[int]) -> list[Any]:
    """Features of tensors, or of arrays where the backbone takes these."""
    with torch.inference_mode():
        found = backbone.features(waveforms.numpy() if backbone.spec.arrays else waveforms, layers)
    return list(found)


@pytest.mark.parametrize("name", backbones.names())
def test_every_backbone_keeps_the_contract(name: str, loaded: Callable[[str], Any]) -> None:
    backbone = loaded(name)
    spec = backbone.spec
    assert spec.name == name
    assert spec.layer in spec.layers
    pooling.find(spec.pooling, spec.tuned)
    length = max(spec.min_samples, spec.sample_rate // 2)
    waveforms = torch.randn(4, length, generator=torch.Generator().manual_seed(0)) / 10
    every = features_of(backbone, waveforms, spec.layers)
    shortest = features_of(backbone, waveforms[:1, : spec.min_samples], spec.layers)
    for frames in (np.asarray(each.frames) for each in (*every, *shortest)):
        assert frames.dtype == np.float32
        assert frames.ndim == 4
        assert np.isfinite(frames).all()
    assert len(every) == len(spec.layers)
    with_own = tuple(n for n, each in zip(spec.layers, every, strict=True) if each.native is not None)
    assert with_own == spec.native
    assert all(e.native is None or e.native.shape[0] == 4 for e in every)
    assert every[spec.layers.index(spec.layer)].frames.shape[2:] == (spec.bands, spec.dim)


@pytest.mark.parametrize("name", backbones.names())
def test_a_clips_embedding_does_not_depend_on_its_batch(name: str, loaded: Callable[[str], Any]) -> None:
    backbone = loaded(name)
    spec = backbone.spec
    poolings = [pooling.find(how, spec.tuned) for how in ("mean", "max", "mean+std", "gwrp")]
    length = max(spec.min_samples, spec.sample_rate // 2)
    waveforms = torch.randn(64, length, generator=torch.Generator().manual_seed(0)) / 10

    def embed(size: int) -> list[np.ndarray]:
        parts = [features_of(backbone, part, [spec.layer])[0] for part in waveforms.split(size)]
        pooled = [[np.asarray(pool(part, "merge")) for part in parts] for pool in poolings]
        return [np.concatenate(each) for each in pooled]

    alone = embed(1)
    for size in (2, 64):
        for one, among in zip(alone, embed(size), strict=True):
            assert np.abs(among - one).max() <= 1e-5 * np.abs(one).max()
