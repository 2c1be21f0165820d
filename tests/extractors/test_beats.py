"""BEATs: the numbers of an independent implementation; files that are not what they should be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import beats_peer
from cache.base.errors import AsdError
from cache.files.atomic import file_sha256
from extractors import backbones
from extractors.backbone import Backbone, ModelFile, Source
from extractors.nets.beats import position_buckets
from extractors.run import main
from tests.helpers.small_models import write_beats

CPU = torch.device("cpu")
SMALL = {
    **beats_peer.PUBLISHED,
    "conv_pos": 16,
    "conv_pos_groups": 4,
    "embed_dim": 16,
    "encoder_attention_heads": 4,
    "encoder_embed_dim": 32,
    "encoder_ffn_embed_dim": 64,
    "encoder_layers": 3,
}


def loaded(model: Any, path: Path) -> Backbone:
    return backbones.find("beats").load(Source(weights=beats_peer.save(model, path)), CPU)


def assert_equal_layers(backbone: Backbone, model: Any, waveforms: torch.Tensor) -> None:
    with torch.inference_mode():
        expected = beats_peer.tokens(model, waveforms)
        found = backbone.features(waveforms, backbone.spec.layers)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.frames.flatten(1, 2), theirs, rtol=0, atol=1e-4)


def noise(clips: int, seconds: float) -> torch.Tensor:
    return torch.randn(clips, int(seconds * 16_000), generator=torch.Generator().manual_seed(1)) / 9


def test_all_twelve_layers_at_full_size(tmp_path: Path) -> None:
    model = beats_peer.build({**beats_peer.PUBLISHED, "finetuned_model": True})
    backbone = loaded(model, tmp_path / "beats.pt")
    assert backbone.spec.weights == file_sha256(tmp_path / "beats.pt")
    assert_equal_layers(backbone, model, noise(1, 6.24))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"deep_norm": False},
        {"deep_norm": False, "layer_norm_first": True},
        {"gru_rel_pos": False},
        {"relative_position_embedding": False, "gru_rel_pos": False},
        {"conv_bias": True},
        {"input_patch_size": 32},
        {"activation_fn": "relu"},
        {"embed_dim": 32},
        {"max_distance": 60, "num_buckets": 32},
    ],
    ids=str,
)
def test_every_configuration(changes: dict[str, object], tmp_path: Path) -> None:
    model = beats_peer.build(SMALL | changes)
    backbone = loaded(model, tmp_path / "beats.pt")
    for seconds in (2.0,) if changes else (2.0, 6.24, 10.0, 18.0):
        assert_equal_layers(backbone, model, noise(2, seconds))


def test_lower_layers_are_the_same_whatever_else_is_asked_for(tmp_path: Path) -> None:
    path = write_beats(tmp_path / "beats.pt", encoder_layers=4)
    backbone = backbones.find("beats").load(Source(weights=path), CPU)
    with torch.inference_mode():
        alone = backbone.features(noise(1, 1.0), [2])[0].frames
        last, second = backbone.features(noise(1, 1.0), [4, 2])
    assert torch.equal(alone, second.frames)
    assert not torch.equal(last.frames, alone)
    assert alone.shape == (1, 6, 8, 32)  # 98 frames and 128 bands in patches of 16


def test_layers_above_the_highest_are_not_computed(tmp_path: Path) -> None:
    path = write_beats(tmp_path / "beats.pt", encoder_layers=4)
    backbone: Any = backbones.find("beats").load(Source(weights=path), CPU)
    calls: list[int] = []
    for number, layer in enumerate(backbone.network.encoder.layers, start=1):
        layer.register_forward_hook(lambda *_, number=number: calls.append(number))
    backbone.features(noise(1, 1.0), [2])
    assert calls == [1, 2]


def test_buckets_by_hand() -> None:
    # 8 buckets, 4 a direction: distances 0 and 1 are exact, then floor(2 + 2 ln(d/2) / ln(8/2)).
    found = position_buckets(10, 8, 8).tolist()
    behind = [3, 3, 3, 3, 3, 3, 2, 2, 1]  # of distances 9 to 1; 4 is the first in the last bucket
    assert found == [*behind, 0, *(4 + bucket for bucket in reversed(behind))]


def test_random_parameters_are_the_same_for_a_seed() -> None:
    one, two = (backbones.find("beats").load(Source(seed=3), CPU) for _ in range(2))
    with torch.inference_mode():
        first, second = (model.features(noise(1, 0.5), [2])[0].frames for model in (one, two))
    assert torch.equal(first, second)
    assert one.spec.weights == "random"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_layers": 10**9}, "encoder_layers is 1000000000, its tensors have 2"),
        ({"encoder_ffn_embed_dim": 2**40}, "encoder_ffn_embed_dim is 1099511627776"),
        ({"embed_dim": 0}, "embed_dim is 0, its tensors have 16"),
        ({"conv_pos": 10**9}, "kernel 1000000000"),
        ({"encoder_attention_heads": 5}, "5 heads"),
        ({"encoder_attention_heads": -4}, "-4 heads"),
        ({"num_buckets": 10**9}, "1000000000 buckets"),
        ({"max_distance": 1}, "max_distance"),
        ({"activation_fn": "glu"}, "activation 'glu'"),
        ({"deep_norm": "yes"}, "cfg deep_norm is 'yes', expected bool"),
        ({"encoder_layers": 2.0}, "cfg encoder_layers is 2.0, expected int"),
    ],
)
def test_a_cfg_that_lies_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = write_beats(tmp_path / "beats.pt")
    content = torch.load(path, weights_only=True)
    content["cfg"] |= change
    torch.save(content, path)
    with pytest.raises(AsdError, match=message):
        backbones.find("beats").load(Source(weights=path), CPU)


def test_keys_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = write_beats(tmp_path / "beats.pt")
    content = torch.load(path, weights_only=True)
    model = content["model"]
    del model["encoder.layers.1.fc2.bias"]
    model["encoder.extra"] = torch.zeros(1)
    model["layer_norm.weight"] = torch.zeros(3)
    del model["encoder.layers.0.self_attn.k_proj.bias"]
    torch.save(content, path)
    with pytest.raises(AsdError) as caught:
        backbones.find("beats").load(Source(weights=path), CPU)
    for part in (
        "missing: encoder.layers.1.fc2.bias",
        "unexpected: encoder.extra",
        "encoder.layers.0.self_attn.in_proj.bias",
        "layer_norm.weight",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {"fc1.weight": torch.zeros(2, 2)}}, "holds ['model'] where 'cfg' and 'model'"),
        ([torch.zeros(1)], "holds list where"),
        ({"cfg": [1], "model": {}}, "its cfg is a list"),
        ({"cfg": {}, "model": {"a": 1}}, "where a mapping of names to tensors"),
        ({"cfg": {}, "model": {}}, "its tensors have None"),
    ],
)
def test_other_files(
    root: Path,
    tmp_path: Path,
    error_of: Callable[..., str],
    content: object,
    message: str,
) -> None:
    path = tmp_path / "other.pth"
    torch.save(content, path)
    command = ["--data", root, "--backbone", "beats", "--cache-dir", tmp_path / "a"]
    assert message in error_of(main, *command, "--weights", path)


def test_openbeats_files_state_their_own_filter_bank(tmp_path: Path) -> None:
    content = torch.load(write_beats(tmp_path / "beats.pt"), weights_only=True)
    plain: Any = backbones.find("beats").load(Source(weights=tmp_path / "beats.pt"), CPU)
    content["cfg"] |= {"fbank_mean": 11.72215, "fbank_std": 10.60431, "codebook_vocab_size": 1024}
    content["model"] |= {"patch_embedding_pad.weight": torch.ones(1, 1, 16, 16)}
    torch.save(content, tmp_path / "open.pt")
    found: Any = backbones.find("beats").load(Source(weights=tmp_path / "open.pt"), CPU)
    theirs, ours = (each.inputs(noise(1, 1.0)).values for each in (plain, found))
    bank = theirs * 2 * 6.55582 + 15.41663
    torch.testing.assert_close(ours, (bank - 11.72215) / (2 * 10.60431), rtol=0, atol=1e-5)
    assert dict(found.spec.settings)["fbank_mean"] == 11.72215
    assert "fbank_mean" not in dict(plain.spec.settings)
    kept = ModelFile(tmp_path / "kept", "0", found.blueprint, found.network.state_dict())
    again: Any = backbones.find("beats").rebuild(kept, CPU)
    assert torch.equal(again.inputs(noise(1, 1.0)).values, ours)
    content["cfg"]["fbank_std"] = 0.0
    torch.save(content, tmp_path / "bad.pt")
    with pytest.raises(AsdError, match="cfg has a filter bank of mean 11.72215, deviation 0.0"):
        backbones.find("beats").load(Source(weights=tmp_path / "bad.pt"), CPU)


def test_without_weights_the_file_is_named(root: Path, tmp_path: Path, error_of: Callable[..., str]) -> None:
    command = ["--data", root, "--backbone", "beats", "--cache-dir", tmp_path / "a"]
    said = error_of(main, *command)
    assert "beats needs BEATs_iter3.pt (361 MB, MIT), and offline nothing is fetched: bring" in said
    command[3] = "beats:large"
    assert "beats has no variants ('large')" in error_of(main, *command)


def test_half_precision_weights_are_read_as_float32(tmp_path: Path) -> None:
    path = write_beats(tmp_path / "beats.pt")
    content = torch.load(path, weights_only=True)
    content["model"] = {name: value.half() for name, value in content["model"].items()}
    torch.save(content, tmp_path / "half.pt")
    frames = []
    for file in (path, tmp_path / "half.pt"):
        backbone = backbones.find("beats").load(Source(weights=file), CPU)
        with torch.inference_mode():
            frames.append(backbone.features(noise(1, 1.0), [2])[0].frames.numpy())
    assert frames[1].dtype == np.float32
    np.testing.assert_allclose(frames[1], frames[0], atol=2e-2)
