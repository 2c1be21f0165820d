"""EfficientAT: equal to the original on genuine weights, and whole without them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cache.base.errors import AsdError
from cache.files.atomic import file_sha256
from cache.store import Store
from cache.table import Section
from extractors import backbones
from extractors.audio.decode import read_audio
from extractors.backbone import Backbone, Source
from extractors.backbones.efficientat import MobileNet, channels
from extractors.nets.filters import kaldi_filters
from extractors.nets.melspectrogram import PreEmphasisedLogMel
from extractors.run import main
from extractors.weights.published import EFFICIENTAT
from tests.helpers.references import power_spectra
from tests.helpers.small_models import write_mobilenet

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def genuine(real_weights: Path) -> Backbone:
    """The published mn04, where it is at hand."""
    return backbones.find("efficientat").load(Source(weights=real_weights), CPU)


def chirp() -> torch.Tensor:
    t = torch.arange(6 * 32_000) / 32_000
    sweep = torch.sin(2 * torch.pi * 3000 * t * (1 + 0.1 * t))
    beat = torch.sin(2 * torch.pi * 7 * t) * torch.sin(2 * torch.pi * 9000 * t)
    return (0.3 * torch.sin(2 * torch.pi * 440 * t) + 0.2 * sweep + 0.05 * beat)[None]


def test_the_embedding_is_the_originals(genuine: Backbone) -> None:
    # The original network and front end (fschmid56/EfficientAT, evaluation mode, fmax 15 kHz) on
    # these weights and this waveform: pooled features 0-7, the last four, and the norm of all 384.
    first = [-0.225154, -0.077358, -0.083757, 0.050854, 1.110637, -0.202333, -0.182305, 0.09375]
    last = [-0.038388, -0.142632, -0.241154, -0.289501]
    with torch.inference_mode():
        (features,) = genuine.features(chirp(), [16])
    frames = features.frames
    assert features.native is not None
    embedding = features.native[0].numpy()
    assert frames.shape == (1, 19, 4, 384)
    np.testing.assert_allclose(embedding[:8], first, atol=2e-5)
    np.testing.assert_allclose(embedding[-4:], last, atol=2e-5)
    assert np.linalg.norm(embedding) == pytest.approx(4.947430, abs=1e-4)


def test_lower_layers_are_the_same_whatever_else_is_asked_for(genuine: Backbone) -> None:
    with torch.inference_mode():
        alone = genuine.features(chirp(), [4])[0].frames
        among = genuine.features(chirp(), [2, 4, 16])[1].frames
    assert torch.equal(alone, among)
    assert alone.shape == (1, 75, 16, 16)


# Classes of AudioSet (Gemmeke et al. 2017), by their place in its list of 527.
SPEECH, MUSIC, SILENCE, SINE_WAVE, CHIRP = 0, 137, 500, 501, 503
TELEPHONE, DIALING, DIAL_TONE = 389, 392, 393
NOISE, STATIC, WHITE_NOISE, PINK_NOISE = 513, 515, 520, 521


def tags(backbone: Backbone, weights: Path, wave: np.ndarray) -> np.ndarray:
    """Probabilities of the 527 classes, by the published classifier, which the product leaves out.

    Two layers on the mean of the last maps, hard swish between them (Howard et al. 2019, table 1).
    """
    state = torch.load(weights, weights_only=True)
    linear = torch.nn.functional.linear
    with torch.inference_mode():
        (features,) = backbone.features(torch.from_numpy(wave.astype(np.float32))[None], [16])
        embedding = features.frames.mean((1, 2))
        hidden = linear(embedding, state["classifier.2.weight"], state["classifier.2.bias"])
        hidden = torch.nn.functional.hardswish(hidden)
        scores = linear(hidden, state["classifier.5.weight"], state["classifier.5.bias"])
    return scores.sigmoid()[0].numpy()


def sounds() -> dict[str, np.ndarray]:
    """Six seconds of sounds whose names are classes of AudioSet."""
    t = np.arange(6 * 32_000) / 32_000
    white = np.random.default_rng(0).normal(0, 0.1, t.size)
    spectrum = np.fft.rfft(white) / np.sqrt(np.maximum(1, np.arange(t.size // 2 + 1)))
    pink = np.fft.irfft(spectrum)
    keys = np.sin(2 * np.pi * 697 * t) + np.sin(2 * np.pi * 1209 * t)  # the telephone's key 1
    return {
        "sine": 0.3 * np.sin(2 * np.pi * 440 * t),
        "chirp": 0.3 * np.sin(2 * np.pi * (200 * t + 300 * t**2)),
        "white": white,
        "pink": 0.1 * pink / pink.std(),
        "silence": np.zeros_like(t),
        "telephone": 0.3 * keys * (t % 0.4 < 0.2),
    }


@pytest.mark.parametrize(
    ("sound", "expected"),
    [
        ("sine", {SINE_WAVE}),
        ("chirp", {SINE_WAVE, CHIRP}),
        ("white", {STATIC, WHITE_NOISE, NOISE}),
        ("pink", {STATIC, WHITE_NOISE, PINK_NOISE}),
        ("silence", {SILENCE}),
        ("telephone", {TELEPHONE, DIALING, DIAL_TONE}),
    ],
)
def test_the_genuine_network_tags_a_sound_as_what_it_is(
    genuine: Backbone, real_weights: Path, sound: str, expected: set[int]
) -> None:
    probabilities = tags(genuine, real_weights, sounds()[sound])
    assert probabilities.shape == (527,)
    best = np.argsort(-probabilities)[: len(expected)]
    assert set(best.tolist()) == expected


@pytest.mark.parametrize("machine", ["dev_data/BearingH", "eval_data/UavCw"])
def test_the_genuine_network_hears_machines_in_noise(
    genuine: Backbone, real_weights: Path, real_data: Path, machine: str
) -> None:
    clips = sorted((real_data / machine / "train").glob("*.wav"))[::10]
    waves = [read_audio(clip, 32_000).samples for clip in clips]
    mean = np.mean([tags(genuine, real_weights, wave) for wave in waves], axis=0)
    # Recorded in a factory's or a compressor's noise, louder than the machine.
    assert mean.argmax() == WHITE_NOISE
    vehicles_and_mechanisms = [*range(300, 353), *range(404, 419)]
    assert mean[vehicles_and_mechanisms].max() > 2 * mean[SPEECH]


def test_the_front_end_against_the_transform_written_out() -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, 40_000).astype(np.float32)
    emphasised = wave[1:] - np.float32(0.97) * wave[:-1]
    window = np.pad(np.hanning(800), 112)
    spectra = power_spectra(np.pad(emphasised, 512, mode="reflect"), window, 320)
    mel = kaldi_filters(32_000, 1024, 128, (0.0, 15_000.0)).T @ spectra
    expected = (np.log(mel + 1e-5) + 4.5) / 5
    ours = PreEmphasisedLogMel()(torch.from_numpy(wave)[None])[0].numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-3)


def test_kaldi_filters_peak_at_their_mel_and_sum_to_one_between_peaks() -> None:
    filters = kaldi_filters(32_000, 4096, 40, (0.0, 15_000.0))
    bins = np.arange(2049) * 32_000 / 4096
    mels = 1127 * np.log1p(bins / 700)
    peaks = np.linspace(0, 1127 * np.log1p(15_000 / 700), 42)[1:-1]
    assert np.abs(mels[filters.argmax(axis=0)] - peaks).max() < 12
    inside = (mels > peaks[0]) & (mels < peaks[-1])
    np.testing.assert_allclose(filters[inside].sum(axis=1), 1, atol=1e-9)
    assert filters[-1].sum() == 0


@pytest.mark.parametrize(
    ("count", "expected"), [(6.4, 8), (16, 16), (9.6, 16), (28.8, 32), (44.8, 48), (25.6, 24)]
)
def test_channels_are_rounded_as_mobilenet_does(count: float, expected: int) -> None:
    assert channels(count) == expected


@pytest.mark.parametrize("width", [0.1, 0.5, 1.0])
def test_folding_the_normalisation_changes_nothing(width: float) -> None:
    torch.manual_seed(0)
    network = MobileNet(width).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    spectrograms = torch.randn(2, 128, 80)
    with torch.inference_mode():
        before = network(spectrograms, [3, 16])
        after = network.fuse()(spectrograms, [3, 16])
    for one, two in zip(before, after, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


def test_from_the_command_line_with_bands_kept(root: Path, tmp_path: Path) -> None:
    weights = write_mobilenet(tmp_path / "mn01.pt")
    command = ["--data", str(root), "--backbone", "efficientat", "--weights", str(weights)]
    where = ["--cache-dir", str(tmp_path / "a")]
    assert main([*command, *where, "--layers", "4", "16", "--bands", "keep"]) == 0
    store = Store(tmp_path / "a")
    widths = {}
    for recipe in store.recipes():
        assert recipe.weights == file_sha256(weights)
        table = store.read(recipe, Section("fan", 0), "train")
        widths[recipe.layer] = [stop - start for start, stop in table.blocks.values()]
        assert next(iter(table.blocks)) == "efficientat/band0"
    assert widths == {4: [8] * 16, 16: [96] * 4}


def test_without_or_with_the_wrong_weights(root: Path, tmp_path: Path, error_of: Callable[..., str]) -> None:
    command = ["--data", root, "--backbone", "efficientat", "--cache-dir", tmp_path / "a"]
    assert f"efficientat needs {EFFICIENTAT[0].file} (4.1 MB, MIT), and offline" in error_of(main, *command)
    other = tmp_path / "other.pt"
    torch.save({"fc.weight": torch.zeros(2, 2)}, other)
    said = error_of(main, *command, "--weights", other)
    assert "is no EfficientAT mn checkpoint: features.16.0.weight is missing" in said


def test_a_backbone_is_refused_where_a_key_does_not_fit(tmp_path: Path) -> None:
    path = write_mobilenet(tmp_path / "mn01.pt")
    state = torch.load(path, weights_only=True)
    del state["features.3.block.0.0.weight"]
    state["features.5.extra"] = torch.zeros(1)
    state["features.0.0.weight"] = torch.zeros(8, 3, 3, 3)
    torch.save(state, path)
    with pytest.raises(AsdError) as caught:
        backbones.find("efficientat").load(Source(weights=path), CPU)
    for part in (
        "missing: features.3.block.0.0.weight",
        "unexpected: features.5.extra",
        "of another shape: features.0.0.weight",
    ):
        assert part in str(caught.value)
