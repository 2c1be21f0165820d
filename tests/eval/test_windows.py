"""Long recordings and several channels: cut, scored by window and by file, told by recipes."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cache.base.errors import AsdError
from cache.heard import split_id, window_id
from cache.store import Store
from cache.table import ClipKey, EmbeddingTable, Section
from eval.results.names import result_names
from eval.results.submission import read_submission
from eval.run import main as evaluate
from extractors.audio import files as soundfiles
from extractors.audio.hearing import Hearing, hearing_of
from extractors.run import main as extract
from index.calibration import calibrate
from index.groups import group_clips
from index.run import main as build
from index.scorer import find
from index.threshold import Threshold, fit_threshold, largest_limit, largest_p_values, p_values

ErrorOf = Callable[..., str]
PRESS = Section("press", 0)
RATE = 16_000


def noise(path: Path, seconds: float, seed: int, *, loud: tuple[float, float] | None = None) -> Path:
    """White noise; between two times a tone drowns it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = np.random.default_rng(seed).normal(0, 0.02, int(seconds * RATE))
    if loud:
        part = slice(int(loud[0] * RATE), int(loud[1] * RATE))
        wave[part] += 0.5 * np.sin(2 * np.pi * 3000 * np.arange(wave[part].size) / RATE)
    soundfile.write(path, wave, RATE)
    return path


@pytest.fixture
def long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for i in range(6):
        noise(tmp_path / f"data/press/train/{i}.flac", 4.0, i)
    noise(tmp_path / "data/press/test/good.wav", 5.3, 10)
    noise(tmp_path / "data/press/test/bad.wav", 5.3, 11, loud=(3.1, 3.9))
    noise(tmp_path / "data/press/test/short.wav", 0.5, 12)
    return tmp_path


def test_spans_cover_the_file_and_stay_inside() -> None:
    hearing = Hearing(window=10, hop=10)
    assert hearing.spans(30.0) == [(0, 10), (10, 20), (20, 30)]
    assert hearing.spans(25.0) == [(0, 10), (10, 20), (15, 25)]
    assert hearing.spans(10.0) == [(0, 10)]
    assert hearing.spans(4.0) == [(0, 4)]
    assert Hearing(window=10, hop=5).spans(20.0) == [(0, 10), (5, 15), (10, 20)]


@settings(deadline=None)
@given(st.floats(0.01, 100), st.floats(0.05, 60), st.floats(0.02, 1))
def test_any_window_and_hop_leave_nothing_out(seconds: float, window: float, share: float) -> None:
    spans = Hearing(window=window, hop=max(window * share, 0.05 * min(1, window))).spans(seconds)
    assert spans[0][0] == 0
    assert seconds - spans[-1][1] < 5e-3
    assert spans[-1][1] <= seconds + 2e-3
    assert all(b[0] <= a[1] + 2e-3 for a, b in pairwise(spans))
    assert len({window_id("x", span) for span in spans}) == len(spans)


@settings(deadline=None)
@given(st.text(min_size=1), st.integers(0, 10**8), st.integers(1, 10**6))
def test_ids_of_windows_are_read_back(file: str, start: int, length: int) -> None:
    span = (start / 1000, (start + length) / 1000)
    assert split_id(window_id(file, span)) == (file, pytest.approx(span))


def test_a_window_id_is_legible() -> None:
    assert window_id("a/b.wav", (10.0, 20.0)) == "a/b.wav#t=10-20"
    assert window_id("a/b.wav", (0.25, 1.5)) == "a/b.wav#t=0.25-1.5"
    assert split_id("a/b#t=1.wav") == ("a/b#t=1.wav", None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--window", "0"], "expected a number from 0.001"),
        (["--window", "-3"], "expected a number from 0.001"),
        (["--hop", "3"], "give --window too"),
        (["--window", "2", "--hop", "3"], "leaves gaps between windows of 2 s"),
        (["--window", "nan"], "expected a number from 0.001"),
        (["--channel", "left"], "channel 'left' is not one of average, near, far"),
    ],
)
def test_options_that_make_no_sense(root: Path, error_of: ErrorOf, options: list[str], message: str) -> None:
    assert message in error_of(extract, "--data", root, *options)


def test_files_are_scored_by_their_worst_window(long: Path) -> None:
    assert extract(["--backbone", "logmel", "--data", "data", "--window", "1", "--hop", "1"]) == 0
    (recipe,) = Store(long / "artifacts").recipes()
    assert hearing_of(recipe) == Hearing("average", 1.0, 1.0)
    table = Store(long / "artifacts").read(recipe, PRESS, "test")
    assert [i for i in table.clip_ids if "good" in i] == [
        f"press/test/good.wav#t={span}" for span in ("0-1", "1-2", "2-3", "3-4", "4-5", "4.3-5.3")
    ]
    assert "press/test/short.wav" in table.clip_ids
    assert build(["--backbone", "logmel", "--scorer", "min-distance"]) == 0
    out = ["--audio", "data", "--out", "results"]
    assert evaluate(["--backbone", "logmel", "--scorer", "min-distance", *out]) == 0
    found = read_submission(Path("results"), PRESS)
    assert found.files == ("bad.wav", "good.wav", "short.wav")
    with Path("results/windows_press_section_00_test.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    for name, score in zip(found.files[:2], found.scores[:2], strict=True):
        assert max(float(row["score"]) for row in rows if row["file"] == name) == score
    worst = max(rows, key=lambda row: float(row["score"]))
    assert (worst["file"], worst["start_s"], worst["end_s"]) == ("bad.wav", "3.0", "4.0")
    assert found.decisions is not None
    assert found.decisions.tolist()[:2] == [1, 0]
    why = pd.read_parquet("results/neighbours_press_section_00_test.parquet").set_index("name")
    assert why.loc["bad.wav", "clip_id"] == "press/test/bad.wav#t=3-4"
    page = Path("results/report.html").read_text(encoding="utf-8")
    assert "press/test/bad.wav#t=3-4" in page
    assert '"span":[3.0,4.0]' in page.replace(" ", "")


@pytest.mark.usefixtures("long")
def test_a_bank_of_windows_cuts_new_recordings_itself() -> None:
    assert extract(["--backbone", "logmel", "--data", "data", "--window", "1", "--hop", "0.5"]) == 0
    assert build(["--backbone", "logmel", "--window", "1", "--bank", "bank"]) == 0
    assert evaluate(["--backbone", "logmel", "--out", "a", "--no-report"]) == 2  # another bank
    assert evaluate(["--bank", "bank", "--out", "a", "--no-report"]) == 0
    assert evaluate(["--bank", "bank", "--data", "data", "--out", "b", "--no-report"]) == 0
    here, there = (read_submission(Path(folder), PRESS) for folder in "ab")
    assert here.files == there.files
    np.testing.assert_allclose(here.scores, there.scores, rtol=1e-5)


def test_each_file_is_hashed_once_and_a_bad_window_is_named(
    long: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = long / "data/press/test/good.wav"
    samples, _ = soundfile.read(path)
    samples[int(2.5 * RATE)] = np.nan
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    # A file written a moment ago is hashed anew each time: its times might not tell of a change.
    monkeypatch.setattr(soundfiles, "_MOMENT", 0)
    hashed: list[str] = []
    digest = hashlib.file_digest

    def counting(file: Any, kind: str) -> Any:
        hashed.append(file.name)
        return digest(file, kind)

    monkeypatch.setattr(soundfiles.hashlib, "file_digest", counting)
    assert extract(["--backbone", "logmel", "--data", "data", "--window", "1"]) == 1
    said = capsys.readouterr()
    assert "good.wav: 2 to 3 s: 1 of 16000 samples are NaN" in said.err
    assert "windows of 8 recordings among them" in said.out
    assert "good.wav" in " ".join(hashed)
    assert sorted(hashed) == sorted(set(hashed))
    assert extract(["--backbone", "logmel", "--data", "data", "--window", "1"]) == 1
    assert "0 new, 0 changed, 36 unchanged" in capsys.readouterr().out


def test_the_limit_of_the_largest_of_several() -> None:
    rng = np.random.default_rng(0)
    train = rng.gamma(2.0, 1.0, 4000)
    threshold = fit_threshold(train, "gamma", 90.0)
    shape, scale = threshold.parameters["shape"], threshold.parameters["scale"]
    for count in (1, 5, 60):
        limit = largest_limit(threshold, train, count)
        assert stats.gamma.cdf(limit, shape, 0, scale) ** count == pytest.approx(0.9)
        alarms = (rng.gamma(2.0, 1.0, (4000, count)).max(axis=1) > limit).mean()
        assert alarms == pytest.approx(0.1, abs=0.025)
    assert largest_limit(Threshold(np.inf, "gamma", 90.0), train, 5) == np.inf
    scores, counts = np.array([1.0, 9.0]), np.array([1, 3])
    plain = p_values(train, scores)
    found = largest_p_values(train, scores, counts)
    assert found.tolist() == pytest.approx([plain[0], 1 - (1 - plain[1]) ** 3])


def windows(files: int, each: int) -> EmbeddingTable:
    """Files far apart, their windows close together."""
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 10, (files, 4))
    keys = tuple(
        ClipKey(window_id(f"{file}.wav", (i, i + 1)) if each > 1 else f"{file}.wav", f"{file:064x}")
        for file in range(files)
        for i in range(each)
    )
    values = np.repeat(centres, each, axis=0) + rng.normal(0, 0.01, (files * each, 4))
    return EmbeddingTable(PRESS, "train", keys, values.astype(np.float32), {"a": (0, 4)})


def test_windows_are_held_out_with_their_whole_file() -> None:
    table, scorer = windows(6, 8), find("min-distance")
    found = calibrate(scorer, table, group_clips(table, "none"), "none").scores
    fold = np.repeat(np.arange(6), 8)
    values = table.embeddings.astype(np.float64)
    scale = values.std(axis=0)
    assert len(found) == 48
    for row in (0, 17, 47):
        others = values[fold != fold[row]]
        fitted = scorer()
        fitted.fit(table.select(np.flatnonzero(fold != fold[row])))
        assert found[row] == pytest.approx(fitted.score(table.embeddings[[row]])[0])
        assert np.linalg.norm((others - values[row]) / scale, axis=1).min() > 0.1
    alone = scorer()
    alone.fit(table)
    assert found.min() > 10 * np.median(alone.train_scores())


@pytest.mark.parametrize(("files", "each"), [(1, 8), (8, 1)])
def test_nothing_is_held_out_without_windows_of_two_files(files: int, each: int) -> None:
    table = windows(files, each)
    groups = group_clips(table, "none")
    assert groups.count == files
    assert calibrate(find("min-distance"), table, groups, "none").scores.size == 0


def test_one_recording_in_windows_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    noise(tmp_path / "press/train/a.wav", 5.0, 1)
    assert extract(["--backbone", "logmel", "--data", "press", "--window", "1"]) == 0
    assert build(["--backbone", "logmel"]) == 0
    assert "the windows of one recording only" in capsys.readouterr().err


@pytest.fixture
def stereo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        for i in range(3):
            path = noise(tmp_path / f"data/press/{split}/{split}{i}.wav", 0.5, i)
            near, _ = soundfile.read(path)
            soundfile.write(path, np.column_stack([near, 0.1 * near[::-1]]), RATE)
    return tmp_path


def test_near_and_far_become_features_of_their_own(stereo: Path) -> None:
    assert extract(["--backbone", "logmel", "--data", "data", "--channel", "both"]) == 0
    assert extract(["--backbone", "logmel", "--data", "data"]) == 0
    store = Store(stereo / "artifacts")
    by_channel = {hearing_of(recipe).channel: recipe for recipe in store.recipes()}
    assert by_channel.keys() == {"near", "far", "average"}
    assert len({recipe.fingerprint for recipe in by_channel.values()}) == 3
    near, far = (store.read(by_channel[name], PRESS, "test").embeddings for name in ("near", "far"))
    assert np.abs(near - far).max() > 0.1
    assert build(["--backbone", "logmel", "--channel", "both", "--bank", "bank"]) == 0
    both = ["--backbone", "logmel", "--channel", "both", "--bank", "bank", "--no-report"]
    assert evaluate([*both, "--out", "a"]) == 0
    assert evaluate([*both, "--out", "b", "--data", "data"]) == 0
    here, there = (read_submission(Path(folder), PRESS) for folder in "ab")
    np.testing.assert_allclose(here.scores, there.scores, rtol=1e-5)
    assert "channel=near" in json.loads(Path("a/system.json").read_text())["facts"]["embeddings"]


def test_the_channel_must_be_said_where_several_are_cached(stereo: Path, error_of: ErrorOf) -> None:
    assert extract(["--backbone", "logmel", "--data", "data", "--channel", "both"]) == 0
    assert "2 recipes fit; choose with" in error_of(build, "--backbone", "logmel")
    assert build(["--backbone", "logmel", "--channel", "far"]) == 0
    assert stereo.is_dir()


def test_a_channel_that_is_not_there_is_named_file_by_file(
    root: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ["--data", str(root), "--channel", "far", "--cache-dir", str(tmp_path / "a")]
    assert extract(command) == 1
    assert "no channel far: it has 1; --channel average takes any file" in capsys.readouterr().err


def test_result_names_tell_files_apart() -> None:
    assert result_names(["a/test/x.wav", "a/test/y/z.wav"]) == ("x.wav", "z.wav")
    assert result_names(["a/test/m/x.wav", "a/test/t/x.wav#t=0-1", "a/test/t/x.wav#t=1-2"]) == (
        *("m__x.wav", "t__x.wav", "t__x.wav"),
    )
    with pytest.raises(AsdError, match=r"several test clips would be called 'm__x.wav'"):
        result_names(["a/m/x.wav", "a/m__x.wav", "a/b/x.wav"])


def test_options_of_tables_mean_nothing_to_an_experiment(root: Path, error_of: ErrorOf) -> None:
    for option in (["--layer", "0"], ["--pooling", "mean"], ["--weights", "far.pt"]):
        said = error_of(evaluate, "logmel", "--data", root, *option)
        assert f"{option[0]} means nothing to an experiment, which says so itself: --set" in said


def test_an_experiment_says_how_recordings_are_heard(stereo: Path) -> None:
    chain = ["logmel", "--data", "data", "--no-report", "--set"]
    assert evaluate([*chain, "window=0.2", "channel=both", "--out", "both"]) == 0
    assert evaluate([*chain[:-1], "--window", "0.2", "--hop", "0.1", "--out", "windows"]) == 0
    assert evaluate([*chain, "year=2026", "--out", "whole"]) == 0  # whatever else the cache holds
    embeddings = {
        out: json.loads(Path(f"{out}/system.json").read_text())["facts"]["embeddings"]
        for out in ("both", "windows", "whole")
    }
    assert embeddings["both"].count("window_s=0.2 hop_s=0.2") == 2
    assert embeddings["windows"].endswith("window_s=0.2 hop_s=0.1")
    assert "_s=" not in embeddings["whole"]
    assert Path("windows/windows_press_section_00_test.csv").is_file()
    assert not Path("whole/windows_press_section_00_test.csv").exists()
    assert (stereo / "artifacts").is_dir()
