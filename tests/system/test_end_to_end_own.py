"""One's own machine: recordings under any names, without domains, from folder to report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cache.table import Section
from eval.results.submission import read_submission
from eval.run import main as evaluate
from extractors.data.run import main as data
from extractors.demo.run import main as synthesise
from tests.conftest import write_clip

MACHINE = "Lager Nº 3 (Süd)"
SECTION = Section(MACHINE, 0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's fan."""
    folder = tmp_path_factory.mktemp("demo")
    assert synthesise(["--to", str(folder)]) == 0
    return folder / "dev_data" / "fan"


@pytest.fixture(params=["real", "synthetic"])
def source(request: pytest.FixtureRequest) -> Path:
    """A machine in the task's layout, with at least 30 training and 20 test clips."""
    if request.param == "real":
        folder: Path = request.getfixturevalue("real_data")
        return folder / "dev_data" / "BearingH"
    found: Path = request.getfixturevalue("made")
    return found


def copy_under_silly_names(source: Path, machine: Path, *, told: bool) -> dict[str, bool]:
    """Copy some clips; return what the test clips are, by their path below their folder."""
    for i, path in enumerate(sorted((source / "train").iterdir())[:40]):
        target = machine / "Normal" / f"Woche {i % 3}" / "früh" / f'{i:03d} ∅ "ok", 50%.wav'
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    clips = sorted((source / "test").iterdir())
    good = [path for path in clips if "_normal_" in path.name][:12]
    bad = [path for path in clips if "_anomaly_" in path.name][:12]
    truth = {}
    for i, path in enumerate([*good, *bad]):
        number = i % len(good) if told else i // 2  # the same names in both folders
        folder = ("abnormal" if path in bad else "normal") if told else f"Schicht {i % 2}"
        target = machine / "new" / folder / f"{number:03d}, normal.WAV"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        truth[f"{folder}/{target.name}"] = path in bad
    return truth


def test_two_commands_give_scores_threshold_and_report(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    truth = copy_under_silly_names(source, tmp_path / "my data" / MACHINE, told=False)
    assert data(["check", "my data"]) == 0
    assert evaluate(["logmel", "--data", "my data", "--out", "results"]) == 0
    said = capsys.readouterr().err
    assert "read as recordings of one's own, their names mean nothing" in said
    assert "distances to the normal clips, all of one domain" in said
    submission = read_submission(tmp_path / "results", SECTION)
    assert set(submission.files) == {name.replace("/", "__") for name in truth}
    labels = [truth[name.replace("__", "/")] for name in submission.files]
    assert roc_auc_score(labels, submission.scores) > 0.6
    limit = json.loads((tmp_path / "results" / "system.json").read_text())["thresholds"][str(SECTION)]
    assert submission.decisions is not None
    assert np.array_equal(submission.decisions, submission.scores > limit)
    page = (tmp_path / "results" / "report.html").read_text(encoding="utf-8")
    assert "Schicht 0__000, normal.WAV" in page
    assert not (tmp_path / "results" / "results.csv").exists()


def test_folders_that_tell_the_truth_give_figures_without_domains(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    truth = copy_under_silly_names(made, Path("data") / MACHINE, told=True)
    assert evaluate(["logmel", "--data", "data", "--out", "results"]) == 0
    submission = read_submission(Path("results"), SECTION)
    labels = [truth[name.replace("__", "/")] for name in submission.files]
    (row,) = json.loads(Path("results/results.json").read_text())["sections"]
    assert row["auc"] == pytest.approx(roc_auc_score(labels, submission.scores))


def test_one_clip_each_is_enough_to_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(Path("press/train/a.wav"), 1, 6.0)
    write_clip(Path("press/test/b.wav"), 2, 18.0, 44_100)
    assert evaluate(["logmel", "--data", "press", "--out", "results"]) == 0
    assert read_submission(Path("results"), Section("press", 0)).files == ("b.wav",)
