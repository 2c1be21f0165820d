"""AST: equal to transformers' own pipeline from the waveform on, and nothing but AST taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cache.base.errors import AsdError
from cache.files.atomic import file_sha256
from cache.store import Store
from extractors import backbones
from extractors.audio.decode import read_audio
from extractors.backbone import Backbone, Source
from extractors.backbones.ast_ import Spectrogram, load
from extractors.device import transformers
from extractors.nets.encoders import patches
from extractors.run import main
from tests.helpers.hub_models import write_ast

CPU = torch.device("cpu")
MEAN, STD = -4.2677393, 4.5689974
SECONDS = [2, 6.24, 10]


def noise(seconds: float, clips: int = 1) -> torch.Tensor:
    return torch.randn(clips, int(seconds * 16_000), generator=torch.Generator().manual_seed(1)) / 9


def official(model: Any, extractor: Any, waveforms: torch.Tensor) -> Any:
    """Transformers' pipeline: its extractor and its model, clip by clip with plain attention."""
    clips = list(waveforms.numpy())
    inputs = extractor(clips, sampling_rate=16_000, return_tensors="pt")["input_values"]
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        return model(inputs, output_hidden_states=True)


def sounds() -> dict[str, np.ndarray]:
    time = np.arange(50_000, dtype=np.float32) / 16_000
    return {
        "noise": noise(3)[0].numpy(),
        "tone": 0.5 * np.sin(2 * np.pi * 440 * time, dtype=np.float32),
        "silence": np.zeros(30_000, np.float32),
        "shortest": noise(0.025)[0].numpy(),
        "longest": noise(164_239 / 16_000)[0].numpy(),
    }


@pytest.mark.parametrize("kind", list(sounds()))
def test_the_front_end_is_the_official_extractors(kind: str) -> None:
    wave = sounds()[kind]
    extractor = transformers().ASTFeatureExtractor()
    expected = extractor(wave, sampling_rate=16_000, return_tensors="pt")["input_values"]
    ours = Spectrogram(1024, MEAN, STD)(torch.from_numpy(wave)[None])
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def test_the_front_end_on_recordings(real_data: Path) -> None:
    extractor = transformers().ASTFeatureExtractor()
    for path in sorted(real_data.glob("dev_data/*/test/*.wav"))[::100]:
        wave = read_audio(path, 16_000).samples
        expected = extractor(wave, sampling_rate=16_000, return_tensors="pt")["input_values"]
        ours = Spectrogram(1024, MEAN, STD)(torch.from_numpy(wave)[None])
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Full depth and length, slender."""
    folder = tmp_path_factory.mktemp("models") / "deep"
    return write_ast(folder, frames=1024, num_hidden_layers=12, hidden_size=48)


@pytest.mark.parametrize("seconds", SECONDS)
def test_every_layer_is_transformers(deep: Path, seconds: float) -> None:
    kinds, waveforms = transformers(), noise(seconds)
    model = kinds.ASTModel.from_pretrained(deep).eval()
    output = official(model, kinds.ASTFeatureExtractor.from_pretrained(deep), waveforms)
    backbone = load(Source(weights=deep), CPU)
    with torch.inference_mode():
        every = backbone.features(waveforms, range(1, 13))
    for layer, features in enumerate(every, 1):
        state = output.hidden_states[layer] if layer < 12 else output.last_hidden_state
        grid = state[:, 2:].reshape(1, 12, 101, 48).transpose(1, 2)
        torch.testing.assert_close(features.frames, grid, rtol=0, atol=1e-4)
        torch.testing.assert_close(features.native, state[:, :2].mean(1), rtol=0, atol=1e-4)
    torch.testing.assert_close(every[-1].native, output.pooler_output, rtol=0, atol=1e-4)


def test_random_parameters_have_the_full_size_and_fit_transformers() -> None:
    backbone, kinds = load(Source(seed=3), CPU), transformers()
    assert (backbone.spec.weights, backbone.spec.dim, backbone.spec.bands) == ("random", 768, 12)
    assert backbone.spec.max_samples == 164_239
    waveforms = noise(6.24)
    with torch.inference_mode():
        features = backbone.features(waveforms, [2])[0]
    assert features.frames.shape == (1, 101, 12, 768)
    backbone.network.layers = backbone.network.layers[:3]  # the rest takes its time
    output = official(backbone.network, kinds.ASTFeatureExtractor(), waveforms)
    expected = output.hidden_states[2][:, 2:].reshape(1, 12, 101, 768).transpose(1, 2)
    torch.testing.assert_close(features.frames, expected, rtol=0, atol=1e-4)


def test_a_patch_lies_where_its_sound_is(deep: Path) -> None:
    embeddings = load(Source(weights=deep), CPU).network.embeddings
    silence = torch.zeros(1, 1024, 128)
    click = silence.clone()
    click[0, 105, 42] = 1  # patch t holds frames 10 t to 10 t + 15, patch f bins 10 f to 10 f + 15
    with torch.inference_mode():
        moved = (embeddings(click) - embeddings(silence)).abs().sum(-1, keepdim=True)
    where = patches(moved, 12)[0, :, :, 0].nonzero().tolist()
    assert where == [[9, 3], [9, 4], [10, 3], [10, 4]]


def test_nothing_above_the_highest_layer_is_computed(tmp_path: Path) -> None:
    backbone, called = load(Source(weights=write_ast(tmp_path / "m")), CPU), list[int]()
    for number, layer in enumerate(backbone.network.layers, 1):
        layer.register_forward_hook(lambda *_, number=number: called.append(number))
    with torch.inference_mode():
        alone = backbone.features(noise(1), [1])[0]
        assert called == [1]
        among = backbone.features(noise(1), [3, 1])[1]
    assert called == [1, 1, 2, 3]
    assert torch.equal(alone.frames, among.frames)


def test_another_geometry_is_honoured(tmp_path: Path) -> None:
    folder, kinds = (
        write_ast(tmp_path / "m", frequency_stride=16, time_stride=14),
        (transformers()),
    )
    extractor = kinds.ASTFeatureExtractor(max_length=256, mean=1.5, std=2.5)
    extractor.save_pretrained(folder)
    backbone = load(Source(variant=str(folder)), CPU)
    assert (backbone.spec.bands, backbone.spec.max_samples) == (8, 256 * 160 + 399)
    assert dict(backbone.spec.settings)["time_stride"] == 14
    waveforms = noise(2)
    with torch.inference_mode():
        frames = backbone.features(waveforms, [3])[0].frames
    state = official(kinds.ASTModel.from_pretrained(folder), extractor, waveforms).last_hidden_state
    expected = state[:, 2:].reshape(1, 8, 18, 32).transpose(1, 2)
    torch.testing.assert_close(frames, expected, rtol=0, atol=1e-4)
    kinds.ASTFeatureExtractor(max_length=256, do_normalize=False).save_pretrained(folder)
    plain = load(Source(variant=str(folder)), CPU)
    with torch.inference_mode():
        assert not torch.allclose(plain.features(waveforms, [3])[0].frames, frames, atol=1e-2)


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("preprocessor_config.json", {"sampling_rate": 8000}, "sampling_rate is 8000"),
        ("preprocessor_config.json", {"num_mel_bins": 64}, "num_mel_bins is 64, and only 128"),
        ("preprocessor_config.json", {"max_length": 99}, "max_length is 99, and only 256"),
        ("config.json", {"model_type": "bert"}, "is a bert, no AST"),
        ("config.json", {"hidden_size": 64}, "of another shape: embeddings.cls_token"),
        ("config.json", {"num_hidden_layers": 4}, "missing: layers.3."),
        ("config.json", {"num_hidden_layers": 2}, "unexpected: audio_spectrogram_transformer"),
        ("config.json", {"hidden_act": "what"}, "cannot be loaded"),
    ],
)
def test_configurations_that_do_not_fit(
    tmp_path: Path, file: str, changes: dict[str, object], said: str
) -> None:
    folder = write_ast(tmp_path / "m")
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(content | changes))
    with pytest.raises(AsdError) as caught:
        load(Source(weights=folder), CPU)
    assert said in str(caught.value)
    assert str(folder) in str(caught.value)


def test_keys_that_do_not_fit_are_named(tmp_path: Path) -> None:
    file = write_ast(tmp_path / "m") / "model.safetensors"
    state, layer = load_file(file), "audio_spectrogram_transformer.encoder.layer"
    del state[f"{layer}.1.intermediate.dense.bias"]
    state[f"{layer}.2.output.dense.weight"] = torch.zeros(3, 3)
    state["decoder.weight"] = torch.zeros(1)
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(AsdError) as caught:
        load(Source(weights=file.parent), CPU)
    for part in (
        "missing: layers.1.mlp.fc1.bias",
        "unexpected: decoder.weight",
        "of another shape: layers.2.mlp.fc2.weight",
    ):
        assert part in str(caught.value)


def test_files_that_are_no_model(tmp_path: Path) -> None:
    folder = write_ast(tmp_path / "m")
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AsdError, match="cannot be loaded"):
        load(Source(weights=folder), CPU)
    file.unlink()
    torch.save({"a": torch.zeros(1)}, folder / "pytorch_model.bin")
    with pytest.raises(AsdError, match=r"has no model.safetensors; .* are not opened"):
        load(Source(weights=folder), CPU)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(AsdError, match=r"has no preprocessor_config.json; a folder that holds"):
        load(Source(weights=folder), CPU)
    with pytest.raises(AsdError, match=r"has no config.json"):
        load(Source(weights=tmp_path / "nothing"), CPU)
    with pytest.raises(AsdError, match="is named twice"):
        load(Source(weights=folder, variant="a/b"), CPU)


def test_from_the_command_line(root: Path, tmp_path: Path, error_of: Callable[..., str]) -> None:
    folder = write_ast(tmp_path / "m", frames=64)  # 0.66 s
    command = ["--data", str(root), "--backbone", "ast", "--weights", str(folder)]
    where = ["--cache-dir", str(tmp_path / "a")]
    assert main([*command, *where, "--layers", "2", "--pooling", "mean", "native"]) == 0
    recipes = Store(tmp_path / "a").recipes()
    assert {recipe.pooling for recipe in recipes} == {"mean", "native"}
    for recipe in recipes:
        assert recipe.weights == file_sha256(folder / "model.safetensors")
        assert str(tmp_path) not in recipe.canonical
    missing = ["--data", root, "--backbone", "ast", "--weights", tmp_path / "no", *where]
    assert "has no config.json" in error_of(main, *missing)


def test_the_contract_holds_under_autocast(tmp_path: Path) -> None:
    backbone: Backbone = backbones.find("ast").load(Source(weights=write_ast(tmp_path / "m")), CPU)
    with torch.inference_mode():
        exact = backbone.features(noise(2), [3])[0].frames.mean((1, 2))
        with torch.autocast("cpu", torch.bfloat16):
            rough = backbone.features(noise(2), [3])[0].frames.float().mean((1, 2))
    assert torch.cosine_similarity(exact, rough).min() > 0.99
