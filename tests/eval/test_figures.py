"""Figures as files, and the maps of embeddings behind them."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from cache.table import Section
from eval.judge import JudgeRequest, judge
from eval.page.data import implied_threshold, roc_curves
from eval.results.folder import ResultsFolder
from eval.results.submission import Submission, write_submission
from eval.run import main
from eval.scoring.maps import map_path, write_map
from tests.conftest import make_table

FAN = Section("fan", 0)


def write_run(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    names = [f"section_00_{domain}_test_{condition}_{i:04d}" for domain in ("source", "target")
             for condition in ("normal", "anomaly") for i in range(20)]  # fmt: skip
    scores = rng.normal(0, 1, 80) + np.tile(np.repeat([0, 1], 20), 2)
    write_submission(ResultsFolder(folder), Submission(FAN, tuple(names), scores, scores > 0.5))
    return folder


def test_figures_for_a_paper(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "sub")
    train, test = (
        make_table(np.random.default_rng(i).normal(0, 1, (9, 4)), section=FAN, split=split)
        for i, split in enumerate(("train", "test"))
    )
    write_map(ResultsFolder(folder), train, lambda: [test], "pca")
    for out in ("a", "b"):
        assert main(["--submission", str(folder), "--figures", "--out", str(tmp_path / out)]) == 0
    names = ["domains", "map_fan_section_00", "roc_fan_section_00", "scores_fan_section_00"]
    files = sorted((tmp_path / "a" / "figures").iterdir())
    assert [path.stem for path in files] == sorted(names * 2)
    for path in files:
        assert path.read_bytes() == (tmp_path / "b" / "figures" / path.name).read_bytes()
        if path.suffix == ".png":
            assert len(np.unique(matplotlib.image.imread(path).reshape(-1, 4), axis=0)) > 20
        else:
            assert path.read_bytes().startswith(b"%PDF")


def test_what_is_not_installed_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "sub")
    monkeypatch.setattr("eval.evaluate.find_spec", lambda _: None)
    assert main(["--submission", str(folder), "--figures", "--out", str(tmp_path / "out")]) == 2
    assert "pip install 'machine-asd[figures]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_roc_corners_enclose_the_area(tmp_path: Path) -> None:
    run = judge(JudgeRequest(write_run(tmp_path), "sub"))
    one, truth = run.read(FAN)
    for name, curve in roc_curves(one.scores, truth, run.rule).items():
        false, true = np.array(curve).T
        area = np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2)
        assert area == pytest.approx(run.results[FAN].figures[name])
        assert (curve[0], curve[-1]) == ((0.0, 0.0), (1.0, 1.0))


def test_a_threshold_lies_between_the_decisions() -> None:
    scores, files = np.array([1.0, 2.0, 4.0]), ("a", "b", "c")

    def implied(decisions: list[int] | None) -> float | None:
        called = None if decisions is None else np.array(decisions)
        return implied_threshold(Submission(FAN, files, scores, called))

    assert implied([0, 0, 1]) == 3.0
    assert implied([1, 0, 1]) is None  # no threshold makes such decisions
    assert implied([0, 0, 0]) is implied([1, 1, 1]) is implied(None) is None


@pytest.mark.parametrize("trained", [True, False])
def test_a_map_is_the_two_widest_directions(tmp_path: Path, trained: bool) -> None:
    rng = np.random.default_rng(1)
    train, test = (
        make_table(rng.normal(0, 1, (n, 6)) @ np.diag([9, 5, 1, 1, 1, 0]) + 3, section=FAN, split=s)
        for n, s in ((40, "train"), (7, "test"))
    )
    write_map(ResultsFolder(tmp_path), train if trained else None, lambda: [test], "pca")
    found = pd.read_parquet(map_path(tmp_path, FAN))
    tables = [train, test] if trained else [test]
    reference = tables[0].embeddings.astype(float)
    deviation = reference.std(axis=0)
    deviation[deviation == 0] = 1
    standard = [(t.embeddings - reference.mean(axis=0)) / deviation for t in tables]
    axes = np.linalg.svd(standard[0], full_matrices=False)[2][:2]
    expected = np.vstack(standard) @ axes.T
    for column, name in enumerate("xy"):
        sign = np.sign(found[name] @ expected[:, column])
        np.testing.assert_allclose(found[name] * sign, expected[:, column], atol=1e-5)
    assert found.clip_id.tolist() == [clip for table in tables for clip in table.clip_ids]


def test_one_clip_has_a_place(tmp_path: Path) -> None:
    one = make_table([[1.0, 2.0]], section=FAN, split="test")
    write_map(ResultsFolder(tmp_path), None, lambda: [one], "pca")
    assert np.isfinite(pd.read_parquet(map_path(tmp_path, FAN))[["x", "y"]]).all(axis=None)


@pytest.mark.filterwarnings("ignore")  # of libraries below umap-learn
def test_umap_keeps_clusters_apart(tmp_path: Path) -> None:
    pytest.importorskip("umap.umap_", reason="umap-learn is not installed")
    rng = np.random.default_rng(2)
    values = rng.normal(0, 0.1, (40, 5)) + np.repeat([[0], [9]], 20, axis=0)
    test = make_table(values[:2], section=FAN, split="test")
    write_map(ResultsFolder(tmp_path), make_table(values, section=FAN), lambda: [test], "umap")
    found = pd.read_parquet(map_path(tmp_path, FAN))[["x", "y"]].to_numpy()[:40]
    inside = np.linalg.norm(found[:20] - found[:20].mean(axis=0), axis=1).max()
    assert np.linalg.norm(found[:20].mean(axis=0) - found[20:].mean(axis=0)) > inside
