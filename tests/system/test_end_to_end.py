"""The main job on real recordings, with the commands of the README."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cache.table import Section
from eval.results.submission import read_submission
from eval.run import main as evaluate
from extractors.run import main as extract
from index.run import main as build


@pytest.fixture(scope="module")
def cache(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    roots = [str(real_data / name) for name in ("dev_data", "eval_data")]
    assert extract(["--backbone", "logmel", "--data", *roots, "--cache-dir", str(folder)]) == 0
    return folder


@pytest.mark.parametrize(("scorer", "least"), [("min-distance", 0.74), ("domain-scale", 0.74)])
def test_the_official_score_of_the_default_chain(
    real_data: Path, cache: Path, tmp_path: Path, scorer: str, least: float
) -> None:
    chain = ["--backbone", "logmel", "--scorer", scorer, "--cache-dir", str(cache)]
    assert build(chain) == 0
    truth = ["--ground-truth", str(real_data / "ground_truth"), "--out", str(tmp_path)]
    assert evaluate([*chain, *truth]) == 0
    assert json.loads((tmp_path / "results.json").read_text())["official_score"] >= least
    submission = read_submission(tmp_path, Section("UavCw", 0))
    assert submission.files == tuple(f"section_00_{i:04d}.wav" for i in range(198))


def test_run_again_extracts_nothing(real_data: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    roots = [str(real_data / name) for name in ("dev_data", "eval_data")]
    assert extract(["--backbone", "logmel", "--data", *roots, "--cache-dir", str(cache)]) == 0
    assert "636 clips: 0 new, 0 changed, 636 unchanged, 0 left out" in capsys.readouterr().out
