"""Every backbone: what is trained, what a file brings back, what low-rank adapters merge to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cache.base.errors import AsdError
from extractors.backbone import Source, Tunable
from extractors.embedding import finetuned as tuned
from finetune.loop.model_file import Maker, load_tunable
from finetune.model.scope import SCOPES
from tests.conftest import write_root
from tests.helpers.tuning import CPU, TRAINED, make, settings_of, source_of, waveforms_of


@pytest.fixture(scope="module")
def small_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_root(tmp_path_factory.mktemp("data") / "root", source=3, target=2)


def waveform(backbone: Tunable, count: int = 2) -> torch.Tensor:
    samples = max(backbone.spec.min_samples, backbone.spec.sample_rate // 2)
    return 0.1 * torch.randn(count, samples, generator=torch.Generator().manual_seed(1))


def top_frames(backbone: Any, waveforms: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return backbone.features(waveforms, [backbone.spec.layers[-1]])[0].frames


@pytest.mark.parametrize("name", TRAINED)
def test_a_file_brings_back_what_was_in_memory(
    name: str, small_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learners: list[Any] = []
    write = tuned.write

    def spied(path: Path, backbone: Any, embedding: Any, pooling: Any, training: Any) -> None:
        learners.append((backbone, embedding, pooling))
        write(path, backbone, embedding, pooling, training)

    monkeypatch.setattr(tuned, "write", spied)
    settings = settings_of(name, source_of(name, tmp_path))
    path = make(small_root, settings, tmp_path / "tuned.safetensors")
    backbone, embedding, pooling = learners[0]
    waveforms = waveform(backbone)
    with torch.inference_mode():
        inside = backbone.features(waveforms, [embedding.layer])[0]
        expected = pooling(inside.frames)
    loaded = tuned.load_any(name, Source(weights=path), CPU)
    with torch.inference_mode():
        found = loaded.features(waveforms, [loaded.spec.layer])[0]
    torch.testing.assert_close(found.frames, inside.frames, rtol=1e-5, atol=1e-6)
    assert found.native is not None
    torch.testing.assert_close(found.native, expected, rtol=1e-5, atol=1e-6)
    assert found.frames.shape[2:] == (loaded.spec.bands, loaded.spec.dim)
    assert loaded.spec.native == tuple(sorted({*backbone.spec.native, embedding.layer}))


@pytest.mark.parametrize("name", TRAINED)
def test_training_changes_the_network_and_nothing_above_the_layer(
    name: str, small_root: Path, tmp_path: Path
) -> None:
    source = source_of(name, tmp_path)
    before = load_tunable(settings_of(name, source), 0, CPU)
    layer = before.spec.layers[-2]
    state = {n: v.clone() for n, v in before.trainable.network.state_dict().items()}
    settings = settings_of(name, source, layer=layer)
    path = make(small_root, settings, tmp_path / "tuned.safetensors")
    after: Any = tuned.load_any(name, Source(weights=path), CPU)
    trained = after.backbone.trainable.network.state_dict()
    below = tuple(b for block in before.trainable.blocks[: layer + 1] for b in block)
    moved = {n for n, value in trained.items() if not torch.equal(value, state[n])}
    assert moved
    assert all(n.startswith(below) for n in moved)


@pytest.mark.parametrize("name", [*TRAINED, "panns:Cnn10"])
def test_merged_adapters_equal_applied_ones(name: str, tmp_path: Path) -> None:
    name, _, variant = name.partition(":")  # Cnn10's wide convolutions are Winograd's on a CPU
    source = Source(variant, seed=0) if variant else source_of(name, tmp_path)
    backbone = load_tunable(settings_of(name, source), 0, CPU)
    waveforms = waveform(backbone)
    untouched = top_frames(backbone, waveforms)
    names = set(backbone.trainable.network.state_dict())
    opened = SCOPES.parse("lora:rank=2").open(backbone.trainable, backbone.spec.layers[-1])
    torch.testing.assert_close(top_frames(backbone, waveforms), untouched, rtol=1e-5, atol=1e-5)
    generator = torch.Generator().manual_seed(0)
    for parameter in [p for block in opened.parameters for p in block]:
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    applied = top_frames(backbone, waveforms)
    assert (applied - untouched).abs().max() > 0.01 * untouched.abs().max()
    opened.close()
    merged = top_frames(backbone, waveforms)
    torch.testing.assert_close(merged, applied, rtol=1e-5, atol=1e-5 * float(applied.abs().max()))
    assert set(backbone.trainable.network.state_dict()) == names


@pytest.mark.parametrize("name", TRAINED)
def test_blocks_divide_the_parameters(name: str, tmp_path: Path) -> None:
    backbone = load_tunable(settings_of(name, source_of(name, tmp_path)), 0, CPU)
    trainable = backbone.trainable
    assert len(trainable.blocks) == backbone.spec.layers[-1] + 1
    for parameter, _ in trainable.network.named_parameters():
        homes = [k for k, block in enumerate(trainable.blocks) if parameter.startswith(block)]
        assert len(homes) == 1, parameter


@pytest.mark.parametrize("name", TRAINED)
def test_the_last_blocks_alone_get_gradients(name: str, tmp_path: Path) -> None:
    backbone = load_tunable(settings_of(name, source_of(name, tmp_path)), 0, CPU)
    layer = backbone.spec.layers[-1]
    SCOPES.parse("last:blocks=1").open(backbone.trainable, layer)
    features = backbone.states(backbone.inputs(waveform(backbone)), [layer])[0]
    features.frames.square().mean().backward()
    for parameter, value in backbone.trainable.network.named_parameters():
        wanted = parameter.startswith(backbone.trainable.blocks[layer])
        assert value.requires_grad == wanted, parameter
        # What only the model's own embedding needs has no gradient here.
        assert wanted or value.grad is None


def test_the_backbones_own_embedding_can_be_trained(small_root: Path, tmp_path: Path) -> None:
    settings = settings_of("panns", source_of("panns", tmp_path), embedding="own")
    path = make(small_root, settings, tmp_path / "own.safetensors")
    loaded = tuned.load_any("panns", Source(weights=path), CPU)
    assert loaded.spec.native == (4,)
    with torch.inference_mode():
        found = loaded.features(torch.zeros(1, 16_000), [4])[0]
    assert found.native is not None
    assert found.native.shape == (1, 512)


def test_a_fine_tuned_file_is_where_another_training_may_begin(small_root: Path, tmp_path: Path) -> None:
    first = settings_of("logmel", source_of("logmel", tmp_path))
    parent = make(small_root, first, tmp_path / "first.safetensors")
    second = settings_of("logmel", Source(weights=parent))
    child = make(small_root, second, tmp_path / "second.safetensors")
    record = tuned.record_of(child)["training"]
    assert record["parent"] == tuned.load("logmel", Source(weights=parent), CPU).spec.weights


def test_what_has_no_network_cannot_be_trained() -> None:
    with pytest.raises(AsdError, match="logmel has nothing to train; logmel:cnn is a small net"):
        load_tunable(settings_of("logmel", Source()), 0, CPU)


def test_adapters_that_join_nothing_are_told(tmp_path: Path) -> None:
    backbone = load_tunable(settings_of("beats", source_of("beats", tmp_path)), 0, CPU)
    with pytest.raises(AsdError, match="no module up to layer 1 is called nothing"):
        SCOPES.parse("lora:targets=nothing").open(backbone.trainable, 1)


def test_low_rank_training_leaves_the_rest_alone(small_root: Path, tmp_path: Path) -> None:
    source = source_of("beats", tmp_path)
    before = load_tunable(settings_of("beats", source), 0, CPU).trainable.network.state_dict()
    settings = settings_of("beats", source, scope="lora:rank=2")
    maker = Maker(settings, waveforms_of(small_root, settings, tmp_path), CPU)
    path = maker.make(tmp_path / "lora.safetensors", 0, lambda _: None).path
    after: Any = tuned.load_any("beats", Source(weights=path), CPU)
    for name, value in after.backbone.trainable.network.state_dict().items():
        same = torch.equal(value, before[name])
        assert same != ("in_proj.weight" in name), name
        if "in_proj.weight" in name:  # queries and values; the keys stay
            keys = slice(len(value) // 3, 2 * len(value) // 3)
            np.testing.assert_array_equal(value[keys], before[name][keys])
