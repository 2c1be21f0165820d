"""``--dtype auto``: taken where it is faster and ranks the same, never where tables are of another format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import Tensor

from cache.base.errors import AsdError
from cache.store import Store
from extractors import pooling
from extractors.backbone import RANDOM, BackboneSpec, Features
from extractors.clips.listing import Clip, list_clips
from extractors.embedding import formats
from extractors.embedding.embedder import Forward, Output
from extractors.embedding.formats import Verdict, agreement, disturbed, judged, settled
from extractors.request import ExtractRequest

RATE = 16_000


class Bands:
    """Spectral levels as a backbone; in a smaller format they are moved by as much as is said."""

    def __init__(self, noise: float = 0.0) -> None:
        self.spec = BackboneSpec(
            "bands", RATE, (0,), 0, 8, 1, min_samples=1, max_samples=RATE, pooling="mean", weights=RANDOM
        )
        self.noise = noise

    def features(self, waveforms: Tensor, layers: Sequence[int]) -> list[Features]:
        power = torch.fft.rfft(waveforms).abs().square()[:, :8000].unflatten(1, (8, -1)).mean(-1).log()
        if torch.is_autocast_enabled("cpu"):
            power = power + self.noise * torch.randn(power.shape)
        return [Features(power[:, None, None]) for _ in layers]


def forward_of(model: Bands) -> Forward:
    output = Output(model.spec, 0, pooling.find("mean", {}), "merge")
    return Forward(model, [output], torch.device("cpu"))


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sequence[Clip]:
    """Training clips of one machine, and no more than these are asked for."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data" / "fan" / "train"
    folder.mkdir(parents=True)
    for i in range(8):
        path = folder / f"section_00_source_train_normal_{i:04d}.wav"
        soundfile.write(path, rng.normal(0, 0.1, RATE), RATE)
    monkeypatch.setattr(formats, "WORTH", 8)
    monkeypatch.setattr(formats, "CLIPS", 4)
    return list_clips([tmp_path / "data"]).clips


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Clips a second by format, instead of the clock's."""
    rates = {"float32": 1.0, "bfloat16": 2.0}
    monkeypatch.setattr(formats, "rate", lambda forward, *_: rates[forward.outputs[0].dtype])
    return rates


def dtype_of(forward: Forward) -> str:
    return forward.outputs[0].dtype


@pytest.mark.usefixtures("pace")
def test_faster_and_of_equal_rank_is_taken_and_kept(
    clips: Sequence[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "cache")
    chosen = settled(forward_of(Bands()), clips, store)
    assert dtype_of(chosen) == "bfloat16"
    assert dict(chosen.outputs[0].recipe.settings)["dtype"] == "bfloat16"
    (kept,) = json.loads((store.root / formats.FORMATS).read_text()).values()
    assert kept == {"gain": 2.0, "rho": pytest.approx(1.0), "points": 0.0}
    monkeypatch.setattr(formats, "judged", lambda *_: pytest.fail("measured again"))
    assert dtype_of(settled(forward_of(Bands()), clips[:1], store)) == "bfloat16"


@pytest.mark.usefixtures("pace")
@pytest.mark.parametrize("damaged", ["", "[]", '{"a": {"gain": "2"}}', '{"a": {"gain": NaN}}'])
def test_kept_verdicts_that_are_damaged_are_measured_anew(
    clips: Sequence[Clip], tmp_path: Path, damaged: str
) -> None:
    (tmp_path / formats.FORMATS).write_text(damaged)
    assert dtype_of(settled(forward_of(Bands()), clips, Store(tmp_path))) == "bfloat16"


@pytest.mark.parametrize(("noise", "gain"), [(3.0, 2.0), (0.0, 1.2), (float("nan"), 2.0)])
def test_other_ranks_or_too_small_a_gain_are_refused(
    clips: Sequence[Clip], pace: dict[str, float], tmp_path: Path, noise: float, gain: float
) -> None:
    pace["bfloat16"] = gain
    assert dtype_of(settled(forward_of(Bands(noise)), clips, Store(tmp_path))) == "float32"
    assert (tmp_path / formats.FORMATS).exists()


@pytest.mark.usefixtures("pace")
def test_too_few_clips_are_not_measured(clips: Sequence[Clip], tmp_path: Path) -> None:
    for few in (clips[:7], [], [replace(clip, split="test") for clip in clips]):
        assert dtype_of(settled(forward_of(Bands()), few, Store(tmp_path))) == "float32"
    assert not (tmp_path / formats.FORMATS).exists()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_tables_that_are_there_decide(
    clips: Sequence[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    monkeypatch.setattr(formats, "judged", lambda *_: pytest.fail("measured"))
    forward, found = forward_of(Bands()), []
    other = replace(forward.outputs[0], dtype=dtype).recipe
    monkeypatch.setattr(Store, "tables", lambda _, recipe: found or ([1] if recipe == other else []))
    assert dtype_of(settled(forward, clips, Store(tmp_path))) == dtype


def test_what_has_no_network_stays_in_float32(clips: Sequence[Clip], tmp_path: Path) -> None:
    model = Bands()
    model.spec = replace(model.spec, weights=None)
    forward = forward_of(model)
    assert settled(forward, clips, Store(tmp_path)) is forward


@pytest.mark.usefixtures("pace")
def test_a_verdict_is_of_ranks_of_scores() -> None:
    rng = np.random.default_rng(1)
    samples = [rng.normal(0, 0.1, RATE).astype(np.float32) for _ in range(16)]
    forward = forward_of(Bands(noise=0.01))
    smaller = replace(forward, outputs=[replace(forward.outputs[0], dtype="bfloat16")])
    verdict = judged(forward, smaller, samples)
    assert verdict.gain == 2.0
    assert 0.5 < verdict.rho < 1
    assert not Verdict(2.0, 0.9989, 0.0).accepted
    assert not Verdict(2.0, 1.0, 0.21).accepted
    assert Verdict(1.3, 0.999, 0.2).accepted


@pytest.mark.parametrize("seed", range(5))
def test_agreement_is_spearmans_and_the_difference_of_areas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = rng.normal(size=40).round(1)  # with ties
    other = one + rng.normal(0, 0.3, size=40)
    labels = rng.random(40) < 0.4
    rho, points = agreement(one, other, labels)
    assert rho == pytest.approx(spearmanr(one, other)[0])
    areas = [roc_auc_score(labels, scores) for scores in (one, other)]
    assert points == pytest.approx(100 * abs(areas[0] - areas[1]))


def test_disturbed_clips_differ_and_stay_in_shape() -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, (2, 4000)).astype(np.float32)
    for each in (samples, samples[0]):
        found = disturbed(each, np.random.default_rng(0))
        assert (found.shape, found.dtype) == (each.shape, np.float32)
        assert np.abs(found - each).max() > 0.05
    assert np.isfinite(disturbed(samples[0] * 0, np.random.default_rng(0))).all()


def test_a_cluster_is_told_the_format() -> None:
    with pytest.raises(AsdError, match="--dtype auto: measured by one process"):
        ExtractRequest(dtype="auto", engine="ray")
