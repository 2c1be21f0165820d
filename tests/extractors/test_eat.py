"""EAT and SSLAM: the numbers of the publisher's network; both layouts of their files; bounded values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cache.base.errors import AsdError
from extractors import backbones, pooling
from extractors.backbone import Backbone, Source
from extractors.nets.eat import grid_positions
from extractors.nets.vit import VitSizes
from extractors.run import main
from extractors.weights.published import EAT
from tests.helpers.small_models import golden, noise_of, picked, write_eat

CPU = torch.device("cpu")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_eat(tmp_path / "eat.safetensors")


def loaded(path: Path) -> Backbone:
    return backbones.find("eat").load(Source(weights=path), CPU)


def as_training_code(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Under the names of the training code's files."""
    stem = "modality_encoders.IMAGE."
    plain = {name.removeprefix("model."): value for name, value in state.items()}
    plain = {name.replace("pre_norm", "context_encoder.norm"): value for name, value in plain.items()}
    return {name if name.startswith("blocks") else stem + name: value for name, value in plain.items()}


@pytest.mark.parametrize("seconds", [6.24, 10.0, 18.0])
def test_all_layers_are_the_publishers(seconds: float, path: Path) -> None:
    with torch.inference_mode():
        found = loaded(path).features(noise_of(seconds), [1, 2])
    for features, expected in zip(found, golden("eat", str(seconds)), strict=True):
        assert features.native is not None
        assert features.frames.shape[2:] == (8, 64)
        ours = picked(features.frames) + picked(features.native)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4)


def test_layers_are_the_publishers_however_many_there_are(tmp_path: Path) -> None:
    """24 blocks, as EAT large has, and more heads than one: every eighth layer."""
    backbone = loaded(write_eat(tmp_path / "deep.safetensors", VitSizes(128, 24, 2)))
    assert backbone.spec.layers == tuple(range(1, 25))
    with torch.inference_mode():
        found = backbone.features(noise_of(10.0), [8, 16, 24])
    for features, expected in zip(found, golden("eat", "10.0 of 24 layers"), strict=True):
        assert features.native is not None
        ours = picked(features.frames) + picked(features.native)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4)


def test_files_of_the_training_code_are_the_same(path: Path, tmp_path: Path) -> None:
    state = as_training_code(load_file(path))
    state["decoder.proj.weight"] = torch.zeros(2, 2)
    content: dict[str, Any] = {"cfg": {"model": {"num_heads": 1}}, "model": {**state, "_ema": state}}
    torch.save(content, tmp_path / "eat.pt")
    waveform = noise_of(1.0)
    with torch.inference_mode():
        pairs = [loaded(file).features(waveform, [2, 1]) for file in (path, tmp_path / "eat.pt")]
    for one, other in zip(*pairs, strict=True):
        assert torch.equal(one.frames, other.frames)
    content["cfg"]["model"]["num_heads"] = 4
    torch.save(content, tmp_path / "four.pt")
    with torch.inference_mode():
        four = loaded(tmp_path / "four.pt").features(waveform, [2])[0]
    assert not torch.allclose(four.frames, pairs[0][0].frames)


def test_a_clip_is_heard_to_its_end(path: Path) -> None:
    backbone = loaded(path)
    with torch.inference_mode():
        frames = [backbone.features(noise_of(1.0)[:, :n], [2])[0].frames for n in (400, 2800, 2960)]
    # 1, 16 and 17 frames of the filter bank, in patches of 16.
    assert [each.shape[1] for each in frames] == [1, 1, 2]


def test_positions_by_hand() -> None:
    # Row 2, column 1 of width 8: rates 1 and 1/100, the column's sines and cosines, then the row's.
    angles = np.array([1.0, 0.01, 2.0, 0.02])
    expected = [*np.sin(angles[:2]), *np.cos(angles[:2]), *np.sin(angles[2:]), *np.cos(angles[2:])]
    np.testing.assert_allclose(grid_positions(3, 4, 8)[0, 2 * 4 + 1], expected, atol=1e-7)


def test_bounded_values_by_hand() -> None:
    frames = torch.tensor([[-1.0, 0.05, 0.1, 0.5], [0.09, 0.3, 0.6, 2.0]])[None, :, None]
    bound = pooling.find("tanh+mean", {})(pooling.Features(frames), "merge")
    expected = [0, 0.15, (0.1 + np.tanh(0.6)) / 2, (0.5 + np.tanh(2)) / 2]
    np.testing.assert_allclose(bound.numpy(), [expected], rtol=1e-6)
    both = pooling.find("tanh+gem:p=2", {})
    assert both.name == "tanh+gem:2"
    assert both(pooling.Features(frames), "merge")[0, 0] == 0
    assert pooling.find("tanh+rdp-frames", {}).whole


def test_a_models_own_embedding_cannot_be_bounded() -> None:
    with pytest.raises(AsdError, match="native: a model's own embedding has no frames to bound"):
        pooling.find("tanh+native", {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.extra": torch.zeros(1)}, "unexpected: extra"),
        ({"model.blocks.1.mlp.fc1.bias": torch.zeros(3)}, "of another shape: blocks.1.mlp.fc1.bias"),
        ({"model.blocks.7.mlp.fc1.bias": torch.zeros(3)}, "missing: blocks.2"),
        ({"model.fixed_positional_encoder.positions": torch.zeros(1, 12, 64)}, r"positions are \(1, 12, 64"),
        ({"model.blocks.0.attn.proj.weight": torch.zeros(100, 64)}, "of another shape"),
    ],
)
def test_files_that_do_not_fit(
    path: Path, tmp_path: Path, change: dict[str, torch.Tensor], message: str
) -> None:
    save_file(load_file(path) | change, tmp_path / "other.safetensors")
    with pytest.raises(AsdError, match=message):
        loaded(tmp_path / "other.safetensors")


def test_other_files_and_heads_that_cannot_be(path: Path, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(AsdError, match="has no blocks of a transformer: it holds a"):
        loaded(tmp_path / "other.safetensors")
    state = as_training_code(load_file(path))
    torch.save({"cfg": {"model": {"num_heads": 7}}, "model": state}, tmp_path / "eat.pt")
    with pytest.raises(AsdError, match="7 heads do not divide tokens of 64"):
        loaded(tmp_path / "eat.pt")
    with pytest.raises(AsdError, match="is no eat:large: it has 2 blocks of 64 values"):
        backbones.find("eat").load(Source("large", weights=path), CPU)


def test_without_weights_the_licence_is_shown(
    root: Path, tmp_path: Path, error_of: Callable[..., str]
) -> None:
    command = ["--data", root, "--backbone", "eat:sslam", "--cache-dir", tmp_path / "a"]
    said = error_of(main, *command)
    assert "eat needs SSLAM_pretrain.safetensors (MIT), and offline nothing is fetched: bring it" in said
    assert "https://huggingface.co/ta012/SSLAM_pretrain/resolve/main/model.safetensors" in said
    command[3] = "eat:huge"
    assert "eat has no variant 'huge'; it has base, base-finetuned, large" in error_of(main, *command)
    assert len({checkpoint.file for checkpoint in EAT}) == len(EAT)
