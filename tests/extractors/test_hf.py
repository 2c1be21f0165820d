"""Audio encoders of transformers: the same numbers as running the model, and nothing else taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cache.base.errors import AsdError
from cache.store import Store
from extractors.backbone import Source
from extractors.backbones.ast_ import load as load_ast
from extractors.backbones.hf import load
from extractors.device import transformers
from extractors.run import main
from tests.helpers.hub_models import write_ast, write_clap, write_pe_audio, write_wave, write_whisper

CPU = torch.device("cpu")
WAVES: dict[str, Callable[[Path], Path]] = {
    "wav2vec2": lambda folder: write_wave(folder, "Wav2Vec2"),
    "wav2vec2, layer norm first": lambda folder: write_wave(
        folder, "Wav2Vec2", do_stable_layer_norm=True, feat_extract_norm="layer"
    ),
    "hubert": lambda folder: write_wave(folder, "Hubert"),
    "wavlm": lambda folder: write_wave(folder, "WavLM"),
    "data2vec": lambda folder: write_wave(folder, "Data2VecAudio", conv_pos_kernel_size=5),
    "7 layers": lambda folder: write_wave(folder, "Wav2Vec2", num_hidden_layers=7),
}


def clips(count: int, samples: int) -> torch.Tensor:
    loud = torch.linspace(0.02, 0.5, count)[:, None]
    return loud * torch.randn(count, samples, generator=torch.Generator().manual_seed(1))


def direct(folder: Path, waveforms: torch.Tensor) -> tuple[Any, Any, Any]:
    """The extractor's output, the model, and its extractor, as transformers' users load them."""
    kinds = transformers()
    extractor = kinds.AutoFeatureExtractor.from_pretrained(folder)
    inputs = extractor(list(waveforms.numpy()), sampling_rate=extractor.sampling_rate, return_tensors="pt")
    return inputs, kinds.AutoModel.from_pretrained(folder).eval(), extractor


@pytest.mark.filterwarnings("ignore:Support for mismatched")  # of WavLM with a mask of ones
@pytest.mark.parametrize("kind", list(WAVES))
def test_models_on_waveforms(kind: str, tmp_path: Path) -> None:
    folder, waveforms = WAVES[kind](tmp_path / "m"), clips(3, 9000)
    inputs, model, _ = direct(folder, waveforms)
    backbone = load(Source(variant=str(folder)), CPU)
    with torch.inference_mode():
        output = model(**inputs, output_hidden_states=True)
        every = backbone.features(waveforms, backbone.spec.layers)
    states = [*output.hidden_states[:-1], output.last_hidden_state]
    assert len(every) == len(states) == model.config.num_hidden_layers + 1
    for features, state in zip(every, states, strict=True):
        torch.testing.assert_close(features.frames, state[:, :, None], rtol=0, atol=1e-5)
        assert features.native is None
    assert backbone.spec.max_samples == 60 * 16_000
    assert backbone.spec.min_samples == 400  # span of the seven convolutions


def test_attention_is_fused_where_the_architecture_has_it(tmp_path: Path) -> None:
    for kind, expected in (("Hubert", "sdpa"), ("WavLM", "eager")):
        network: Any = load(Source(variant=str(write_wave(tmp_path / kind, kind))), CPU).network
        assert network.config._attn_implementation == expected


def test_pe_audio_is_its_frames_without_the_class_token(tmp_path: Path) -> None:
    backbone = load(Source(variant=str(write_pe_audio(tmp_path / "pe"))), CPU)
    assert (backbone.spec.sample_rate, backbone.spec.native) == (48_000, (3,))
    clips = torch.randn(2, 48_000, generator=torch.Generator().manual_seed(0)) / 10  # 25 frames
    with torch.inference_mode():
        inputs = backbone.inputs(clips)
        assert (inputs.time, inputs.frequency) == (None, None)  # a waveform
        found = backbone.states(inputs, backbone.spec.layers)
        output = backbone.network(inputs.values, output_hidden_states=True)
    assert [tuple(features.frames.shape) for features in found] == [(2, 25, 1, 32)] * 4
    for features, state in zip(found[:-1], output.hidden_states[:-1], strict=True):
        torch.testing.assert_close(features.frames[:, :, 0], state[:, 1:])
    torch.testing.assert_close(found[-1].frames[:, :, 0], output.last_hidden_state)
    assert found[-1].native is not None
    torch.testing.assert_close(found[-1].native, output.pooler_output)


def test_whisper_is_its_encoder_without_the_padding(tmp_path: Path) -> None:
    folder, waveforms = write_whisper(tmp_path / "m"), clips(2, 17_000)
    inputs, model, _ = direct(folder, waveforms)
    backbone = load(Source(variant=str(folder)), CPU)
    assert inputs["input_features"].shape[-1] == 300  # 3 s
    with torch.inference_mode():
        output = model.encoder(**inputs, output_hidden_states=True)
        every = backbone.features(waveforms, backbone.spec.layers)
    states = [*output.hidden_states[:-1], output.last_hidden_state]
    for features, state in zip(every, states, strict=True):
        assert features.frames.shape[1] == 54  # 17,000 samples at 320 a frame, begun ones count
        torch.testing.assert_close(features.frames[:, :, 0], state[:, :54], rtol=0, atol=1e-5)
    assert backbone.spec.max_samples == 48_000
    assert not any("decoder" in name for name, _ in backbone.network.named_parameters())


@pytest.mark.parametrize("fusion", [False, True])
def test_clap_is_its_audio_tower(tmp_path: Path, fusion: bool) -> None:
    folder, waveforms = write_clap(tmp_path / "m", fusion=fusion), clips(2, 30_000)
    inputs, model, _ = direct(folder, waveforms)
    inputs["is_longer"] = torch.zeros(2, 1, dtype=torch.bool)  # neither is
    backbone = load(Source(variant=str(folder)), CPU)
    with torch.inference_mode():
        output = model.audio_model(**inputs, output_hidden_states=True)
        embeds = model.get_audio_features(**inputs).pooler_output
        every = backbone.features(waveforms, [0, 1, 2])
    top = output.last_hidden_state.permute(0, 3, 2, 1)
    torch.testing.assert_close(every[2].frames, top, rtol=0, atol=1e-5)
    torch.testing.assert_close(every[2].native, embeds, rtol=0, atol=1e-5)
    torch.testing.assert_close(every[2].frames.mean((1, 2)), output.pooler_output)
    for features, state in zip(every[:2], output.hidden_states, strict=False):
        folds = state.chunk(2, dim=2)  # (B, C, fold and band, time)
        frames = torch.cat([fold.permute(0, 3, 2, 1) for fold in folds], dim=1)
        torch.testing.assert_close(features.frames, frames, rtol=0, atol=1e-5)
    assert (backbone.spec.sample_rate, backbone.spec.max_samples) == (48_000, 48_000)
    assert not any("text" in name for name, _ in backbone.network.named_parameters())


def test_claps_time_runs_on_over_its_folds(tmp_path: Path) -> None:
    backbone = load(Source(variant=str(write_clap(tmp_path / "m"))), CPU)
    hum = 0.1 * torch.sin(torch.arange(48_000) / 8)[None]
    late = torch.where(torch.arange(48_000) < 36_000, hum, 3 * hum)
    with torch.inference_mode():
        (one,), (two,) = (backbone.features(wave, [0]) for wave in (hum, late))
    moved = (one.frames - two.frames).abs().sum((2, 3))[0]
    assert moved[26:].min() > 20 * moved[:22].max()  # 32 steps a second; the last quarter


def test_ast_is_the_backbone_of_that_name(tmp_path: Path) -> None:
    folder, waveforms = write_ast(tmp_path / "m"), clips(2, 20_000)
    backbone, other = load(Source(variant=str(folder)), CPU), load_ast(Source(weights=folder), CPU)
    with torch.inference_mode():
        pairs = zip(backbone.features(waveforms, [1, 3]), other.features(waveforms, [1, 3]), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours.frames, theirs.frames, rtol=0, atol=1e-5)
    assert backbone.spec.max_samples == other.spec.max_samples
    assert backbone.spec.native == (3,)


@pytest.mark.parametrize("write", [WAVES["wav2vec2"], write_whisper, write_clap])
def test_a_loud_neighbour_changes_nothing(write: Callable[[Path], Path], tmp_path: Path) -> None:
    backbone, waveforms = load(Source(variant=str(write(tmp_path / "m"))), CPU), clips(6, 12_000)
    with torch.inference_mode():
        together = backbone.features(waveforms, [backbone.spec.layer])[0].frames
        alone = [backbone.features(w[None], [backbone.spec.layer])[0].frames for w in waveforms]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_nothing_above_the_highest_layer_is_computed(tmp_path: Path) -> None:
    backbone, called = load(Source(variant=str(WAVES["hubert"](tmp_path / "m"))), CPU), list[int]()
    network: Any = backbone.network
    for number, layer in enumerate(network.encoder.layers, 1):
        layer.register_forward_hook(lambda *_, number=number: called.append(number))
    for highest in (0, 2, 3):
        called.clear()
        with torch.inference_mode():
            backbone.features(clips(1, 4000), [highest])
        assert called == [1, 2, 3][:highest]


def test_several_threads_ask_one_model_for_different_layers(tmp_path: Path) -> None:
    backbone = load(Source(variant=str(WAVES["hubert"](tmp_path / "m"))), CPU)
    waveforms = clips(24, 8000)

    def states(number: int) -> torch.Tensor:
        with torch.inference_mode():
            return backbone.features(waveforms[number, None], [number % 4])[0].frames

    one_by_one = [states(number) for number in range(24)]
    with ThreadPoolExecutor(4) as pool:
        for alone, among in zip(one_by_one, pool.map(states, range(24)), strict=True):
            torch.testing.assert_close(alone, among, rtol=0, atol=1e-5)


def test_a_head_is_left_out_and_gaps_are_refused(tmp_path: Path) -> None:
    kinds = transformers()
    folder = write_wave(tmp_path / "m", "Wav2Vec2")
    config = kinds.AutoConfig.from_pretrained(folder)
    kinds.Wav2Vec2ForCTC(config).save_pretrained(folder)
    file = folder / "model.safetensors"
    state = load_file(file)
    state.pop("wav2vec2.masked_spec_embed", None)  # as in models that never were masked
    assert any(name.startswith("lm_head") for name in state)
    save_file(state, file, metadata={"format": "pt"})
    load(Source(variant=str(folder)), CPU)
    del state["wav2vec2.encoder.layers.0.attention.k_proj.bias"]
    state["wav2vec2.encoder.layers.9.attention.k_proj.bias"] = torch.zeros(32)
    state["wav2vec2.encoder.layer_norm.bias"] = torch.zeros(3)
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(AsdError) as caught:
        load(Source(variant=str(folder)), CPU)
    for part in (
        "missing: encoder.layers.0.attention.k_proj.bias",
        "unexpected: wav2vec2.encoder.layers.9.attention.k_proj.bias",
        "of another shape: encoder.layer_norm.bias",
    ):
        assert part in str(caught.value)


def test_models_that_are_no_audio_encoders(tmp_path: Path) -> None:
    kinds = transformers()
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    bert = kinds.BertModel(kinds.BertConfig(**sizes, intermediate_size=32, vocab_size=30))
    bert.save_pretrained(tmp_path / "bert")
    with pytest.raises(AsdError, match="has no preprocessor_config.json"):
        load(Source(variant=str(tmp_path / "bert")), CPU)
    kinds.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "bert")
    with pytest.raises(AsdError, match="is a BertModel, which is no audio encoder"):
        load(Source(variant=str(tmp_path / "bert")), CPU)
    (tmp_path / "bert" / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "ViTImageProcessor"})
    )
    with pytest.raises(AsdError, match="cannot be loaded|is no audio model"):
        load(Source(variant=str(tmp_path / "bert")), CPU)
    with pytest.raises(AsdError, match="hf needs a model: --backbone hf:OWNER/NAME"):
        load(Source(), CPU)


def test_code_in_a_folder_is_not_run(tmp_path: Path) -> None:
    folder = write_wave(tmp_path / "m", "Hubert")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.C", "AutoModel": "evil.M"}
    (folder / "config.json").write_text(json.dumps(config))
    load(Source(variant=str(folder)), CPU)
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "evil"}))
    with pytest.raises(AsdError, match="cannot be loaded"):
        load(Source(variant=str(folder)), CPU)
    assert not (tmp_path / "ran").exists()


def test_random_parameters_need_no_weights(tmp_path: Path) -> None:
    folder = write_wave(tmp_path / "m", "WavLM")
    (folder / "model.safetensors").unlink()
    one, two, other = (load(Source(variant=str(folder), seed=s), CPU) for s in (1, 1, 2))
    assert one.spec.weights == "random"
    with torch.inference_mode():
        a, b, c = (m.features(clips(1, 4000), [3])[0].frames for m in (one, two, other))
    assert torch.equal(a, b)
    assert not torch.allclose(a, c, atol=1e-3)


def test_from_the_command_line(root: Path, tmp_path: Path) -> None:
    folder = write_whisper(tmp_path / "m")
    command = ["--data", str(root), "--backbone", "hf", "--weights", str(folder)]
    assert main([*command, "--layers", "0", "3", "--cache-dir", str(tmp_path / "a")]) == 0
    recipes = Store(tmp_path / "a").recipes()
    assert {recipe.layer for recipe in recipes} == {0, 3}
    for recipe in recipes:
        assert str(tmp_path) not in recipe.canonical
        assert len(str(dict(recipe.settings)["config"])) == 64
    assert np.isfinite([recipe.sample_rate for recipe in recipes]).all()
