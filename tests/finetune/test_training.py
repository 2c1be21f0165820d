"""The training loop: resumed to the bit, stopped with a reason, judged by training clips alone."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from cache.base.errors import AsdError
from cache.table import Section
from extractors.backbone import Source
from extractors.clips.listing import Clip
from extractors.embedding import finetuned as tuned
from finetune.data.batches import Batches, seed_of
from finetune.loop.model_file import Maker, Settings
from finetune.loop.optimising import Optimising, Portions, Rates
from finetune.loop.state import State, TrainingHistory, resumed
from finetune.loop.training import Course, Training, hold_out, neighbour_statistics
from tests.conftest import write_root
from tests.helpers.tuning import CPU, settings_of, waveforms_of

SCRATCH = Source("cnn", seed=0)


class Killed(BaseException):
    """What no part of the program catches, as a signal."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_root(tmp_path_factory.mktemp("data") / "root", source=4, target=2)


def made(data: Path, path: Path, settings: Settings, seed: int = 0) -> Path:
    waveforms = waveforms_of(data, settings, path.parent)
    return Maker(settings, waveforms, CPU).make(path, seed, lambda _: None).path


@pytest.mark.parametrize("train", ["full", "lora:rank=2"])
@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_a_killed_run_goes_on_to_the_same_file(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, train: str
) -> None:
    monkeypatch.setattr("finetune.loop.training._BETWEEN_SAVES", -1.0)  # after every step
    settings = settings_of(
        "logmel", SCRATCH, scope=train, head="subcluster-adacos:centres=2",
        course=Course(2, watch=0), augment=("mixup", "specaugment"),
    )  # fmt: skip
    whole = made(data, tmp_path / "whole.safetensors", settings)
    step, taken = Optimising.step, []

    def dying(self: Optimising, *arguments: Any) -> float:
        if len(taken) == steps:
            raise Killed
        taken.append(1)
        return step(self, *arguments)

    monkeypatch.setattr(Optimising, "step", dying)
    path = tmp_path / "killed.safetensors"
    with pytest.raises(Killed):
        made(data, path, settings)
    assert not path.exists()
    assert path.with_suffix(".training").exists() == (steps > 0)
    monkeypatch.setattr(Optimising, "step", lambda self, *a: (taken.append(1), step(self, *a))[1])
    made(data, path, settings)
    assert path.read_bytes() == whole.read_bytes()
    assert len(taken) == 4  # twice 8 balanced clips in batches of 4: none again, none left out
    assert not path.with_suffix(".training").exists()


def test_the_same_seed_gives_the_same_file_and_another_does_not(data: Path, tmp_path: Path) -> None:
    settings = settings_of("logmel", SCRATCH, course=Course(1, watch=0))
    one, two, other = (
        made(data, tmp_path / f"{name}.safetensors", settings, seed).read_bytes()
        for name, seed in (("one", 0), ("two", 0), ("other", 1))
    )
    assert one == two
    assert one != other


def test_a_finished_file_is_not_made_again_and_another_training_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of("logmel", SCRATCH, course=Course(1, watch=0))
    path = made(data, tmp_path / "tuned.safetensors", settings)
    monkeypatch.setattr(Optimising, "step", None)  # nothing may be trained
    waveforms = waveforms_of(data, settings, tmp_path)
    again = Maker(settings, waveforms, CPU).make(path, 0, lambda _: None)
    assert not again.is_new
    assert [row["epoch"] for row in again.history] == [1.0]
    with pytest.raises(AsdError, match=r"another training \(other head, trained_parameters\); choose"):
        Maker(replace(settings, head="linear"), waveforms, CPU).make(path, 0, lambda _: None)
    path.write_bytes(b"something of the user's own")
    with pytest.raises(AsdError, match="holds another training"):
        Maker(settings, waveforms, CPU).make(path, 0, lambda _: None)


def test_a_state_of_another_training_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "x.training"
    assert resumed(path, "a") is None
    State(epoch=3, tensors={"w": torch.ones(2)}).save(path, "a")
    found = resumed(path, "a")
    assert found is not None
    assert (found.epoch, found.tensors["w"].tolist()) == (3, [1.0, 1.0])
    assert resumed(path, "b") is None
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(AsdError, match=r"x\.training is damaged .* delete it to train from the"):
        resumed(path, "a")


def test_a_loss_that_is_not_finite_stops_with_the_clips(data: Path, tmp_path: Path) -> None:
    settings = settings_of("logmel", SCRATCH, head="linear", rates=Rates(head=1e30, warmup=0, clip=1e30))
    with pytest.raises(
        AsdError,
        match=r"the loss is (nan|inf) in epoch \d, step \d, of the clips fan/train/section_00_",
    ):
        made(data, tmp_path / "x.safetensors", settings)


def test_too_little_memory_names_a_smaller_batch(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    monkeypatch.setattr(Batches, "made", full)
    settings = settings_of("logmel", SCRATCH)
    with pytest.raises(AsdError, match="--batch-size 2 --accumulate 2 makes the same steps"):
        made(data, tmp_path / "x.safetensors", settings)
    one = settings_of("logmel", SCRATCH, portions=Portions(batch=1))
    with pytest.raises(AsdError, match="no memory for a single clip: shorten --crop"):
        made(data, tmp_path / "x.safetensors", one)


def test_portions_of_a_step_add_up(data: Path, tmp_path: Path) -> None:
    """Two passes of 2 clips are one step of 4: same gradients, so nearly the same weights."""
    plain = settings_of(
        "logmel", SCRATCH, head="linear", augment=(), course=Course(2, watch=0), crop=0.3,
        sampling="plain", rates=Rates(warmup=0),
    )  # fmt: skip
    parts = replace(plain, portions=Portions(batch=2, accumulate=2))
    whole = made(data, tmp_path / "whole.safetensors", plain)
    halves = made(data, tmp_path / "halves.safetensors", parts)
    one, two = (tuned.load("logmel", Source(weights=path), CPU) for path in (whole, halves))
    for name, value in one.backbone.trainable.network.state_dict().items():
        # Clips of other random beginnings, hence not to the last digit.
        other = two.backbone.trainable.network.state_dict()[name]
        assert (value - other).abs().max() < 2e-3, name


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_rates_rise_and_fall(schedule: str) -> None:
    rates = Rates(warmup=4, schedule=schedule)
    factors = [rates.factor(step, 20) for step in range(20)]
    np.testing.assert_allclose(factors[:4], [0.2, 0.4, 0.6, 0.8])
    assert factors[4] == 1
    if schedule == "constant":
        assert factors[4:] == [1.0] * 16
    else:
        np.testing.assert_allclose(factors[4:], [(1 + np.cos(np.pi * k / 16)) / 2 for k in range(16)])


def test_rates_fall_from_block_to_block(data: Path, tmp_path: Path, monkeypatch: Any) -> None:
    seen: list[list[float]] = []
    step = Optimising.step

    def spied(self: Optimising, *arguments: Any) -> float:
        loss = step(self, *arguments)
        seen.append([group["lr"] for group in self.optimizer.param_groups])
        return loss

    monkeypatch.setattr(Optimising, "step", spied)
    rates = Rates(network=1.0e-3, head=5.0e-3, decay=0.5, warmup=0, schedule="constant")
    settings = settings_of("logmel", SCRATCH, rates=rates, course=Course(1, watch=0))
    made(data, tmp_path / "x.safetensors", settings)
    np.testing.assert_allclose(seen[0], [1.25e-4, 2.5e-4, 5e-4, 1e-3, 5e-3])


def test_it_stops_when_held_out_clips_gain_no_more_and_keeps_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_root(tmp_path / "data", source=12, target=0)
    losses = iter([3.0, 2.0, 2.5, 2.1, 9.0])
    kept: list[dict[str, torch.Tensor]] = []

    def evidence(self: Training, _: int) -> dict[str, float]:
        kept.append(self._tensors())
        return {"held_loss": next(losses)}

    monkeypatch.setattr(Training, "_evidence", evidence)
    settings = settings_of("logmel", SCRATCH, held=0.3, course=Course(9, patience=2, watch=0), augment=())
    path = made(root, tmp_path / "x.safetensors", settings)
    record = tuned.record_of(path)["training"]
    assert [row["held_loss"] for row in record["history"]] == [3.0, 2.0, 2.5, 2.1]
    assert record["held"] == 4
    best = tuned.load("logmel", Source(weights=path), CPU).backbone.trainable.network.state_dict()
    for name, value in best.items():
        torch.testing.assert_close(value, kept[1][f"network.{name}"], rtol=0, atol=0)


def test_the_held_out_loss_is_that_of_clips_not_trained_on(tmp_path: Path) -> None:
    root = write_root(tmp_path / "data", source=12, target=0)
    settings = settings_of("logmel", SCRATCH, held=0.3, course=Course(1, watch=1), augment=())
    path = made(root, tmp_path / "x.safetensors", settings)
    row = tuned.record_of(path)["training"]["history"][0]
    assert {"held_loss", "accuracy", "same_class", "distance_source"} <= row.keys()
    assert "distance_target" not in row


def test_holding_out_leaves_two_of_a_class() -> None:
    classes = np.array([0] * 10 + [1] * 3 + [2] * 2 + [3])
    trained, held = hold_out(classes, 0.5, 0)
    assert np.bincount(classes[held], minlength=4).tolist() == [5, 1, 0, 0]
    assert sorted([*trained, *held]) == list(range(16))
    again = hold_out(classes, 0.5, 0)[1]
    np.testing.assert_array_equal(held, again)
    assert not np.array_equal(held, hold_out(classes, 0.5, 1)[1])


def test_neighbours_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(30, 5)).astype(np.float32)
    classes = random.integers(0, 3, 30)
    clips = [
        Clip(
            f"{i}",
            Path(f"{i}.wav"),
            Section("fan", i % 2),
            "train",
            "source" if i % 3 else "target",
        )
        for i in range(30)
    ]
    found = neighbour_statistics(values, clips, classes)
    same, distances = np.empty(30, bool), np.empty(30)
    for number in (0, 1):
        rows = np.array([i for i in range(30) if i % 2 == number])
        search = NearestNeighbors(n_neighbors=2, metric="cosine").fit(values[rows])
        distance, index = search.kneighbors(values[rows])
        same[rows] = classes[rows[index[:, 1]]] == classes[rows]
        distances[rows] = distance[:, 1]
    target = np.array([not i % 3 for i in range(30)])
    assert found["same_class"] == same.mean()
    assert found["distance_source"] == pytest.approx(distances[~target].mean(), rel=1e-4)
    assert found["distance_target"] == pytest.approx(distances[target].mean(), rel=1e-4)


def test_a_single_clip_has_no_neighbour() -> None:
    clip = Clip("a", Path("a.wav"), Section("fan", 0), "train", "source")
    assert neighbour_statistics(np.ones((1, 2), np.float32), [clip], np.zeros(1, int)) == {}


def test_places_have_seeds_of_their_own() -> None:
    seeds = {seed_of(*place) for place in [(0, 1), (1, 0), (0, 0, 1), (0,), (10,), (1, 0, 0)]}
    assert len(seeds) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_history_is_a_table_and_curves(tmp_path: Path) -> None:
    history = TrainingHistory(tmp_path / "x.csv", tmp_path / "curves")
    rows = [{"epoch": 1.0, "loss": 0.5}, {"epoch": 2.0, "loss": 0.25, "accuracy": 1.0}]
    history.write(rows[:1])
    history.write(rows)
    with (tmp_path / "x.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert table == [
        {"epoch": "1", "loss": "0.5", "accuracy": ""},
        {"epoch": "2", "loss": "0.25", "accuracy": "1"},
    ]
    assert list((tmp_path / "curves").glob("events.out.tfevents.*"))
