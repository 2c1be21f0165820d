"""FISHER: the numbers of the publisher's network at any rate; bands; files that are not its."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cache.base.errors import AsdError
from extractors import backbones
from extractors.backbone import Source
from extractors.embedding import finetuned
from extractors.run import main
from tests.helpers.small_models import golden, noise_of, picked, write_fisher

CPU = torch.device("cpu")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_fisher(tmp_path / "fisher.pt")


def loaded(path: Path, variant: str = "") -> Any:
    return backbones.find("fisher").load(Source(variant, weights=path), CPU)


@pytest.mark.parametrize(
    ("seconds", "rate", "bands"),
    [
        (6.24, 16_000, 2),
        (10.0, 16_000, 2),
        (18.0, 16_000, 2),
        (2.0, 1000, 1),
        (2.0, 25_600, 3),
        (2.0, 44_100, 5),
        (2.0, 48_000, 6),
        (2.0, 96_000, 12),
    ],
)
def test_all_layers_are_the_publishers(seconds: float, rate: int, bands: int, path: Path) -> None:
    backbone = loaded(path, f"@{rate}")
    # The publisher hears 1024 frames and no more: of a longer clip the first window is theirs.
    waveform = noise_of(seconds, rate)[:, : backbone.spec.max_samples]
    with torch.inference_mode():
        found = backbone.features(waveform, [1, 2])
    name = str(seconds) if rate == 16_000 else f"{seconds}@{rate}"
    for features, expected in zip(found, golden("fisher", name), strict=True):
        assert features.frames.shape[2:] == (6 * bands, 64)
        ours = picked(features.frames) + picked(features.native)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4)
    assert backbone.spec.bands == 6 * bands
    assert backbone.spec.sample_rate == rate


def test_a_longest_clip_has_1024_frames(path: Path) -> None:
    backbone = loaded(path)
    assert backbone.inputs(torch.zeros(1, backbone.spec.max_samples)).values.shape == (1, 1024, 200)
    assert backbone.inputs(torch.zeros(1, backbone.spec.max_samples + 1)).values.shape[1] == 1025
    assert backbone.inputs(torch.zeros(1, backbone.spec.min_samples)).values.shape[1] == 16


def test_a_band_does_not_hear_its_neighbour(path: Path) -> None:
    backbone = loaded(path)
    inputs = backbone.inputs(noise_of(1.0))
    other = replace(inputs, values=inputs.values.clone())
    other.values[..., 100:] += 1
    with torch.inference_mode():
        one, two = (backbone.states(each, [2])[0] for each in (inputs, other))
    assert torch.equal(one.frames[:, :, :6], two.frames[:, :, :6])
    assert torch.equal(one.native[:, :64], two.native[:, :64])
    assert (one.native[:, 64:] - two.native[:, 64:]).abs().max() > 0.01


def test_random_networks_have_the_sizes_of_their_names() -> None:
    backbone: Any = backbones.find("fisher").load(Source("tiny@48000", seed=0), CPU)
    assert (backbone.spec.dim, backbone.spec.sample_rate, backbone.spec.layers[-1]) == (192, 48_000, 12)
    assert backbone.spec.weights == "random"


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("huge", "fisher has no variant 'huge'; it has small, mini, tiny, and behind them a rate"),
        ("small@", "fisher has no variant 'small@'"),
        ("small@48k", "fisher has no variant"),
        ("@10", "its rate is 10 Hz, expected 1000 to 1000000"),
        ("small", "is no fisher:small: it has 2 blocks of 64 values"),
    ],
)
def test_variants_that_are_refused(variant: str, message: str, path: Path) -> None:
    with pytest.raises(AsdError, match=message):
        loaded(path, variant)


def test_a_fine_tuned_file_keeps_its_rate(path: Path, tmp_path: Path) -> None:
    backbone = loaded(path, "@32000")
    embedding = finetuned.Embedding(2, "mean", 64, backbone.spec.bands, 64)
    file = tmp_path / "tuned.safetensors"
    finetuned.write(file, backbone, embedding, embedding.pooling(), {})
    again = finetuned.load_any("fisher", Source(weights=file), CPU)
    assert again.spec.sample_rate == 32_000
    with torch.inference_mode():
        pairs = [each.features(noise_of(0.5, 32_000), [1])[0].frames for each in (backbone, again)]
    assert torch.equal(*pairs)


def test_code_in_a_file_is_not_run(path: Path, tmp_path: Path) -> None:
    content = torch.load(path, weights_only=True)
    content["cfg"]["where"] = Path("a")
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(
        AsdError, match="holds more than tensors or is no checkpoint, and nothing of it was run"
    ):
        loaded(tmp_path / "other.pt")


def test_without_weights_what_is_known_of_the_licence_is_shown(
    root: Path, tmp_path: Path, error_of: Callable[..., str]
) -> None:
    said = error_of(main, "--data", root, "--backbone", "fisher:mini@32000", "--cache-dir", tmp_path / "a")
    assert "fisher needs FISHER-mini-0723.pt (weights: no licence stated, ask the authors; code: MIT)" in said
