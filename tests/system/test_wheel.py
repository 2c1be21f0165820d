"""The wheel, outside the checkout, in an environment without torch: it works as it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import PATIENCE, write_clip

REPOSITORY = Path(__file__).parents[2]
PROJECT = "machine-asd"


def needs(name: str, found: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """Top-level files of an installed distribution and of all that it requires, by name."""
    if name in found:
        return found
    held = distribution(name)
    tops = {Path(file.parts[0]) for file in held.files or () if ".." not in file.parts}
    found[name] = [Path(str(held.locate_file(top))) for top in sorted(tops)]
    for text in held.requires or ():
        asked = Requirement(text)
        if asked.marker is None or asked.marker.evaluate({"extra": ""}):
            needs(asked.name, found)
    return found


@pytest.fixture(scope="module")
def thin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the wheel and what it requires, by links, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    # A copy of what git holds or would: setuptools writes beside what it builds.
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=REPOSITORY,
        check=True,
        text=True,
        capture_output=True,
    ).stdout.splitlines()
    for name in listed:
        if (REPOSITORY / name).is_file() and not name.startswith(("tests/", "benchmarks/", "docs/")):
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes((REPOSITORY / name).read_bytes())
    build = "from setuptools.build_meta import build_wheel; print(build_wheel(__import__('sys').argv[1]))"
    subprocess.run([sys.executable, "-c", build, folder], cwd=folder / "source", check=True, timeout=PATIENCE,
                   capture_output=True)  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        (record,) = (n for n in archive.namelist() if n.endswith("METADATA"))
        metadata = archive.read(record).decode()
    found: dict[str, list[Path]] = {}
    for line in metadata.splitlines():
        if line.startswith("Requires-Dist: "):
            asked = Requirement(line.removeprefix("Requires-Dist: "))
            if asked.marker is None or asked.marker.evaluate({"extra": ""}):
                needs(asked.name, found)
    assert "torch" not in found
    for paths in found.values():
        for path in paths:
            if path.exists() and not (site / path.name).exists():
                (site / path.name).symlink_to(path)
    return folder / "venv"


def run(thin: Path, place: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """What the script ``asd`` does that an installer writes, in a folder of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    code = "import sys; from cache.asd import main; sys.exit(main())"
    script = thin / "bin" / "asd"
    script.write_text(code)
    return subprocess.run(
        [thin / "bin" / "python", script, *map(str, arguments)], cwd=place, check=False, text=True,
        capture_output=True, timeout=PATIENCE, env={**environment, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("outside")
    for i in range(12):
        write_clip(place / "data" / "pump" / "normal" / f"{i:02d}.wav", i, seconds=0.6)
    for i in range(2):
        write_clip(place / "data" / "pump" / "new" / f"{i:02d}.wav", 100 + i, seconds=0.6)
    return place


def test_it_checks_scores_and_reports_without_torch(thin: Path, place: Path) -> None:
    checked = run(thin, place, "check", "data", "--json")
    assert checked.returncode in (0, 1), checked.stderr
    for verb in (
        ["extract", "--data", "data", "--backbone", "logspec", "logmel", "--pooling", "logmel=mean+std"],
        ["build", "--backbone", "logmel", "--scorer", "min-distance"],
        ["score", "--backbone", "logmel", "--scorer", "min-distance", "--audio", "data", "--out", "own"],
        ["run", "default", "--data", "data", "--out", "results"],
        ["export", "results/bank", "edge"],
    ):
        done = run(thin, place, *verb)
        assert done.returncode == 0, done.stderr
    for name in ("own", "results"):
        page = (place / name / "report.html").read_text()
        assert "pump" in page
        assert "<style>" in page  # the page's own files are in the wheel
    code = """import sys; from machine_asd import Detector; detector = Detector().fit('data/pump/normal')
print(len(detector.score('data/pump/new')), 'torch' in sys.modules)"""
    said = subprocess.run([thin / "bin" / "python", "-c", code], cwd=place, check=True, text=True,
                          capture_output=True, timeout=PATIENCE)  # fmt: skip
    assert said.stdout.split() == ["2", "False"]


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["extract", "--data", "data", "--backbone", "beats", "--weights", "random"], "torch"),
        (["extract", "--data", "data", "--backbone", "logmel", "--pooling", "gem"], "torch"),
        (["extract", "--data", "data", "--backbone", "logmel:cnn", "--weights", "random"], "torch"),
        (["train", "--data", "data", "--backbone", "logmel:cnn", "--out", "a.safetensors"], "finetune"),
        (["baseline", "--data", "data", "--mode", "mse", "--out", "b"], "torch"),
        (["score", "--backbone", "logmel", "--figures", "--out", "f"], "figures"),
        (["extract", "--data", "data", "--engine", "ray"], "ray"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[-1],
)
def test_what_is_missing_is_named_with_its_extra(
    thin: Path, place: Path, arguments: list[str], extra: str
) -> None:
    done = run(thin, place, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: ")
    assert f"pip install 'machine-asd[{extra}]'" in done.stderr


def test_the_doctor_finds_nothing_wrong(thin: Path, place: Path) -> None:
    done = run(thin, place, "doctor", "--json")
    rows = {row["what"]: row for row in map(json.loads, done.stdout.splitlines()) if "what" in row}
    assert rows["torch"]["remedy"] == rows["backbone beats"]["remedy"] == ""
    assert "machine-asd[torch]" in rows["torch"]["seen"]
    assert "s for a clip of 10 s" in rows["backbone logspec"]["seen"]
    assert done.returncode == 0, [row for row in rows.values() if row["remedy"]]
