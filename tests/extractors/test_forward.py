"""One pass: windows of long clips, number formats, memory that runs out, measured plans."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cache.base.errors import AsdError
from extractors import backbones, pooling
from extractors.backbone import BackboneSpec, Features, Kernels, Source
from extractors.embedding import products
from extractors.embedding import throughput as tuning
from extractors.embedding.embedder import Forward, Output, least_cosine, window_starts
from extractors.embedding.throughput import Plan
from tests.helpers.small_models import SMALL

CPU = torch.device("cpu")


class Meter:
    """A backbone whose only frame is the mean of the waveform; its memory can be bounded."""

    def __init__(self, holds: int = 100, error: Exception | None = None) -> None:
        self.spec = BackboneSpec(
            "meter", 16_000, (0,), 0, 1, 1, min_samples=1, max_samples=10, pooling="mean"
        )
        self.holds, self.error, self.sizes = holds, error, list[tuple[int, int]]()

    def features(self, waveforms: Tensor, layers: Sequence[int]) -> list[Features]:
        self.sizes.append((waveforms.shape[0], waveforms.shape[1]))
        if len(waveforms) > self.holds:
            raise self.error or torch.OutOfMemoryError("out of memory: tried to allocate 9 GiB")
        return [Features(waveforms.mean(1)[:, None, None, None]) for _ in layers]


def forward_of(model: Meter) -> Forward:
    return Forward(model, [Output(model.spec, 0, pooling.find("mean", {}), "merge")], CPU)


def test_windows_cover_a_clip_evenly_and_are_as_few_as_can_be() -> None:
    assert window_starts(7, 10) == [0]
    assert window_starts(10, 10) == [0]
    assert window_starts(11, 10) == [0, 1]
    assert window_starts(20, 10) == [0, 10]
    assert window_starts(25, 10) == [0, 8, 15]
    for samples in range(1, 200):
        starts = window_starts(samples, 10)
        covered = {sample for start in starts for sample in range(start, start + 10)}
        assert covered >= set(range(samples))
        assert len(starts) == -(-samples // 10)
        assert starts[-1] + 10 <= max(samples, 10)


def test_a_long_clips_vector_is_the_mean_of_its_windows() -> None:
    model = Meter()
    clips = np.arange(50, dtype=np.float32).reshape(2, 25)
    vectors = forward_of(model)(clips)
    windows = [clips[:, start : start + 10].mean(axis=1) for start in (0, 8, 15)]
    np.testing.assert_allclose(vectors.values[0][:, 0], np.mean(windows, axis=0))
    assert model.sizes == [(2, 10)] * 3  # never more than one window of each at once


@pytest.mark.parametrize(
    "error",
    [None, MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")],
)
def test_a_batch_that_does_not_fit_is_halved_and_said_so(
    error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    model = Meter(holds=3, error=error)
    forward = forward_of(model)
    clips = np.arange(70, dtype=np.float32).reshape(7, 10)
    with caplog.at_level(logging.INFO):
        np.testing.assert_allclose(forward(clips).values[0][:, 0], clips.mean(axis=1))
        forward(clips)
    assert caplog.messages == ["cpu has no memory for 7 clips at once; on with 3"]  # once: learnt
    assert model.sizes[0][0] == 7
    assert max(size for size, _ in model.sizes[1:]) == 3


def test_no_memory_for_one_clip_is_an_error_and_others_pass_through() -> None:
    with pytest.raises(AsdError, match="no memory for a single clip .*choose another device"):
        forward_of(Meter(holds=0))(np.zeros((4, 5), np.float32))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        forward_of(Meter(0, RuntimeError("shapes cannot be multiplied")))(np.zeros((4, 5), "f4"))


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, "bfloat16") for name in backbones.names()), ("beats", "float16")]
)
def test_smaller_number_formats_stay_near_and_have_their_own_recipe(
    name: str, dtype: str, tmp_path: Path
) -> None:
    model = backbones.find(name).load(SMALL[name](tmp_path), CPU)
    plain = Output(model.spec, model.spec.layer, pooling.find("mean", {}), "merge")
    forward = Forward(model, [replace(plain, dtype=dtype)], CPU)
    length = max(model.spec.min_samples, model.spec.sample_rate)
    clips = np.random.default_rng(0).normal(0, 0.1, (2, length)).astype(np.float32)
    assert least_cosine(forward, clips) >= 0.999
    assert forward(clips).values[0].dtype == np.float32
    assert forward.outputs[0].recipe.fingerprint != plain.recipe.fingerprint


def test_least_cosine_is_the_least() -> None:
    class Half(Meter):
        def features(self, waveforms: Tensor, layers: Sequence[int]) -> list[Features]:
            turned = torch.is_autocast_enabled("cpu")
            side = waveforms[:, :1] * turned
            frames = torch.cat([waveforms[:, 1:2], side], dim=1)[:, None, None]
            return [Features(frames) for _ in layers]

    model = Half()
    output = Output(model.spec, 0, pooling.find("mean", {}), "merge", "bfloat16")
    clips = np.array([[0.0, 1.0], [1.0, 1.0]], np.float32)
    cosine = least_cosine(Forward(model, [output], CPU), clips)
    assert cosine == pytest.approx(2**-0.5)


def test_the_usual_plan_uses_every_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "cores", lambda: 8)
    spec = replace(Meter().spec, cpu_threads=2, batch={"cpu": 4})
    assert tuning.usual(spec, CPU) == Plan(batch=4, workers=4, threads=2)
    assert tuning.usual(replace(spec, cpu_threads=None), CPU) == Plan(4, 1, 8)
    assert tuning.candidates(spec, CPU)[0] == Plan(4, 4, 2)
    assert {(plan.workers, plan.threads) for plan in tuning.candidates(spec, CPU)} == {
        (4, 2), (1, 8), (8, 1), (2, 4),
    }  # fmt: skip


def test_the_fastest_plan_wins_and_too_large_ones_end_the_measuring(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates = {1: 5.0, 2: 9.0, 4: 9.1, 8: 20.0}
    plans = [Plan(batch, 1, 1) for batch in rates]
    forward = forward_of(Meter())

    def rate(forward: Forward, plan: Plan, _: object) -> float:
        if plan.batch == 8:
            forward.limit = 4  # as after running out of memory
        return rates[plan.batch]

    monkeypatch.setattr(tuning, "rate", rate)
    assert tuning.fastest(forward, plans, np.zeros(5, np.float32)).batch == 2  # 1 % is noise
    assert forward.limit is None


class TwoWays(Meter):
    """Computes in two ways, of which it counts what it was last told."""

    kernels = ("usual", "other")
    kernel = ""

    def use(self, kernel: str) -> None:
        self.kernel = kernel or "usual"


def test_the_way_a_network_computes_is_measured_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = TwoWays()
    forward, seen = forward_of(model), list[tuple[str, bool]]()

    def rate(_: Forward, plan: Plan, __: object) -> float:
        seen.append((plan.kernel, plan.onednn))
        return 1.0 + (plan.kernel == "other") + plan.onednn

    monkeypatch.setattr(tuning, "rate", rate)
    monkeypatch.setattr(products, "has_onednn", lambda: True)
    clip = np.zeros(10, np.float32)
    first = tuning.usual(model.spec, CPU)
    assert tuning.as_measured(first, tmp_path, forward) == first
    plan = tuning.remembered(tmp_path, forward, clip)
    assert (plan.kernel, plan.onednn) == ("other", True)
    assert seen[:4] == [("usual", False), ("other", False), ("usual", True), ("other", True)]
    assert set(seen[4:]) == {("other", True)}  # the rest is measured as the best of them
    assert str(tuning.plans_in(tmp_path).popitem()[1]).endswith(", other, products by oneDNN")
    # Whatever the length of the clips.
    assert tuning.as_measured(first, tmp_path, forward) == replace(first, kernel="other", onednn=True)
    tuning.use(forward, plan)
    assert model.kernel == "other"
    assert forward.onednn
    tuning.use(forward, replace(plan, kernel="of a later version", onednn=False))
    assert model.kernel == "usual"
    assert not forward.onednn


def test_where_torch_has_no_other_library_nothing_else_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    forward, seen = forward_of(Meter()), list[bool]()
    monkeypatch.setattr(products, "has_onednn", lambda: False)
    monkeypatch.setattr(tuning, "rate", lambda _, plan, __: seen.append(plan.onednn) or 1.0)
    tuning.fastest(forward, [Plan(1, 1, 1)], np.zeros(5, np.float32))
    monkeypatch.setattr(products, "has_onednn", lambda: True)
    smaller = replace(forward, outputs=[replace(forward.outputs[0], dtype="bfloat16")])
    tuning.fastest(smaller, [Plan(1, 1, 1)], np.zeros(5, np.float32))  # a format has its own
    assert seen == [False, False]
    forward.onednn = True  # as a plan from elsewhere says
    monkeypatch.setattr(products, "_linear", pytest.fail)
    monkeypatch.setattr(products, "has_onednn", lambda: False)
    assert forward(np.ones((1, 5), np.float32)).values[0] == 1


@pytest.mark.parametrize("name", [name for name in backbones.names() if name not in ("logmel", "logspec")])
def test_products_by_another_library_are_equal_up_to_rounding(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not products.has_onednn():
        pytest.skip("this build of torch does not multiply by oneDNN")
    model = backbones.find(name).load(SMALL[name](tmp_path), CPU)
    if isinstance(model, Kernels):
        model.use(model.kernels[0] if model.kernels else "")
    calls = Counter[str]()
    for of, made in list(products._BY_ONEDNN.items()):

        def counted(*args: Tensor, made: Callable[..., Tensor] = made, **named: Tensor) -> Tensor:
            calls[made.__name__] += 1
            return made(*args, **named)

        monkeypatch.setitem(products._BY_ONEDNN, of, counted)  # type: ignore[arg-type]
    forward = Forward(model, [Output(model.spec, model.spec.layer, pooling.find("mean", {}), "merge")], CPU)
    length = max(model.spec.min_samples, 2 * model.spec.sample_rate)
    clips = np.random.default_rng(0).normal(0, 0.1, (2, length)).astype(np.float32)
    (usual,) = forward(clips).values
    assert not calls
    (other,) = replace(forward, onednn=True)(clips).values
    assert np.linalg.norm(usual - other) <= 1e-5 * np.linalg.norm(usual)
    assert calls or name == "efficientat"  # nothing but convolutions


def test_training_keeps_the_usual_products(monkeypatch: pytest.MonkeyPatch) -> None:
    for of in list(products._BY_ONEDNN):
        monkeypatch.setitem(products._BY_ONEDNN, of, pytest.fail)  # type: ignore[arg-type]
    layer = torch.nn.Linear(3, 4)
    with products.multiplied(True):
        layer(torch.ones(2, 3)).sum().backward()
        with torch.no_grad():  # nor what is not float32
            layer.double()(torch.ones(2, 3, dtype=torch.float64))
    assert layer.weight.grad is not None


@pytest.mark.parametrize("name", backbones.names())
def test_all_ways_of_a_network_are_equal_up_to_rounding(name: str, tmp_path: Path) -> None:
    source = Source("Cnn10", seed=0) if name == "panns" else SMALL[name](tmp_path)
    model = backbones.find(name).load(source, CPU)
    if not isinstance(model, Kernels):
        pytest.skip(f"{name} computes in one way")
    length = max(model.spec.min_samples, 2 * model.spec.sample_rate)
    clips = torch.randn(2, length, generator=torch.Generator().manual_seed(0)) / 10
    with torch.inference_mode():
        usual = model.features(clips, model.spec.layers)
        for kernel in model.kernels[1:]:
            model.use(kernel)
            for one, other in zip(usual, model.features(clips, model.spec.layers), strict=True):
                assert (one.frames - other.frames).norm() <= 1e-5 * one.frames.norm()
            assert not torch.equal(one.frames, other.frames)  # it was another way
        model.use("")
        again = model.features(clips, model.spec.layers)
        assert all(torch.equal(one.frames, other.frames) for one, other in zip(usual, again, strict=True))


def test_a_plan_is_measured_once_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = forward_of(Meter())
    clip = np.zeros(10, np.float32)
    plan = tuning.remembered(tmp_path, forward, clip)
    assert replace(plan, onednn=False) in tuning.candidates(forward.backbone.spec, CPU)
    monkeypatch.setattr(tuning, "fastest", lambda *_: pytest.fail("measured again"))
    assert tuning.remembered(tmp_path, forward, clip) == plan
    stored = json.loads((tmp_path / tuning.PLANS).read_text())
    assert len(stored) == 1
    monkeypatch.undo()
    for damaged in ("", "[]", '{"x": 3}', '{"x": {"batch": 0, "workers": 1, "threads": 1}}'):
        (tmp_path / tuning.PLANS).write_text(damaged)
        assert tuning.remembered(tmp_path, forward, clip).batch >= 1


def test_the_rate_counts_the_clips_of_all_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([100.0, 102.0])
    monkeypatch.setattr("extractors.embedding.throughput.time.perf_counter", lambda: next(moments))
    found = tuning.rate(forward_of(Meter()), Plan(3, 2, 1), np.zeros(10, np.float32))
    assert found == 6 / 2
