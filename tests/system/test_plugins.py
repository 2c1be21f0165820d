"""Another package's scorer, backbone and pooling: installed, listed, run; a broken one is named."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cache.base.errors import AsdError
from cache.base.plugins import Plugins
from cache.store import Store
from extractors import pooling
from tests.conftest import PATIENCE

REPOSITORY = Path(__file__).parents[2]
BROKEN = {
    "METADATA": "Metadata-Version: 2.1\nName: asd-broken\nVersion: 2.5\n",
    "entry_points.txt": "[machine_asd.scorers]\nbad = asd_broken\n"
    "[machine_asd.backbones]\nlogmel = asd_broken\n",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to put on the path: the example as pip installs it, and a package that is broken."""
    folder = tmp_path_factory.mktemp("plugins")
    # A copy: setuptools writes beside what it builds.
    source = shutil.copytree(REPOSITORY / "examples" / "plugin", folder / "source")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation",
               "--no-index", "--disable-pip-version-check", "--root-user-action=ignore",
               "--target", folder / "site", source]  # fmt: skip
    subprocess.run(command, check=True, timeout=PATIENCE)
    (folder / "site" / "asd_broken.py").write_text("raise ZeroDivisionError('in its own code')\n")
    record = folder / "site" / "asd_broken-2.5.dist-info"
    record.mkdir()
    for name, text in BROKEN.items():
        (record / name).write_text(text)
    return folder / "site"


def run(installed: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(installed), str(REPOSITORY)])
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        check=False, text=True, capture_output=True, timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "500"},
    )  # fmt: skip


def test_a_package_of_another_adds_choices(installed: Path, root: Path, tmp_path: Path) -> None:
    where = ("--cache-dir", tmp_path / "cache")
    chosen = ("--backbone", "octaves", "--pooling", "median:q=0.25", "--bands", "keep")
    made = run(installed, "extractors.run", "--data", root, *chosen, *where)
    assert (made.returncode, made.stderr) == (0, "")
    scorer = "nearest-mean:power=1"
    made = run(installed, "index.run", "--scorer", scorer, "--bank", tmp_path / "bank", *where)
    assert made.returncode == 0, made.stderr
    made = run(installed, "eval.run", "--bank", tmp_path / "bank", "--out", tmp_path / "out",
               "--no-report", *where)  # fmt: skip
    assert made.returncode == 0, made.stderr

    store = Store(tmp_path / "cache")
    (recipe,) = store.recipes()
    assert (recipe.backbone, recipe.pooling) == ("octaves", "median:q=0.25")
    for section in {stored.section for stored in store.tables(recipe)}:
        train, test = (store.read(recipe, section, split) for split in ("train", "test"))
        assert train.embeddings.shape[1] == 7
        is_target = np.array([key.domain == "target" for key in train.keys])
        means = [train.embeddings[is_target == flag].astype(float).mean(0) for flag in (False, True)
                 if (is_target == flag).any()]  # fmt: skip
        expected = np.min([np.abs(test.embeddings - mean).sum(1) for mean in means], axis=0)
        name = f"anomaly_score_{section.machine_type}_section_{section.number:02d}_test.csv"
        with next((tmp_path / "out").rglob(name)).open(newline="") as file:
            found = {row[0]: float(row[1]) for row in csv.reader(file)}
        for clip_id, score in zip(test.clip_ids, expected, strict=True):
            assert found[Path(clip_id).name] == pytest.approx(score, rel=1e-6)


def test_the_examples_run(installed: Path, tmp_path: Path) -> None:
    rate = 16_000
    times = np.arange(rate) / rate
    for folder, count, hum in (("normal", 24, 0.0), ("new", 4, 0.0), ("abnormal", 4, 0.3)):
        for i in range(count):
            noise = np.random.default_rng([count, i, int(hum > 0)]).normal(0, 0.1, rate)
            path = tmp_path / "a pump" / folder / f"{folder} {i}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, noise + hum * np.sign(np.sin(2 * np.pi * 440 * times)), rate)
    normal, new, abnormal = (tmp_path / "a pump" / name for name in ("normal", "new", "abnormal"))

    def said(name: str, *arguments: object) -> list[str]:
        path = os.pathsep.join([str(installed), str(REPOSITORY)])
        done = subprocess.run(
            [sys.executable, REPOSITORY / "examples" / f"{name}.py", *map(str, arguments)],
            check=False, text=True, capture_output=True, timeout=PATIENCE, cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    lines = said("own_folder", normal, abnormal)
    assert len(lines) == 4
    assert all(": abnormal, score" in line for line in lines)
    lines = said("compare_scorers", normal, new, abnormal, "min-distance", "ldn")
    assert [line.split() for line in lines] == [["min-distance", "1.000"], ["ldn", "1.000"]]
    lines = said("own_backbone", normal, abnormal)
    assert [line.split(",")[0] for line in lines] == ["crest: 4 of 4 abnormal", "logspec: 4 of 4 abnormal"]


def test_help_and_list_say_where_each_comes_from(installed: Path) -> None:
    said = " ".join(run(installed, "extractors.run", "--help").stdout.split())
    assert "octaves (of asd-example 0.1.0), panns" in said
    assert "mean+std, median (of asd-example 0.1.0), native" in said
    said = " ".join(run(installed, "index.run", "--help").stdout.split())
    assert "nearest-mean (of asd-example 0.1.0)" in said
    told = run(installed, "cache.asd", "list", "--json")
    rows = {(row["kind"], row["name"]): row for row in map(json.loads, told.stdout.splitlines())
            if "name" in row}  # fmt: skip
    assert rows["scorer", "nearest-mean"]["origin"] == "asd-example 0.1.0"
    assert rows["backbone", "octaves"]["loads"]
    assert rows["pooling", "median"]["loads"]
    assert rows["scorer", "ldn"]["origin"] == "machine-asd"


def test_a_broken_package_is_named_and_stops_no_other(installed: Path, tmp_path: Path) -> None:
    told = run(installed, "cache.asd", "list")
    assert told.returncode == 1
    assert (
        "scorer 'bad' of asd-broken 2.5 cannot be loaded from asd_broken: ZeroDivisionError: in its "
        "own code; mend or uninstall that package"
    ) in told.stderr
    assert told.stderr.count("cannot be loaded") == 1  # what is called as ours is not asked for
    used = run(installed, "index.run", "--scorer", "bad", "--cache-dir", tmp_path)
    assert used.returncode == 2
    assert "asd-broken 2.5" in used.stderr
    mistyped = run(installed, "index.run", "--scorer", "nearest-maen", "--cache-dir", tmp_path)
    assert "did you mean 'nearest-mean'?" in mistyped.stderr


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("gwrp:r=0.4", "gwrp:0.4"),
        ("gwrp:0.4", "gwrp:0.4"),
        ("rdp+gem:p=3:gamma=16", "rdp+gem:3,16"),
        ("rdp+gem:gamma=16:p=3", "rdp+gem:3,16"),
        ("rdp+gem:gamma=16", "rdp+gem:9,16"),
        ("rdp+gem:3,16", "rdp+gem:3,16"),
        ("mean", "mean"),
    ],
)
def test_poolings_are_spelt_like_everything_else(text: str, canonical: str) -> None:
    assert pooling.find(text, {}).name == canonical


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gwrp:q=1", "'gwrp:q=1' has no parameter 'q', only r"),
        ("rdp+gem:3", "expected rdp\\+gem:p=...:gamma=..."),
        ("mean:r=1", "mean has no parameter"),
        ("gwrq", "unknown pooling 'gwrq'; .* did you mean 'gwrp'"),
        ("gem:p=0", r"p must be in \(0, 1000\]"),
    ],
)
def test_a_pooling_that_is_not_one(text: str, message: str) -> None:
    with pytest.raises(AsdError, match=message):
        pooling.find(text, {})


def test_kin_are_listed_without_their_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A choice in a file of several is announced by that file alone."""
    source = "class Whistle:\n    pass\n\n\nCHOICES = {'low-whistle': Whistle}\n"
    (tmp_path / "whistles.py").write_text(source)
    (tmp_path / "heavy_whistles.py").write_text(source.replace("low", "heavy") + "raise MemoryError\n")
    monkeypatch.syspath_prepend(tmp_path)
    plugins = Plugins("", "whistle", shared=("whistles", "heavy_whistles"))
    assert plugins.names() == ["heavy-whistle", "low-whistle"]
    assert plugins.part("low-whistle").__name__ == "Whistle"
    with pytest.raises(AsdError, match="unknown whistle 'lowwhistle'; .* did you mean 'low-whistle'"):
        plugins.part("lowwhistle")
