"""What a far microphone hears, cancelled: the formula, its share of energy, and what has none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import fftconvolve

from cache.base.errors import AsdError
from cache.select import Selection, choose
from cache.store import Store
from cache.table import Section
from eval.run import main as evaluate
from extractors.audio.decode import cancelled, read_audio
from extractors.run import main as extract
from finetune.run import main as finetune
from index.run import main as build
from tests.helpers.references import cancelled_by_formula

ErrorOf = Callable[..., str]
RATE = 16_000
PUMP = Section("pump", 0)


def mixture(seconds: float = 1.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A machine near, and background noise that the near microphone hears through a room."""
    rng, count = np.random.default_rng(seed), int(seconds * RATE)
    machine = 0.05 * np.sin(2 * np.pi * 440 * np.arange(count) / RATE)
    background = 0.2 * rng.standard_normal(count)
    room = np.exp(-np.arange(40) / 6.0) * rng.standard_normal(40)
    near = machine + fftconvolve(background, room)[:count]
    return near.astype(np.float32), background.astype(np.float32), machine


@pytest.mark.parametrize("samples", [513, 1024, 5000, 20_480, 20_833])
def test_the_formula(samples: int) -> None:
    near, far, _ = (each[:samples] for each in mixture(1.5))
    found = cancelled(near, far)
    assert (found.shape, found.dtype) == ((samples,), np.float32)
    size = np.abs(near).max()
    np.testing.assert_allclose(found, cancelled_by_formula(near, far), rtol=0, atol=1e-6 * size)


def test_the_same_through_torchs_transforms() -> None:
    near, far, _ = mixture()
    scale = max(np.abs(near).max(), np.abs(far).max()) / 0.9
    window = torch.hann_window(1024, dtype=torch.float64)
    how = {"n_fft": 1024, "hop_length": 512, "window": window, "center": True}
    c, f = (
        torch.stft(torch.from_numpy(x / scale).double(), pad_mode="reflect", return_complex=True, **how)  # type: ignore[arg-type]
        for x in (near, far)
    )
    h = (c * f.conj()).sum(1) / (f.abs().square().sum(1) + 1e-12)
    expected = torch.istft(c - h[:, None] * f, length=len(near), **how).numpy() * scale  # type: ignore[arg-type]
    np.testing.assert_allclose(cancelled(near, far), expected, atol=1e-6)


def test_in_blocks_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far, _ = mixture()
    whole = cancelled(near, far)
    monkeypatch.setattr("extractors.audio.decode._FRAMES", 7)
    np.testing.assert_allclose(cancelled(near, far), whole, atol=1e-7)


def test_background_goes_and_the_machine_stays() -> None:
    near, far, machine = mixture(4.0)
    left = cancelled(near, far) - machine
    assert np.square(left).mean() < 0.05 * np.square(near - machine).mean()


def test_identical_and_silent_channels() -> None:
    near, far, _ = mixture()
    assert np.square(cancelled(near, near)).sum() < 1e-12 * np.square(near).sum()
    silence = np.zeros_like(near)
    np.testing.assert_allclose(cancelled(near, silence), near, atol=1e-6)
    for pair in ((silence, silence), (silence, far)):
        assert not cancelled(*pair).any()
    with pytest.raises(AsdError, match="512 samples are too short to cancel the far channel"):
        cancelled(near[:512], far[:512])


def write_stereo(root: Path, machine: str, leak: float) -> Path:
    """Two channels of a machine, which leaks into the far one."""
    for i in range(6):
        near, far, sound = mixture(0.5, i)
        far = 0.05 * far if leak else far
        both = np.stack([0.1 * near + sound, far + leak * sound], axis=1)
        split = "train" if i < 4 else "test"
        name = f"section_00_source_{split}_normal_{i:04d}_x_1.wav"
        path = root / machine / split / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, both * 0.3, RATE, subtype="FLOAT")
    return root


def test_the_energy_removed_is_told_by_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_stereo(write_stereo(tmp_path / "data", "pump", 0.0), "fan", 3.0)
    command = [
        "--data",
        str(root),
        "--channel",
        "cancel",
        "--backbone",
        "logmel",
        "--cache-dir",
        str(tmp_path / "a"),
    ]
    assert extract(command) == 0
    said = capsys.readouterr().err.splitlines()
    told = {}
    for machine in ("fan", "pump"):
        before = after = 0.0
        for path in sorted((root / machine).rglob("*.wav")):
            near, far = soundfile.read(path, dtype="float32")[0].T
            before += np.square(near).sum()
            after += np.square(cancelled_by_formula(near, far)).sum()
        (line,) = [line for line in said if f"{machine}: " in line]
        told[machine] = line
        assert f"{machine}: {100 * (1 - after / before):.1f} % of the near channel's energy" in line
    assert told["fan"].startswith("warning: fan")
    assert "try --channel near" in told["fan"]
    assert not told["pump"].startswith("warning")
    assert extract(command) == 0  # nothing is heard again, and still it is known
    again = capsys.readouterr().err.splitlines()
    assert [line for line in again if "cancelled" in line] == [line for line in said if "cancelled" in line]


def test_cancel_needs_two_channels(tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "--data",
        str(root),
        "--channel",
        "cancel",
        "--backbone",
        "logmel",
        "--cache-dir",
        str(tmp_path / "a"),
    ]
    assert extract(command) == 1
    assert "no channel far: it has 1" in capsys.readouterr().err


def test_at_the_files_own_rate(tmp_path: Path) -> None:
    near, far, _ = mixture()
    path = tmp_path / "x.wav"
    soundfile.write(path, np.stack([near, far], axis=1), 44_100, subtype="FLOAT")
    found = read_audio(path, 44_100, channel="cancel")
    np.testing.assert_array_equal(found.samples, cancelled(near, far))
    assert found.facts is not None
    assert found.facts.near == pytest.approx(np.square(near, dtype=float).sum())
    assert found.facts.left == pytest.approx(np.square(cancelled(near, far), dtype=float).sum())
    assert len(read_audio(path, RATE, channel="cancel").samples) == round(len(near) * RATE / 44_100)


def test_residual_embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_stereo(tmp_path / "data", "pump", 0.0)
    for channel in ("both", "residual:.5", "residual:1"):
        assert extract(["--data", "data", "--backbone", "logmel", "--channel", channel]) == 0
    store = Store(tmp_path / "artifacts")

    def table(channel: str) -> np.ndarray:
        recipe = choose(store, Selection(("logmel",), channel=channel))
        return store.read(recipe, PUMP, "test").embeddings

    for weight in (0.5, 1.0):
        expected = table("near") - weight * table("far")
        np.testing.assert_allclose(table(f"residual:{weight:g}"), expected, atol=1e-5)
    chain = ["--backbone", "logmel", "--channel", "residual:0.50"]
    assert build([*chain, "--scorer", "min-distance", "--bank", "bank"]) == 0
    assert evaluate([*chain, "--scorer", "min-distance", "--bank", "bank", "--out", "o"]) == 0
    scored = ["--bank", "bank", "--data", "data", "--cache-dir", "new", "--out", "fresh"]
    assert evaluate(scored) == 0
    name = "anomaly_score_pump_section_00_test.csv"
    assert Path("o", name).read_text() == Path("fresh", name).read_text()


def test_mistakes(tmp_path: Path, root: Path, error_of: ErrorOf) -> None:
    where = ["--data", root, "--cache-dir", tmp_path / "a"]
    for text in ("residual:x", "residual:0", "residual:-1", "residual:nan", "residual:11"):
        assert "expected residual:W" in error_of(extract, *where, "--channel", text)
    assert "channel 'cancle' is not one of average" in error_of(extract, *where, "--channel", "cancle")
    out = tmp_path / "x.safetensors"
    said = error_of(finetune, "--data", root, "--out", out, "--channel", "residual:0.5")
    assert "train with --channel near" in said
