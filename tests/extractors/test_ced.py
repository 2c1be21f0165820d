"""CED: the numbers of the publisher's network and front end; both layouts; files that are not its."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cache.base.errors import AsdError
from extractors import backbones
from extractors.backbone import Source
from extractors.device import torchaudio
from extractors.embedding.embedder import window_starts
from extractors.run import main
from tests.helpers.small_models import golden, noise_of, picked, write_ced

CPU = torch.device("cpu")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_ced(tmp_path / "ced.safetensors")


def loaded(path: Path, variant: str = "") -> Any:
    return backbones.find("ced").load(Source(variant, weights=path), CPU)


@pytest.mark.parametrize("seconds", [6.24, 10.0, 18.0])
def test_all_layers_are_the_publishers(seconds: float, path: Path) -> None:
    backbone = loaded(path)
    waveform = noise_of(seconds)
    window = backbone.spec.max_samples
    start = window_starts(waveform.shape[1], window)[0]
    with torch.inference_mode():
        found = backbone.features(waveform[:, start : start + window], [1, 2])
    for features, expected in zip(found, golden("ced", str(seconds)), strict=True):
        assert features.frames.shape[2:] == (4, 64)
        np.testing.assert_allclose(picked(features.frames), expected, rtol=0, atol=1e-4)


def test_the_spectrogram_is_torchaudios(path: Path) -> None:
    transforms = torchaudio().transforms
    mel = transforms.MelSpectrogram(16_000, n_fft=512, hop_length=160, n_mels=64, f_min=0.0)
    decibels = transforms.AmplitudeToDB(top_db=120)
    time = torch.arange(16_000) / 16_000
    faded = torch.sin(2 * np.pi * 440 * time)[None] * (time < 0.5)  # silence 120 dB below
    for waveform in (noise_of(1.0), faded):
        expected = decibels(mel(waveform)).transpose(1, 2)
        found = loaded(path).inputs(waveform).values
        loud = expected > expected.max() - 80
        torch.testing.assert_close(found[loud], expected[loud], rtol=0, atol=2e-3)
        assert abs(float(found.max() - found.min()) - float(expected.max() - expected.min())) < 0.1


@pytest.mark.parametrize(("variant", "at_once"), [("tiny", [4, 1]), ("base", [1] * 5)])
def test_a_small_network_hears_several_clips_at_once(variant: str, at_once: list[int]) -> None:
    backbone: Any = backbones.find("ced").load(Source(variant, seed=0), CPU)
    clips, seen = torch.randn(5, backbone.spec.min_samples), list[int]()
    backbone.network.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    with torch.inference_mode():
        together = backbone.features(clips, [1])[0].frames
        assert seen == at_once
        alone = torch.cat([backbone.features(clip[None], [1])[0].frames for clip in clips])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_files_of_the_first_release_are_the_same(path: Path, tmp_path: Path) -> None:
    state = {name.removeprefix("encoder."): value for name, value in load_file(path).items()}
    renamed = {name.replace("init_bn.", "init_bn.1."): value for name, value in state.items()}
    extra = {"outputlayer.1.bias": torch.zeros(3), "front_end.0.spectrogram.window": torch.zeros(4)}
    torch.save(renamed | extra, tmp_path / "ced.pt")
    with torch.inference_mode():
        one, two = (loaded(f).features(noise_of(1.0), [2])[0] for f in (path, tmp_path / "ced.pt"))
    assert torch.equal(one.frames, two.frames)


def test_a_longest_clip_has_1012_frames(path: Path) -> None:
    backbone = loaded(path)
    assert backbone.inputs(torch.zeros(1, backbone.spec.max_samples)).values.shape[1] == 1012
    assert backbone.inputs(torch.zeros(1, backbone.spec.min_samples)).values.shape[1] == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder.extra": torch.zeros(1)}, "unexpected: extra"),
        ({"encoder.init_bn.bias": None}, "missing: scale, shift; unexpected: init_bn"),
        ({"encoder.time_pos_embed": None}, "its positions in time are missing"),
        ({"encoder.time_pos_embed": torch.zeros(1, 8, 1, 63)}, "of another shape: time"),
        ({"encoder.blocks.0.attn.proj.weight": None}, "has no blocks of a transformer"),
    ],
)
def test_files_that_do_not_fit(
    path: Path, tmp_path: Path, change: dict[str, torch.Tensor | None], message: str
) -> None:
    state = {n: v for n, v in (load_file(path) | change).items() if v is not None}
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(AsdError, match=message):
        loaded(tmp_path / "other.safetensors")


def test_variants(path: Path) -> None:
    with pytest.raises(AsdError, match="ced has no variant 'huge'; it has tiny, mini, small, base"):
        loaded(path, "huge")
    with pytest.raises(AsdError, match="is no ced:tiny: it has 2 blocks of 64 values"):
        loaded(path, "tiny")
    found: Any = backbones.find("ced").load(Source("mini", seed=0), CPU)
    assert (found.spec.dim, found.spec.weights) == (256, "random")


def test_without_weights_the_licence_is_shown(
    root: Path, tmp_path: Path, error_of: Callable[..., str]
) -> None:
    said = error_of(main, "--data", root, "--backbone", "ced", "--cache-dir", tmp_path / "a")
    assert (
        "ced needs ced-tiny.safetensors (Apache-2.0), and offline nothing is fetched: bring it from" in said
    )
    assert "https://huggingface.co/mispeech/ced-tiny/resolve/main/model.safetensors" in said
