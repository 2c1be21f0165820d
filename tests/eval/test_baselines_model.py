"""Frames, batches, network and training of the task's autoencoder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cache.base.errors import AsdError
from cache.table import ClipKey, Section
from eval.baselines.frames import FrameBatches, FrameExtractor, Frames, read_frames, vector_starts
from eval.baselines.model import Autoencoder, loss_fault, step, train
from extractors.audio.hearing import Hearing
from extractors.clips.listing import Clip, list_clips
from tests.conftest import write_clip
from tests.helpers.references import mel_powers

CPU = torch.device("cpu")
LARGE = 2**30


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the command trains: two threads wait for each other in layers this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def counted(lengths: list[int]) -> Frames:
    """Frames whose values are their number: row r holds r, r + 0.001, ... over the bands."""
    rows = np.arange(sum(lengths), dtype=np.float32)[:, None]
    values = np.ascontiguousarray(rows + np.arange(128, dtype=np.float32) / 1000)
    bounds = np.cumsum([0, *lengths], dtype=np.int64)
    clips = tuple(
        Clip(f"fan/train/{i}.wav", Path(f"{i}.wav"), Section("fan", 0), "train", "source")
        for i in range(len(lengths))
    )
    return Frames(values, bounds, clips, tuple(ClipKey(clip.clip_id, "") for clip in clips))


def noise(lengths: list[int]) -> Frames:
    frames = counted(lengths)
    values = np.random.default_rng(0).normal(-30, 5, frames.values.shape).astype(np.float32)
    return Frames(values, frames.bounds, frames.clips, frames.keys)


def batches(frames: Frames, budget: int = LARGE, rows: list[int] | None = None) -> FrameBatches:
    return FrameBatches(frames, rows or list(range(len(frames.clips))), budget, CPU)


def gathered(made: FrameBatches, seed: int = 0) -> list[torch.Tensor]:
    return list(made.epoch(torch.Generator().manual_seed(seed)))


def test_frames_are_librosas_with_mirrored_ends() -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, 160_000).astype(np.float32)
    power = mel_powers(wave, mirrored=True)
    frames = FrameExtractor()(wave)
    assert frames.shape == (313, 128)  # of a published clip of 10 s; 309 vectors
    np.testing.assert_allclose(frames, 10 * np.log10(power).T, atol=1e-2)


@pytest.mark.parametrize("budget", [LARGE, 30 * 512, 1])
def test_every_vector_comes_once_an_epoch_and_none_crosses_clips(budget: int) -> None:
    lengths = [5, 9, 300, 30, 17]
    frames = counted(lengths)
    made = batches(frames, budget, rows=[0, 1, 2, 4])
    seen = torch.cat(gathered(made)).reshape(-1, 5, 128).numpy()
    expected = [
        frames.values[start + i : start + i + 5]
        for start, length in ((0, 5), (5, 9), (14, 300), (344, 17))
        for i in range(length - 4)
    ]
    assert made.count == len(seen) == len(expected)
    order = np.argsort(seen[:, 0, 0])
    np.testing.assert_array_equal(seen[order], np.stack(expected))
    assert not np.array_equal(order, np.arange(len(seen)))


def test_beyond_the_budget_no_more_than_it_is_loaded_at_once() -> None:
    frames = counted([20] * 30)
    made = batches(frames, budget=5 * 20 * 512)
    blocks = list(made._blocks(torch.Generator().manual_seed(0)))
    assert len(blocks) == 6
    assert max(values.nbytes for values, _ in blocks) <= made.budget
    first = [values[0, 0] for values, _ in blocks]
    other = [values[0, 0] for values, _ in made._blocks(torch.Generator().manual_seed(1))]
    assert first != other  # which clips share a block is drawn anew


@pytest.mark.parametrize(("vectors", "sizes"), [(2, [2]), (256, [256]), (257, [257]), (514, [256, 256, 2])])
def test_batches_never_hold_a_single_vector(vectors: int, sizes: list[int]) -> None:
    assert [len(b) for b in gathered(batches(noise([vectors + 4])))] == sizes


def test_starts_of_one_clip() -> None:
    starts = vector_starts(np.array([3, 10]), np.array([9, 15]))
    assert starts.tolist() == [3, 4, 10]


def test_the_network_has_the_papers_shape() -> None:
    network = Autoencoder(0)
    widths = [m.out_features for m in network.layers if isinstance(m, torch.nn.Linear)]
    assert widths == [128, 128, 128, 128, 8, 128, 128, 128, 128, 640]
    kinds = [type(m).__name__ for m in network.layers]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU"] * 9 + ["Linear"]


def test_the_network_is_the_formula() -> None:
    network = Autoencoder(3)
    vectors = torch.randn(8, 640)
    network(vectors)  # moves the running statistics
    state = {name: value.double().numpy() for name, value in network.state_dict().items()}
    first = vectors.double().numpy() @ state["layers.0.weight"].T + state["layers.0.bias"]
    np.testing.assert_allclose(state["layers.1.running_mean"], 0.01 * first.mean(0), atol=1e-6)
    variance = 0.99 + 0.01 * first.var(0, ddof=1)
    np.testing.assert_allclose(state["layers.1.running_var"], variance, rtol=1e-5)
    x = vectors.double().numpy()
    for place in range(0, 28, 3):
        x = x @ state[f"layers.{place}.weight"].T + state[f"layers.{place}.bias"]
        if place < 27:
            own = {n: state[f"layers.{place + 1}.{n}"] for n in ("running_mean", "running_var")}
            x = (x - own["running_mean"]) / np.sqrt(own["running_var"] + 1e-3)
            x = np.maximum(x * state[f"layers.{place + 1}.weight"] + state[f"layers.{place + 1}.bias"], 0)
    np.testing.assert_allclose(network.eval()(vectors).detach().numpy(), x, atol=1e-4)


def test_a_step_is_adams() -> None:
    vectors = torch.randn(16, 640)
    network, twin = Autoencoder(1), Autoencoder(1)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    loss = step(network, optimiser, vectors)
    reference = (twin(vectors) - vectors).square().mean()
    gradients = torch.autograd.grad(reference, list(twin.parameters()))
    assert loss.item() == pytest.approx(reference.item(), rel=1e-6)
    # Kingma and Ba 2015, algorithm 1, t = 1: both corrected moments are the gradient's own.
    for after, before, g in zip(network.parameters(), twin.parameters(), gradients, strict=True):
        expected = before - 1e-3 * g / (g.abs() + 1e-8)
        torch.testing.assert_close(after, expected, atol=1e-6, rtol=0)


def trained(seed: int, frames: Frames | None = None) -> tuple[list[float], torch.Tensor]:
    network = Autoencoder(seed)
    losses = list(train(network, batches(frames or noise([60, 80])), seed, 6))
    return losses, torch.cat([p.detach().flatten() for p in network.parameters()])


def test_training_is_the_same_for_the_same_seed_alone() -> None:
    (one, first), (two, second), (three, third) = trained(5), trained(5), trained(6)
    assert one == two
    assert torch.equal(first, second)
    assert one != three
    assert not torch.equal(first, third)
    assert one[-1] < one[0]
    assert loss_fault(one) is None


def test_training_leaves_the_random_state_of_others_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    trained(1)
    assert torch.equal(torch.rand(3), expected)


def test_a_loss_that_does_not_fall_is_told() -> None:
    assert loss_fault([3.0]) is None
    assert loss_fault([3.0, 4.0, 2.9]) is None
    assert "did not fall: 3 in epoch 1, 3.5 in epoch 2" in str(loss_fault([3.0, 3.5]))
    assert loss_fault([3.0, 3.0])


def test_a_loss_that_is_not_finite_stops() -> None:
    frames = noise([60])
    frames.values[:] = 1e25
    with pytest.raises(AsdError, match="loss of epoch 1 is"):
        trained(0, frames)


def test_one_vector_is_too_little() -> None:
    with pytest.raises(AsdError, match="one vector of five frames"):
        trained(0, noise([5]))


def listed(tmp_path: Path, seconds: list[float]) -> list[Clip]:
    for i, length in enumerate(seconds):
        name = f"section_00_source_train_normal_{i:04d}.wav"
        write_clip(tmp_path / "data" / "fan" / "train" / name, i, length)
    return list(list_clips([tmp_path / "data"]).clips)


def test_frames_beyond_the_budget_are_mapped_and_leave_no_file(tmp_path: Path) -> None:
    clips = listed(tmp_path, [1.0, 2.0, 1.5])
    held = read_frames(clips, Hearing(), LARGE, tmp_path / "models")
    mapped = read_frames(clips, Hearing(), 4096, tmp_path / "models")
    assert isinstance(mapped.values.base, np.memmap)
    assert not isinstance(held.values.base, np.memmap)
    np.testing.assert_array_equal(mapped.values, held.values)
    assert mapped.bounds.tolist() == [0, 32, 32 + 63, 32 + 63 + 47]
    assert not list((tmp_path / "models").iterdir())


def test_clips_too_short_for_a_vector_are_named(tmp_path: Path) -> None:
    clips = listed(tmp_path, [0.127, 0.128])
    frames = read_frames(clips, Hearing(), LARGE, tmp_path)
    assert [clip.path.name for clip in frames.clips] == ["section_00_source_train_normal_0001.wav"]
    assert len(frames.values) == 5
    (fault,) = frames.faults
    assert "0.127 s is too short; 0.128 s make one vector" in str(fault)
    with pytest.raises(AsdError, match="fan: no training clip that can be used"):
        read_frames(clips[:1], Hearing(), LARGE, tmp_path)
