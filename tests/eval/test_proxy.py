"""Synthetic clips in index and evaluation: out of the bank unless asked, marked everywhere."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache.base.errors import AsdError
from cache.recipe import Recipe
from cache.store import Store
from cache.table import Section
from eval.baselines.run import main as baselines
from eval.judge import JudgeRequest, judge
from eval.results.submission import Submission
from eval.results.truth import Truth, align
from eval.run import main as evaluate
from extractors.run import main as extract
from finetune.synthesise import main as synthesise
from index.bank import Bank
from index.run import main as build
from tests.conftest import write_root

ErrorOf = Callable[..., str]
CHAIN = ["--backbone", "logmel", "--scorer", "min-distance"]
PROXY = "proxy: synthetic anomalies"


def made(root: Path, to: Path, kind: str, *methods: str) -> Path:
    common = ["--data", str(root), "--to", str(to), "--as", kind, "--per-section", "6"]
    assert synthesise([*common, "--method", *methods]) == 0
    return to


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_root(tmp_path / "data", source=10, target=4)


@pytest.fixture
def proxy(root: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A proxy root, and a cache of its tables and bank."""
    folder, cache = made(root, tmp_path / "proxy", "proxy", "bearing", "clipping"), tmp_path / "c"
    assert extract(["--backbone", "logmel", "--data", str(folder), "--cache-dir", str(cache)]) == 0
    assert build([*CHAIN, "--cache-dir", str(cache)]) == 0
    return folder, cache


def run(cache: Path, out: Path, *options: str) -> int:
    return evaluate([*CHAIN, "--cache-dir", str(cache), "--out", str(out), *options])


def is_marked(out: Path) -> None:
    assert json.loads((out / "results.json").read_text())["proxy"] == PROXY
    with (out / "results.csv").open(newline="") as file:
        assert {row["proxy"] for row in csv.DictReader(file)} == {PROXY}
    lines = (out / "results.md").read_text().splitlines()
    assert lines[0].endswith(f"({PROXY})")
    assert any(line.startswith(f"official score ({PROXY}): ") for line in lines)
    assert any(line.startswith("Proxy: the anomalies are synthetic") for line in lines)
    assert PROXY in (out / "report.html").read_text()


def test_an_evaluated_proxy_says_so_everywhere(
    proxy: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(proxy[1], tmp_path / "out") == 0
    is_marked(tmp_path / "out")
    said = capsys.readouterr().out
    assert said.startswith(f"logmel, min-distance ({PROXY})")
    assert f"official score ({PROXY}): " in said
    # The bank of the training clips, the test clips straight from the root.
    assert run(proxy[1], tmp_path / "direct", "--data", str(proxy[0])) == 0
    is_marked(tmp_path / "direct")


def test_a_submission_on_a_proxy_is_known_by_its_names(proxy: tuple[Path, Path], tmp_path: Path) -> None:
    assert run(proxy[1], tmp_path / "out") == 0
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for path in (tmp_path / "out").glob("*_section_00_test.csv"):
        shutil.copy(path, theirs)
    assert evaluate(["--submission", str(theirs), "--out", str(tmp_path / "judged")]) == 0
    is_marked(tmp_path / "judged")
    judged = judge(JudgeRequest(theirs, "theirs"))
    assert judged.is_proxy
    assert judged.data_set(Section("fan", 0)) == "proxy"
    both = ["--submission", str(theirs), str(tmp_path / "out")]
    assert evaluate([*both, "--out", str(tmp_path / "ranked")]) == 0
    assert (tmp_path / "ranked" / "ranking.md").read_text().count(f"({PROXY})") == 2
    systems = json.loads((tmp_path / "ranked" / "ranking.json").read_text())["systems"]
    assert {system["proxy"] for system in systems} == {PROXY}
    with (tmp_path / "ranked" / "ranking.csv").open(newline="") as file:
        assert {row["proxy"] for row in csv.DictReader(file)} == {PROXY}


def test_recordings_are_not_marked(root: Path, tmp_path: Path) -> None:
    cache, out = tmp_path / "c", tmp_path / "out"
    assert extract(["--backbone", "logmel", "--data", str(root), "--cache-dir", str(cache)]) == 0
    assert build([*CHAIN, "--cache-dir", str(cache)]) == 0
    assert run(cache, out) == 0
    assert json.loads((out / "results.json").read_text())["proxy"] is None
    assert PROXY not in (out / "results.md").read_text() + (out / "results.csv").read_text()


def test_synthetic_and_recorded_test_clips_are_not_mixed(
    root: Path, proxy: tuple[Path, Path], tmp_path: Path, error_of: ErrorOf
) -> None:
    for path in (proxy[0] / "fan" / "test").glob("*_source_test_anomaly_*"):
        shutil.copy(path, root / "fan" / "test")
    said = error_of(evaluate, *CHAIN, "--cache-dir", proxy[1], "--data", root, "--out", tmp_path / "out")
    assert "4 of 8 test clips are synthetic" in said
    assert not (tmp_path / "out" / "results.json").exists()


def test_truth_from_folders_does_not_hide_what_names_tell() -> None:
    name = "section_00_source_test_anomaly_0000_speed_1_synthetic_bearing.wav"
    section = Section("fan", 0)

    def submitted(*files: str) -> Submission:
        return Submission(section, files, np.arange(len(files)) / 1.0, np.zeros(len(files), int))

    assert align(submitted(name), {name: Truth(True)}).synthetic
    assert align(submitted("a.wav"), {"a.wav": Truth(True, name=name)}).synthetic
    assert align(submitted("a.wav"), {"a.wav": Truth(True, synthetic=True)}).synthetic
    assert not align(submitted("a.wav"), {"a.wav": Truth(True, name="b_1.wav")}).synthetic
    with pytest.raises(AsdError, match="1 of 2 test clips are synthetic"):
        align(submitted("a.wav", name), {"a.wav": Truth(False), name: Truth(True)})


def test_baselines_take_recordings_alone(proxy: tuple[Path, Path], tmp_path: Path, error_of: ErrorOf) -> None:
    said = error_of(baselines, "--mode", "mse", "--data", proxy[0], "--out", tmp_path / "out")
    assert "clips are synthetic" in said


def bank_of(cache: Path, *options: str) -> Bank:
    before = set(cache.glob("banks/*/*"))
    assert build([*CHAIN, "--cache-dir", str(cache), *options]) == 0
    (folder,) = set(cache.glob("banks/*/*")) - before
    return Bank(folder)


def test_synthetic_clips_join_the_target_bank_only_when_asked(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], error_of: ErrorOf
) -> None:
    more, cache = made(root, tmp_path / "more", "normals", "speed", "mixup"), tmp_path / "c"
    assert extract(["--backbone", "logmel", "--data", str(root), str(more), "--cache-dir", str(cache)]) == 0
    plain, fan = bank_of(cache), Section("fan", 0)
    assert "note: 6 synthetic training clips left out of the bank" in capsys.readouterr().err
    joined = bank_of(cache, "--synthetic")
    assert "note: 6 synthetic training clips are in the bank" in capsys.readouterr().err
    recipe = plain.recipe()
    assert dict(plain.read(fan, recipe).clips) == {"source": 10, "target": 4}
    assert dict(joined.read(fan, recipe).clips) == {"source": 10, "target": 10}
    assert (plain.read(fan, recipe).synthetic, joined.read(fan, recipe).synthetic) == (0, 6)
    said = error_of(evaluate, *CHAIN, "--cache-dir", cache, "--out", tmp_path / "out")
    assert "synthetic clips=6" in said
    table = Store(cache).read(recipe, fan, "train")
    rows = [row for row, key in enumerate(table.keys) if key.synthetic]
    scores = [bank.read(fan, recipe).scorer.score(table.embeddings[rows]) for bank in (plain, joined)]
    assert (scores[0] > 1e-3).all()
    assert np.allclose(scores[1], 0, atol=1e-3)


def test_a_bank_without_synthetic_clips_is_the_bank_of_the_recordings(root: Path, tmp_path: Path) -> None:
    more = made(root, tmp_path / "more", "normals", "noise")
    banks = {}
    for name, roots in {"plain": [root], "both": [root, more]}.items():
        cache = tmp_path / name
        assert extract(["--backbone", "logmel", "--data", *map(str, roots), "--cache-dir", str(cache)]) == 0
        banks[name] = bank_of(cache)
    recipe: Recipe = banks["plain"].recipe()
    one, two = (bank.read(Section("fan", 0), recipe) for bank in banks.values())
    assert one.threshold == two.threshold
    assert np.array_equal(one.scorer.train_scores(), two.scorer.train_scores())


def test_only_synthetic_training_clips_are_no_bank(
    root: Path, tmp_path: Path, error_of: ErrorOf, capsys: pytest.CaptureFixture[str]
) -> None:
    more, cache = made(root, tmp_path / "more", "normals", "noise"), tmp_path / "c"
    assert extract(["--backbone", "logmel", "--data", str(more), "--cache-dir", str(cache)]) == 0
    capsys.readouterr()
    said = error_of(build, *CHAIN, "--cache-dir", cache)
    assert "has only synthetic training clips" in said
    assert build([*CHAIN, "--cache-dir", str(cache), "--synthetic"]) == 0


def test_asking_for_synthetic_clips_where_there_are_none_is_told(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert extract(["--backbone", "logmel", "--data", str(root), "--cache-dir", str(tmp_path / "c")]) == 0
    assert build([*CHAIN, "--cache-dir", str(tmp_path / "c"), "--synthetic"]) == 0
    assert "--synthetic changes nothing" in capsys.readouterr().err
