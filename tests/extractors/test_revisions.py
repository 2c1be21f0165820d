"""Revisions in the recipe: numbers that change without one are found, here and at run time."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from extractors import backbones, pooling
from extractors.backbone import Features, Source
from extractors.backbones import logspec
from extractors.backbones.ced import Ced
from extractors.backbones.efficientat import MobileNet
from extractors.backbones.logmel import LogMelFrames
from extractors.embedding import revisions
from extractors.embedding.embedder import Output
from extractors.embedding.revisions import FRONT_ENDS, NETWORKS, code_of, is_golden, summary
from extractors.nets.beats import Beats, BeatsConfig
from extractors.nets.cnn14 import Cnn
from extractors.nets.eat import Eat
from extractors.nets.small import SmallCnn
from extractors.nets.vit import VitSizes

CPU = torch.device("cpu")
_BEATS = BeatsConfig(
    embed_dim=16, encoder_embed_dim=32, encoder_ffn_embed_dim=64, encoder_layers=2,
    encoder_attention_heads=4, conv_pos=16, conv_pos_groups=4,
)  # fmt: skip
# Golden values of the networks' code, by its name in `revisions.NETWORKS`. Where a test below fails
# and the change is meant: raise that number, and put in what the test shows.
GOLDEN = {
    "beats": [
        -0.0047953,
        0.0058142,
        -0.0010792,
        -0.0047236,
        0.0058947,
        -0.0012442,
        -0.0046229,
        0.0059357,
    ],
    "ced": [0.052917, 0.0044682, -0.053302, 0.093835, -0.10766, 0.093, -0.05068, -0.0046446],
    "eat": [-0.016344, -0.030742, -0.014185, 0.016659, 0.030735, 0.013842, -0.016989, -0.030708],
    "efficientat": [
        0.0015202,
        0.069837,
        -0.017419,
        0.015864,
        -0.0029746,
        0.028463,
        -0.056361,
        -0.022588,
    ],
    "panns": [
        -0.0060864,
        0.00084047,
        0.0050594,
        -0.0045706,
        -0.0043347,
        0.0058311,
        0.00066572,
        -0.0021667,
    ],
    "logmel": [
        -0.005274,
        0.0086638,
        -0.0056291,
        -0.0032436,
        0.0055912,
        -0.0042809,
        0.0027019,
        -0.0064671,
    ],
}
POOLED = {
    "gem": [0.984942, -0.284432, -1.11918, -1.07023, -0.235471, 0.66081, 1.04763, 0.685497],
    "gwrp": [1.38721, -0.399582, -1.5919, -1.5228, -0.331007, 0.935157, 1.48775, 0.974986],
    "max": [1.51396, -0.434167, -1.78094, -1.78896, -0.41311, 1.13889, 1.70809, 1.13645],
    "mean": [
        -0.0389675,
        0.010566,
        0.0428057,
        0.0443202,
        0.0110593,
        -0.0355909,
        -0.0597734,
        -0.038383,
    ],
    "mean+std": [
        -0.0224564,
        0.0327284,
        -0.0476821,
        -0.140392,
        -0.912366,
        0.223738,
        0.774665,
        -0.571859,
    ],
    "native": [0.923178, -1.04685, -1.10103, 1.13889, 1.52087, 0.715863, -0.196737, -0.422874],
    "rdp": [
        0.135382,
        -0.0329862,
        -0.0971285,
        -0.0520018,
        -0.000743078,
        -0.0308455,
        -0.0913314,
        -0.0723575,
    ],
    "rdp-frames": [
        0.0541347,
        -0.0151437,
        -0.0547433,
        -0.0456726,
        -0.0082325,
        0.0168144,
        0.0149038,
        0.00354339,
    ],
    "rdp-frames+gem": [1.14345, -0.341287, -1.38895, -1.34628, -0.291133, 0.814317, 1.22891, 0.771691],
    "rdp+gem": [1.19247, -0.366387, -1.50469, -1.48802, -0.332926, 0.903906, 1.2538, 0.753492],
}


@pytest.fixture
def _untried() -> Iterator[None]:
    revisions._front_end.cache_clear()
    yield
    revisions._front_end.cache_clear()


def filled(network: nn.Module) -> nn.Module:
    """Parameters that are the same with every version of torch, and so of any generator."""
    for number, (name, value) in enumerate(sorted(network.state_dict().items())):
        if value.is_floating_point():
            wave = torch.cos(torch.arange(value.numel(), dtype=torch.float64) * 1.7 + number)
            fan = max(1, value[0].numel()) if value.ndim > 1 else 1
            scaled = 1 + 0.1 * wave if "var" in name else wave * (1.5 / math.sqrt(fan))
            value.copy_(scaled.reshape(value.shape))
    return network.eval()


def waves(*shape: int) -> Tensor:
    count = torch.arange(math.prod(shape), dtype=torch.float64)
    return (torch.sin(count * 0.37) + torch.cos(count * 0.011)).float().reshape(shape)


def digest(values: Tensor) -> list[float]:
    """Eight averages over all values in order, each weighted by where it is."""
    flat = values.double().flatten()
    weights = torch.cos(torch.arange(len(flat), dtype=torch.float64) * 0.9)
    return [float((part).mean()) for part in (flat * weights).tensor_split(8)]


NETS: dict[str, Callable[[], Tensor]] = {
    "beats": lambda: filled(Beats(_BEATS))(waves(1, 64, 128), [2])[0],
    "ced": lambda: filled(Ced(VitSizes(16, 2, 2), 4))(waves(1, 64, 64), [2])[0],
    "eat": lambda: filled(Eat(VitSizes(16, 2, 2), 32))(waves(1, 64, 128), [2])[0][0],
    "efficientat": lambda: filled(MobileNet(0.1)).fuse()(waves(1, 128, 60), [16])[0],  # type: ignore[operator]
    "panns": lambda: filled(Cnn((8, 16), 3)).fuse()(waves(1, 60, 64), [2])[0],  # type: ignore[operator]
    "logmel": lambda: filled(SmallCnn())(waves(1, 30, 128), [3])[0],
}


@pytest.mark.parametrize("key", FRONT_ENDS, ids=str)
def test_front_ends_give_the_numbers_of_their_revision(key: tuple[str, int]) -> None:
    found = summary(FRONT_ENDS[key])
    text = " ".join(f"{value:.4g}" for value in found)
    assert is_golden(FRONT_ENDS[key], found), (
        f"the front end of {key[0]} at {key[1]} Hz gives other numbers. If that is meant, raise its "
        f"revision in extractors/embedding/revisions.py, where its golden values become: {text}"
    )


@pytest.mark.parametrize("name", NETS)
def test_networks_give_the_numbers_of_their_revision(name: str) -> None:
    with torch.no_grad():
        found = digest(NETS[name]())
    expected, near = GOLDEN[name], 1e-3 * max(map(abs, GOLDEN[name]))
    assert found == pytest.approx(expected, abs=near), (
        f"the network of {name} gives other numbers. If that is meant, raise NETWORKS[{name!r}] in "
        f"extractors/embedding/revisions.py, and put these golden values here: {found}"
    )


@pytest.mark.parametrize("name", pooling.names())
def test_poolings_give_the_numbers_of_their_revision(name: str) -> None:
    features = Features(waves(1, 20, 3, 9), waves(1, 11))
    found = digest(pooling.find(name, {})(features, "merge"))
    expected, near = POOLED[name], 1e-4 * max(map(abs, POOLED[name]))
    assert found == pytest.approx(expected, abs=near), (
        f"pooling {name} gives other numbers. If that is meant, raise POOLING in "
        f"extractors/embedding/revisions.py, and put these golden values here: {found}"
    )


def test_recipes_tell_the_revisions(monkeypatch: pytest.MonkeyPatch) -> None:
    model = backbones.find("logmel").load(Source(), CPU)
    output = Output(model.spec, 0, pooling.find("mean", {}), "merge")
    assert dict(output.recipe.settings)["code"] == "front end 1, pooling 1"
    trained = replace(model.spec, weights="0" * 64)
    assert code_of(trained) == "front end 1, network 1, pooling 1"
    before = replace(output, spec=trained).recipe.fingerprint
    monkeypatch.setattr(revisions, "NETWORKS", {**NETWORKS, "logmel": 2})
    assert replace(output, spec=trained).recipe.fingerprint != before
    assert code_of(replace(model.spec, name="a stranger's", weights="0")) == "pooling 1"


@pytest.mark.usefixtures("_untried")
@pytest.mark.parametrize("factor", [2.0, 1.02])
def test_a_front_end_that_changed_without_a_revision_makes_tables_of_its_own(
    factor: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spec = backbones.find("logmel").load(Source(), CPU).spec
    assert code_of(spec) == "front end 1, pooling 1"
    slaney = revisions.slaney_filters
    monkeypatch.setattr("extractors.backbones.logmel.slaney_filters", lambda *given: slaney(*given) * factor)
    revisions._front_end.cache_clear()
    with caplog.at_level(logging.WARNING):
        changed = code_of(spec)
    assert changed.startswith("front end 1+")
    assert changed == code_of(spec)
    assert "the front end of logmel gives other numbers here than its revision 1" in caplog.text


@pytest.mark.usefixtures("_untried")
@pytest.mark.parametrize("variant", ["", "mel,bands=32", "erb,rate=48000"])
def test_log_spectra_of_any_rate_and_spacing_are_looked_at(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = backbones.find("logspec").load(Source(variant), CPU).spec
    assert code_of(spec) == "front end 1, pooling 1"
    edges = logspec.band_edges
    monkeypatch.setattr(logspec, "band_edges", lambda _, *sizes: edges("linear", *sizes))
    revisions._front_end.cache_clear()
    assert code_of(spec).startswith("front end 1+")


def test_golden_values_move_with_hop_window_and_noise() -> None:
    known = FRONT_ENDS["logmel", 16_000]
    for settings, gain in (((1024, 500), 1.0), ((1000, 512), 1.0), ((1024, 512), 1.01)):
        changed = LogMelFrames(16_000, *settings, 128)
        build = lambda log_mel=changed, gain=gain: lambda waves: log_mel(waves[0] * gain)[None]  # noqa: E731
        assert not is_golden(known, summary(replace(known, build=build)))
    nearly = summary(known) * (1 + 1e-6 * np.cos(np.arange(25)))
    assert is_golden(known, nearly)
