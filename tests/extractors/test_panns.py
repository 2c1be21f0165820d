"""PANNs: equal to the original networks on the same weights, and whole without them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torchlibrosa.stft import LogmelFilterBank, Spectrogram

from benchmarks import panns_peer
from cache.base.errors import AsdError
from cache.files.atomic import file_sha256
from cache.store import Store
from cache.table import Section
from extractors import backbones
from extractors.backbone import Backbone, Source
from extractors.nets.cnn14 import Cnn, Winograd
from extractors.nets.melspectrogram import CentredLogMel, slaney_filters
from extractors.run import main
from extractors.weights.published import PANNS
from tests.extractors.test_loading import Payload

CPU = torch.device("cpu")
State = dict[str, Tensor]


def load(source: Source) -> Backbone:
    return backbones.find("panns").load(source, CPU)


def noise(clips: int, samples: int) -> Tensor:
    return torch.randn(clips, samples, generator=torch.Generator().manual_seed(0)) / 10


def input_state(n_fft: int = 1024, rate: int = 32_000, top: int = 14_000) -> State:
    """The transform and the filters of a published file, by the library that made them."""
    transform = Spectrogram(n_fft=n_fft, hop_length=320)
    filters = LogmelFilterBank(sr=rate, n_fft=n_fft, n_mels=64, fmin=50, fmax=top)
    return {f"spectrogram_extractor.{k}": v for k, v in transform.state_dict().items()} | {
        f"logmel_extractor.{k}": v for k, v in filters.state_dict().items()
    }


def small_state(kernel: int) -> State:
    """Cnn6 or Cnn10 in the layout of the published files."""
    torch.manual_seed(0)
    network = panns_peer.randomise(Cnn((64, 128, 256, 512), kernel))
    classifier = {"fc_audioset.weight": torch.zeros(527, 512), "fc_audioset.bias": torch.zeros(527)}
    return input_state() | network.state_dict() | classifier


@pytest.fixture
def cnn6(tmp_path: Path) -> Path:
    torch.save({"iteration": 1, "model": small_state(5)}, tmp_path / "cnn6.pth")
    return tmp_path / "cnn6.pth"


@pytest.fixture(scope="module", params=[16_000, 32_000])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Backbone, torch.nn.Module]:
    """Ours and the original Cnn14 of one sample rate, with the same weights."""
    original = panns_peer.build(request.param)
    path = tmp_path_factory.mktemp("panns") / "cnn14.pth"
    torch.save({"model": original.state_dict()}, path)
    ours = load(Source(weights=path))
    path.unlink()  # 0.3 GB
    return ours, original


@pytest.mark.parametrize("frames", [32, 63, 100])
def test_cnn14s_embedding_and_maps_are_the_originals(
    pair: tuple[Backbone, torch.nn.Module], frames: int
) -> None:
    ours, original = pair
    hop = ours.spec.sample_rate // 100
    waveforms = noise(2, (frames - 1) * hop + 7)
    seen: list[Tensor] = []
    block = original.get_submodule("conv_block3")
    hook = block.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.inference_mode():
        expected = original(waveforms)["embedding"]
        third, last = ours.features(waveforms, [3, 6])
        (alone,) = ours.features(waveforms[:1], [6])
    hook.remove()
    assert alone.native is not None
    assert last.native is not None
    assert third.native is None
    assert expected.max() > 0.1
    assert (last.native - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert (last.native[:1] - alone.native).abs().max() <= 1e-5 * alone.native.abs().max()
    maps = seen[0].permute(0, 2, 3, 1)
    assert third.frames.shape == maps.shape == (2, frames // 8, 8, 256)
    assert (third.frames - maps).abs().max() <= 1e-4 * maps.abs().max()
    assert last.frames.shape == (2, frames // 32, 2, 2048)
    assert ours.spec.min_samples == 31 * hop


def test_the_16_khz_network_is_the_usual_one() -> None:
    spec = load(Source(seed=0)).spec
    assert (spec.sample_rate, spec.min_samples, spec.dim, spec.weights) == (
        16_000,
        4960,
        2048,
        "random",
    )
    assert dict(spec.settings)["variant"] == "Cnn14_16k"


def by_the_paper(state: State, spectrograms: Tensor, kernel: int) -> Tensor:
    """Embedding of Cnn6 (kernel 5) or Cnn10 (kernel 3), float64, from the paper's table I."""

    def normalised(maps: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (
            state[f"{name}.{k}"].double() for k in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(maps, mean, var, weight, bias, eps=1e-5)

    maps = normalised(spectrograms.double().transpose(1, 2)[..., None], "bn0").transpose(1, 3)
    for block in range(1, 5):
        for number in range(1, 2 if kernel == 5 else 3):
            weight = state[f"conv_block{block}.conv{number}.weight"].double()
            maps = functional.conv2d(maps, weight, padding=kernel // 2)
            maps = functional.relu(normalised(maps, f"conv_block{block}.bn{number}"))
        maps = functional.avg_pool2d(maps, 2)
    frames = maps.mean(dim=3)  # over mel
    pooled = frames.max(dim=2).values + frames.mean(dim=2)
    fc = functional.linear(pooled, state["fc1.weight"].double(), state["fc1.bias"].double())
    return functional.relu(fc)


@pytest.mark.parametrize(("kernel", "name"), [(5, "Cnn6"), (3, "Cnn10")])
def test_the_small_networks_are_the_papers(tmp_path: Path, kernel: int, name: str) -> None:
    state = small_state(kernel)
    torch.save({"model": state}, tmp_path / "w.pth")
    ours = load(Source(name, weights=tmp_path / "w.pth"))
    waveforms = noise(2, 8_003)
    transform = Spectrogram(n_fft=1024, hop_length=320)
    filters = LogmelFilterBank(
        sr=32_000, n_fft=1024, n_mels=64, fmin=50, fmax=14_000, ref=1.0, amin=1e-10, top_db=None
    )
    with torch.inference_mode():
        spectrograms = filters(transform(waveforms))[:, 0]
        expected = by_the_paper(state, spectrograms, kernel)
        (features,) = ours.features(waveforms, [4])
    assert features.native is not None
    assert (features.native - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert dict(ours.spec.settings)["variant"] == name
    assert ours.spec.min_samples == 15 * 320


@pytest.mark.parametrize("kind", ["noise", "tone", "silence"])
@pytest.mark.parametrize(
    ("rate", "n_fft", "hop", "top"), [(16_000, 512, 160, 8_000), (32_000, 1024, 320, 14_000)]
)
def test_the_front_end_is_torchlibrosas(kind: str, rate: int, n_fft: int, hop: int, top: int) -> None:
    time = torch.arange(rate + 13) / rate
    wave = {
        "noise": noise(1, rate + 13)[0],
        "tone": 0.5 * torch.sin(2 * torch.pi * 1000 * time),
        "silence": torch.zeros_like(time),
    }[kind]
    transform = Spectrogram(n_fft=n_fft, hop_length=hop)
    filters = LogmelFilterBank(
        sr=rate, n_fft=n_fft, n_mels=64, fmin=50, fmax=top, ref=1.0, amin=1e-10, top_db=None
    )
    expected = filters(transform(wave[None]))[0, 0]
    front_end = CentredLogMel(slaney_filters(rate, n_fft, 64, (50.0, float(top))), hop)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = front_end(wave[None])[0]
    assert found.dtype == torch.float32
    # Far from a tone, float32 leaves only rounding noise: compare what carries power.
    loud = expected > expected.max() - 80
    torch.testing.assert_close(found[loud], expected[loud], rtol=0, atol=1e-2)


@pytest.mark.parametrize("shape", [(2, 5, 7, 9), (1, 4, 1, 1), (3, 8, 10, 2), (1, 3, 2, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_winograds_convolution_is_the_definitions(shape: tuple[int, int, int, int], bias: bool) -> None:
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(shape[1], 6, 3, padding=1, bias=bias)
    maps = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        found = Winograd(convolution)(maps)
        expected = convolution.double()(maps.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_winograds_convolution_follows_its_training() -> None:
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 4, 3, padding=1)
    maps, layer = torch.randn(1, 3, 6, 6), Winograd(convolution)
    for _ in range(2):
        with torch.no_grad():
            torch.testing.assert_close(layer(maps), convolution(maps), rtol=1e-5, atol=1e-5)
        layer(maps).square().sum().backward()
        torch.optim.SGD(layer.parameters(), 0.1).step()


def test_nothing_above_the_highest_layer_is_computed(cnn6: Path) -> None:
    backbone = load(Source(weights=cnn6))
    network = backbone.network  # type: ignore[attr-defined]

    def refuse(*_: object) -> None:
        raise AssertionError("computed")

    for name in ("conv_block3", "conv_block4", "fc1"):
        network.get_submodule(name).register_forward_hook(refuse)
    with torch.inference_mode():
        second, first = backbone.features(noise(1, 8000), [2, 1])
    assert (second.frames.shape[2:], first.frames.shape[2:]) == ((16, 128), (32, 64))
    with pytest.raises(AssertionError, match="computed"):
        backbone.features(noise(1, 8000), [3])


def rewritten_for_numpy_1(content: object) -> bytes:
    """A file as torch wrote it in 2020, with NumPy's old names."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def test_numpy_values_beside_the_model_are_read_and_nothing_else(tmp_path: Path) -> None:
    path, marker = tmp_path / "w.pth", tmp_path / "ran"
    numbers = {"indexes": np.arange(3), "pointer": np.int64(3), "best": np.float64(0.4)}
    content = {"iteration": np.int64(5), "model": small_state(5), "sampler": numbers}
    old = rewritten_for_numpy_1(content)
    assert b"numpy.core.multiarray\nscalar" in old
    assert b"numpy.core.multiarray\n_reconstruct" in old
    path.write_bytes(old)
    assert load(Source(weights=path)).spec.weights == file_sha256(path)
    torch.save(content, path)  # NumPy 2's names
    assert load(Source(weights=path)).spec.weights == file_sha256(path)
    for other in (Payload(marker), np.array([Payload(marker)], dtype=object), np.ones(1, "f4")):
        torch.save(content | {"sampler": other}, path)
        with pytest.raises(AsdError, match="nothing of it was run"):
            load(Source(weights=path))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("bn0.bias"), "missing: bn0.bias"),
        (lambda s: s.update({"fc2.bias": torch.zeros(1)}), "unexpected: fc2.bias"),
        (lambda s: s.update({"fc1.bias": torch.zeros(3)}), "of another shape: fc1.bias"),
        (lambda s: s.pop("logmel_extractor.melW"), "logmel_extractor.melW is missing"),
        (lambda s: s["logmel_extractor.melW"].mul_(1.01), "melW is not the one of Cnn6"),
        (
            lambda s: s["spectrogram_extractor.stft.conv_imag.weight"].zero_(),
            "conv_imag.weight is not the one of Cnn6",
        ),
        (lambda s: s.pop("spectrogram_extractor.stft.conv_real.weight"), "conv_real.weight is not"),
        (lambda s: s.update(input_state(512, 16_000, 8_000)), "is no PANNs checkpoint of Cnn14"),
        (lambda s: s.update({"conv_block5.bn1.bias": torch.zeros(1)}), "5 blocks; bring"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    tmp_path: Path, change: Callable[[State], object], said: str
) -> None:
    state = {name: value.clone() for name, value in small_state(5).items()}
    change(state)
    torch.save({"model": state}, tmp_path / "w.pth")
    with pytest.raises(AsdError, match=said):
        load(Source(weights=tmp_path / "w.pth"))


def test_variants_are_told_by_the_file(cnn6: Path) -> None:
    with pytest.raises(AsdError, match="holds Cnn6, not Cnn14; leave the variant out"):
        load(Source("Cnn14", weights=cnn6))
    with pytest.raises(AsdError, match="no variant 'cnn14'; it has Cnn14_16k, Cnn14, Cnn10, Cnn6"):
        load(Source("cnn14", seed=0))


def test_random_parameters_are_the_same_for_the_same_seed() -> None:
    waveforms = noise(1, 4800)
    with torch.inference_mode():
        first, again, other = (
            load(Source("Cnn6", seed=seed)).features(waveforms, [4])[0].native for seed in (0, 0, 1)
        )
    assert first is not None
    assert again is not None
    assert other is not None
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_from_the_command_line(root: Path, tmp_path: Path, cnn6: Path) -> None:
    command = ["--data", str(root), "--backbone", "panns", "--weights", str(cnn6)]
    where = ["--cache-dir", str(tmp_path / "a")]
    assert main([*command, *where, "--layers", "4", "--pooling", "native", "mean"]) == 0
    store = Store(tmp_path / "a")
    for recipe in store.recipes():
        assert recipe.weights == file_sha256(cnn6)
        assert store.read(recipe, Section("fan", 0), "train").embeddings.shape == (8, 512)
    assert {recipe.pooling for recipe in store.recipes()} == {"native", "mean"}


def test_without_or_with_the_wrong_weights(
    root: Path, tmp_path: Path, cnn6: Path, error_of: Callable[..., str]
) -> None:
    command = ["--data", root, "--backbone", "panns", "--cache-dir", tmp_path / "a"]
    assert f"panns needs {PANNS[0].file} (359 MB, CC BY 4.0), and offline" in error_of(main, *command)
    other = tmp_path / "other.pt"
    torch.save({"cfg": {"encoder_layers": 12}, "model": {"layer_norm.bias": torch.zeros(2)}}, other)
    said = error_of(main, *command, "--weights", other)
    assert "is no PANNs checkpoint" in said
    assert "conv_block1.conv1.weight is missing" in said
    torch.save({"fc.weight": torch.zeros(2, 2)}, other)
    assert "no 'model' in it" in error_of(main, *command, "--weights", other)
    other.write_bytes(cnn6.read_bytes()[:100_000])
    assert "damaged or no checkpoint" in error_of(main, *command, "--weights", other)
