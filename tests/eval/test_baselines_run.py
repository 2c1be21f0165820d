"""The command of the task's baselines: whole runs on small data, resumed, and misused."""

from __future__ import annotations

import csv
import io
import json
import shutil
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import soundfile
import torch

from cache.table import ClipKey, Section
from eval.baselines import model
from eval.baselines.frames import frame_table
from eval.baselines.run import main
from eval.baselines.scoring import MAIN, hold_out, plan_threshold
from eval.results.submission import read_submission
from extractors.clips.listing import Clip, list_clips
from index.request import ThresholdOptions
from index.threshold import fit_threshold
from tests.conftest import write_clip, write_root
from tests.helpers.references import mel_powers

ErrorOf = Callable[..., str]
FAN = Section("fan", 0)


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def command(tmp_path: Path, *options: object, out: str = "out") -> list[str]:
    fixed = ["--data", tmp_path / "data", "--cache-dir", tmp_path / "cache", "--jobs", 1]
    return [str(part) for part in (*fixed, "--out", tmp_path / out, *options)]


def run(tmp_path: Path, *options: object, out: str = "out") -> int:
    return main(command(tmp_path, *options, out=out))


MSE = ("--mode", "mse", "--epochs", 3)
CLIP = ("--mode", "mahalanobis", "--epochs", 3, "--shrinkage", "auto")


def test_a_run_writes_what_every_system_writes(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert root == tmp_path / "data"
    assert run(tmp_path, *MSE, "--seeds", 0, 7) == 0
    said = capsys.readouterr().out
    assert "2 runs of 2 seeds: submissions and results in" in said
    for seed in (0, 7):
        assert {path.name for path in (tmp_path / "out" / f"seed_{seed}").iterdir()} == {
            ".lock",
            "SHA256SUMS",
            "anomaly_score_fan_section_00_test.csv",
            "clips_fan_section_00_test.csv",
            "decision_result_fan_section_00_test.csv",
            "map_fan_section_00_test.parquet",
            "neighbours_fan_section_00_test.parquet",
            "report.html",
            "results.csv",
            "results.json",
            "results.md",
            "system.json",
        }
    record = json.loads((tmp_path / "out" / "seed_7" / "results.json").read_text())
    assert record["title"] == "autoencoder, mse, seed 7"
    assert record["facts"]["epochs"] == "3"
    first, last = map(float, record["facts"]["loss of fan, first and last epoch"][:-5].split(","))
    assert 0 < last < first


def test_the_summary_is_mean_and_sample_deviation_over_seeds(root: Path, tmp_path: Path) -> None:
    write_root(root, "valve")
    assert run(tmp_path, *MSE, "--seeds", 0, 1, 2) == 0
    records = [
        json.loads((tmp_path / "out" / f"seed_{seed}" / "results.json").read_text()) for seed in (0, 1, 2)
    ]
    (system,) = json.loads((tmp_path / "out" / "ranking.json").read_text())["systems"]
    official = [record["official_score"] for record in records]
    assert system["official_score"]["mean"] == pytest.approx(statistics.fmean(official))
    assert len(system["runs"]) == 3
    for place, row in enumerate(system["sections"]):
        values = [record["sections"][place]["auc_target"] for record in records]
        assert row["auc_target"]["mean"] == pytest.approx(statistics.fmean(values))
        assert row["auc_target"]["deviation"] == pytest.approx(statistics.stdev(values))
    text = (tmp_path / "out" / "ranking.md").read_text()
    assert f"{100 * statistics.fmean(official):.2f} ± " in text
    # Fewer seeds in the same folder: the others' runs do not stay.
    assert run(tmp_path, *MSE, "--seeds", 1) == 0
    assert [path.name for path in (tmp_path / "out").glob("seed_*")] == ["seed_1"]


def models(tmp_path: Path) -> list[Path]:
    """Files of the networks kept, the first trained first: the one that scores, then those of folds."""
    return sorted((tmp_path / "cache" / "baselines" / "fan").iterdir(), key=lambda p: p.stat().st_mtime_ns)


def reconstructed(state: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    for place in range(0, 28, 3):
        x = x @ state[f"layers.{place}.weight"].T + state[f"layers.{place}.bias"]
        if place < 27:
            own = {n: state[f"layers.{place + 1}.{n}"] for n in ("running_mean", "running_var")}
            x = (x - own["running_mean"]) / np.sqrt(own["running_var"] + 1e-3)
            x = x * state[f"layers.{place + 1}.weight"] + state[f"layers.{place + 1}.bias"]
            x = np.maximum(x, 0)
    return x


def residuals(state: dict[str, np.ndarray], path: Path) -> np.ndarray:
    wave = soundfile.read(path, dtype="float32")[0]
    mel = 10 * np.log10(mel_powers(wave, mirrored=True).T)
    x = np.stack([mel[i : i + 5].reshape(640) for i in range(len(mel) - 4)])
    return (x - reconstructed(state, x)).reshape(-1, 128)


def test_scores_are_those_of_the_saved_model_computed_by_hand(root: Path, tmp_path: Path) -> None:
    assert run(tmp_path, *MSE, "--seeds", 0, out="mse") == 0
    whole = ("--mode", "mahalanobis", "--epochs", 3, "--shrinkage", 0.1, "--seeds", 0)
    assert run(tmp_path, *whole, out="clip") == 0
    file = models(tmp_path)[0]
    state = {k: v.astype(np.float64) for k, v in safetensors.numpy.load_file(file).items()}
    clips = [clip for clip in list_clips([root]).clips if clip.split == "train"]
    held = hold_out(clips, 0)
    inverses = []
    for domain in ("source", "target"):
        used = [c for i, c in enumerate(clips) if c.domain == domain and i not in held]
        matrix = np.cov(np.concatenate([residuals(state, c.path) for c in used]).T)
        shrunk = 0.9 * matrix + 0.1 * np.trace(matrix) / 128 * np.eye(128)
        inverses.append(np.linalg.inv(shrunk))
    for name, score in zip(*_scores(tmp_path / "mse"), strict=True):
        e = residuals(state, root / "fan" / "test" / name)
        assert score == pytest.approx((e**2).mean(), rel=1e-3)
    for name, score in zip(*_scores(tmp_path / "clip"), strict=True):
        d = residuals(state, root / "fan" / "test" / name).mean(axis=0)
        assert score == pytest.approx(min(d @ inverse @ d for inverse in inverses), rel=1e-2)


def _scores(out: Path) -> tuple[tuple[str, ...], np.ndarray]:
    submission = read_submission(out / "seed_0", FAN)
    return submission.files, submission.scores


@pytest.mark.usefixtures("root")
def test_another_mode_trains_nothing_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(tmp_path, *MSE, "--seeds", 0, 1) == 0

    def never(*_: object) -> Iterator[float]:
        raise AssertionError("trained again")

    monkeypatch.setattr(model, "train", never)
    for form in ("frames", "clip"):
        assert run(tmp_path, *CLIP, "--form", form, "--seeds", 0, 1, out=form) == 0
    one, other = (_scores(tmp_path / form)[1] for form in ("frames", "clip"))
    assert not np.allclose(one, other)


@pytest.mark.usefixtures("root")
def test_a_killed_run_keeps_what_it_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(tmp_path, *MSE, "--seeds", 0, 1, out="whole") == 0
    shutil.rmtree(tmp_path / "cache")
    seeds: list[int] = []
    whole = model.train

    def killed(network: object, batches: object, seed: int, epochs: int) -> Iterator[float]:
        seeds.append(seed)
        for epoch, loss in enumerate(whole(network, batches, seed, epochs)):  # type: ignore[arg-type]
            if seeds == [0, 0, 0, 1] and epoch == 1:
                raise KeyboardInterrupt
            yield loss

    monkeypatch.setattr(model, "train", killed)
    assert run(tmp_path, *MSE, "--seeds", 0, 1) == 130
    assert run(tmp_path, *MSE, "--seeds", 0, 1) == 0
    assert seeds == [0, 0, 0, 1, 1, 1, 1]
    for seed in ("seed_0", "seed_1"):
        name = "anomaly_score_fan_section_00_test.csv"
        pieces = [(tmp_path / out / seed / name).read_bytes() for out in ("whole", "out")]
        assert pieces[0] == pieces[1]


@pytest.mark.usefixtures("root")
def test_processes_change_no_digit(tmp_path: Path) -> None:
    seeds = (*MSE, "--seeds", 0, 1, "--no-report")
    assert run(tmp_path, *seeds) == 0
    apart = ("--jobs", 2, "--cache-dir", tmp_path / "other")
    assert run(tmp_path, *seeds, *apart, out="apart") == 0
    for seed in ("seed_0", "seed_1"):
        name = "anomaly_score_fan_section_00_test.csv"
        pieces = [(tmp_path / out / seed / name).read_bytes() for out in ("out", "apart")]
        assert pieces[0] == pieces[1]


def test_other_training_clips_train_another_model(root: Path, tmp_path: Path) -> None:
    assert run(tmp_path, *MSE, "--seeds", 0) == 0
    write_clip(root / "fan" / "train" / "section_00_source_train_normal_0099.wav", 77)
    assert run(tmp_path, *MSE, "--seeds", 0) == 0
    first, *others = models(tmp_path)
    assert first.name != others[2].name  # the networks that score; one of a fold may be of the same clips


def test_no_score_moves_with_the_labels(root: Path, tmp_path: Path) -> None:
    assert run(tmp_path, *CLIP, "--seeds", 0) == 0
    tests = sorted((root / "fan" / "test").iterdir())
    for number, path in enumerate(tests):
        path.rename(path.with_name(f"section_00_{number:04d}.wav"))
    assert run(tmp_path, *CLIP, "--seeds", 0, out="blind") == 0
    np.testing.assert_array_equal(_scores(tmp_path / "out")[1], _scores(tmp_path / "blind")[1])
    assert not (tmp_path / "blind" / "ranking.csv").exists()


def test_ground_truth_gives_the_labelled_clips_figures(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, *MSE, "--seeds", 0) == 0
    table = capsys.readouterr().out.rpartition("\n\n")[0]
    assert "official score" in table
    truth = tmp_path / "truth"
    for kind, word in (("data", "anomaly"), ("domain", "target")):
        folder = truth / f"ground_truth_{kind}"
        folder.mkdir(parents=True)
        lines = [
            f"section_00_{i:04d}.wav,{int(word in path.name)}\n"
            for i, path in enumerate(sorted((root / "fan" / "test").iterdir()))
        ]
        (folder / "ground_truth_fan_section_00_test.csv").write_text("".join(lines))
    for i, path in enumerate(sorted((root / "fan" / "test").iterdir())):
        path.rename(path.with_name(f"section_00_{i:04d}.wav"))
    assert run(tmp_path, *MSE, "--seeds", 0, "--ground-truth", truth, out="told") == 0
    assert capsys.readouterr().out.rpartition("\n\n")[0] == table


def test_a_section_without_target_clips_is_scored_by_its_source(tmp_path: Path) -> None:
    write_root(tmp_path / "data", target=0)
    assert run(tmp_path, *CLIP, "--seeds", 0, 1) == 0
    assert np.isfinite(_scores(tmp_path / "out")[1]).all()


def test_a_single_training_clip_is_scored_without_a_threshold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_root(tmp_path / "data", source=1, target=0)
    write_clip(root / "fan" / "train" / "section_00_source_train_normal_0000_speed_0.wav", 1, 2.0)
    assert run(tmp_path, *CLIP, "--seeds", 0) == 0
    said = capsys.readouterr().err
    assert "fan/section_00: not judged: no threshold can be learnt from 1 different training clip" in said
    submission = read_submission(tmp_path / "out" / "seed_0", FAN)
    assert np.isfinite(submission.scores).all()
    assert not submission.decisions.any()


def test_every_section_has_covariances_of_its_own(root: Path, tmp_path: Path) -> None:
    assert run(tmp_path, *CLIP, "--seeds", 0, out="one") == 0
    for path in list((root / "fan").rglob("section_00_*.wav")):
        seed = int(path.stem.encode().hex(), 16) % 1000
        write_clip(path.with_name(path.name.replace("section_00", "section_01")), seed, 0.5)
    assert run(tmp_path, *CLIP, "--seeds", 0, out="two") == 0
    names = sorted(path.name for path in (tmp_path / "two" / "seed_0").glob("anomaly*"))
    assert names == [f"anomaly_score_fan_section_{n}_test.csv" for n in ("00", "01")]
    assert len(models(tmp_path)) == 6


def test_a_clip_that_cannot_be_used_is_named_and_the_rest_goes_on(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip(root / "fan" / "train" / "section_00_source_train_normal_0050.wav", 1, 0.1)
    (root / "fan" / "test" / "section_00_source_test_normal_0051.wav").write_bytes(b"RIFF")
    assert run(tmp_path, *MSE, "--seeds", 0, 1) == 1
    said = capsys.readouterr().err
    assert "normal_0050.wav: 0.100 s is too short; 0.128 s make one vector" in said
    assert said.count("normal_0051.wav: not audio") == 1
    assert len(_scores(tmp_path / "out")[0]) == 4


@pytest.mark.usefixtures("root")
def test_a_loss_that_does_not_fall_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(model, "LEARNING_RATE", 1e4)
    assert run(tmp_path, *MSE, "--seeds", 4) == 1
    said = capsys.readouterr().err
    assert "warning: fan, seed 4: its loss did not fall" in said
    assert run(tmp_path, *MSE, "--seeds", 4) == 1  # nor is it forgotten with the model loaded
    assert capsys.readouterr().err == said


@pytest.mark.usefixtures("root")
def test_a_loss_that_is_not_finite_names_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf
) -> None:
    monkeypatch.setattr(model, "LEARNING_RATE", 1e30)
    said = error_of(main, *command(tmp_path, *MSE, "--seeds", 4))
    assert "fan, seed 4: the loss of epoch" in said


def test_mistakes_are_told(root: Path, tmp_path: Path, error_of: ErrorOf) -> None:
    def said(*options: object) -> str:
        return error_of(main, *command(tmp_path, *options))

    assert "each run needs its own" in said(*MSE, "--seeds", 1, 1)
    assert "no machine type 'pump'" in said(*MSE, "--machine", "pump")
    assert "is not a folder" in said(*MSE, "--ground-truth", tmp_path / "no")
    assert "not to be had here" in said(*MSE, "--device", "cuda:7")
    assert "leave --form and --shrinkage out" in said("--mode", "paper", "--form", "frames")
    assert "the autoencoder hears one signal" in said(*MSE, "--channel", "both")
    assert "the autoencoder hears one signal" in said(*MSE, "--channel", "residual:.5")
    assert "--group sound: expected one of" in said(*MSE, "--group", "sound")
    assert "--data is missing" in error_of(main, "--mode", "mse")
    plain = ("--mode", "mahalanobis", "--epochs", 1, "--seeds", 0)
    assert "fan/section_00, source: the covariance of" in said(*plain)
    file = models(tmp_path)[0]
    file.write_bytes(file.read_bytes()[:1000])
    assert f"{file} is damaged" in said(*plain)
    shutil.rmtree(root / "fan" / "test")
    assert "fan has no test clips" in said(*MSE)


def test_windows_of_long_recordings_are_scored_and_one_channel_is_heard(root: Path, tmp_path: Path) -> None:
    """Two channels, the first silent but for a hum: windows of the second alone."""
    for path in sorted(root.rglob("*.wav")):
        samples = soundfile.read(path)[0]
        hum = np.sin(np.arange(3 * len(samples)) / 9) / 4
        soundfile.write(path, np.column_stack([hum, np.tile(samples, 3)]), 16_000)
    heard = ("--window", 0.2, "--channel", 1, "--seeds", 0)
    assert run(tmp_path, *MSE, *heard) == 0
    folder = tmp_path / "out" / "seed_0"
    text = (folder / "windows_fan_section_00_test.csv").read_text()
    lines = list(csv.DictReader(io.StringIO(text)))
    files, scores = _scores(tmp_path / "out")
    for file, score in zip(files, scores, strict=True):
        mine = [float(line["score"]) for line in lines if line["file"] == file]
        assert len(mine) > 1
        assert score == max(mine)
    system = json.loads((folder / "system.json").read_text())
    assert system["facts"]["channel"] == "1"
    assert run(tmp_path, *MSE, "--window", 0.2, "--seeds", 0, out="mixed") == 0
    assert not np.allclose(scores, _scores(tmp_path / "mixed")[1])


def test_each_clip_is_told_beside_its_nearest_and_how_often_a_normal_one_scores_as_high(
    root: Path, tmp_path: Path
) -> None:
    assert run(tmp_path, *CLIP, "--seeds", 0) == 0
    folder = tmp_path / "out" / "seed_0"
    rows = pq.read_table(folder / "neighbours_fan_section_00_test.parquet").to_pylist()
    told = json.loads((folder / "system.json").read_text())
    calibration = told["calibration"]["fan/section_00"]
    train = {f"fan/train/{path.name}" for path in (root / "fan" / "train").iterdir()}
    for row in rows:
        assert {row["source_clip"], row["target_clip"]} <= train
        assert row["decided"] in ("source", "target")
        assert calibration["least_p"] <= row["p_value"] <= 1
    assert calibration["grouping"] == "auto"
    assert "left out in turn" in calibration["promise"]
    assert calibration["groups"] > 1


def test_clips_recorded_together_are_left_out_together(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[list[str]] = []
    whole = model.Training.model

    def watched(self: model.Training, *rest: Any) -> model.Model:
        used.append([self.batches.frames.clips[i].clip_id for i in self.batches.rows])
        return whole(self, *rest)

    monkeypatch.setattr(model.Training, "model", watched)
    assert run(tmp_path, *MSE, "--seeds", 0, "--group", "attribute:speed", out="speed") == 0
    clips = {clip.clip_id: clip.attributes["speed"] for clip in list_clips([root]).clips}
    _, *folds = used
    assert [{clips[clip] for clip in fold} for fold in folds] in ([{"0"}, {"1"}], [{"1"}, {"0"}])
    told = json.loads((tmp_path / "speed" / "seed_0" / "system.json").read_text())
    assert told["calibration"]["fan/section_00"]["groups"] == 2


def test_the_clips_not_trained_on_serve_where_there_are_enough_and_each_is_its_own_group() -> None:
    table = frame_table(
        FAN, "train", [ClipKey(f"{i:03d}", str(i), "source") for i in range(250)],
        list(np.random.default_rng(0).normal(size=(250, 128)).astype(np.float32)),
    )  # fmt: skip
    held, rows = set(range(0, 250, 10)), np.arange(250)
    plan = plan_threshold(table, rows, held, ThresholdOptions(group="none"), 3)
    assert set(plan.rows) == held
    assert set(plan.folds) == {MAIN}
    assert plan.judged.calibration.count == 25
    judged = plan.learn(np.arange(25.0))
    assert judged.threshold == fit_threshold(np.arange(25.0), groups=np.arange(25))
    few = plan_threshold(table, rows, set(range(19)), ThresholdOptions(group="none"), 3)
    assert len(few.rows) == 250
    assert set(few.folds) == {0, 1, 2}


@pytest.mark.usefixtures("root")
def test_what_the_clips_cannot_show_is_refused_before_training(tmp_path: Path, error_of: ErrorOf) -> None:
    said = error_of(main, *command(tmp_path, *MSE, "--false-alarms", "1/1000"))
    assert "--false-alarms 1/1000 is 1 in 1000 clips, but the" in said
    assert not (tmp_path / "cache" / "baselines" / "fan").exists()


def test_held_out_clips_are_a_tenth_of_each_domain() -> None:
    def held(source: int, target: int, seed: int = 0) -> tuple[int, int]:
        clips = [
            Clip(f"{domain}{i}", Path(f"{i}"), FAN, "train", domain)
            for domain, count in (("source", source), ("target", target))
            for i in range(count)
        ]
        chosen = [clips[i].domain for i in hold_out(clips, seed)]
        return chosen.count("source"), chosen.count("target")

    assert held(990, 10) == (99, 1)
    assert held(9, 2) == (1, 0)
    assert held(1, 1) == (1, 0)
    assert held(1, 0) == (0, 0)


def test_real_recordings_of_a_worn_bearing_score_above_healthy_ones(real_data: Path, tmp_path: Path) -> None:
    options = ["--mode", "mahalanobis", "--data", real_data / "dev_data", "--seeds", 0, "--no-report"]
    rest = ["--epochs", 4, "--jobs", 1, "--cache-dir", tmp_path / "cache", "--out", tmp_path]
    assert main([str(part) for part in (*options, *rest)]) == 0
    record = json.loads((tmp_path / "seed_0" / "results.json").read_text())
    assert record["sections"][0]["auc_source"] > 0.6
