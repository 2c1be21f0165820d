"""The doctor: what it finds in a whole installation, and every fault with its remedy."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from packaging.requirements import Requirement

from extractors import backbones, doctor
from extractors.embedding.formats import FORMATS
from extractors.embedding.throughput import PLANS
from extractors.fetching import download
from extractors.run import main
from extractors.weights.published import EFFICIENTAT, path_of
from tests.helpers.small_models import write_mobilenet

CPU = torch.device("cpu")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place of weights, and two backbones that are quick to try."""
    monkeypatch.setenv("ASD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(backbones, "names", lambda: ["hf", "logmel"])
    return tmp_path / "home"


def test_a_whole_installation(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--doctor", "--cache-dir", str(tmp_path / "a b")]) == 0
    said = capsys.readouterr().out
    for part in ("python: 3.", f"torch {version('torch')}", "device: cpu, ", "processors: ",
                 "reads WAV, FLAC, OGG, MP3",
                 f"cache folder: {tmp_path / 'a b'}, can be written", f"weights: {home}, can",
                 "backbone logmel: 0.", "128 values", "backbone hf: not tried: hf needs a model",
                 "fetching: off, by ASD_OFFLINE", "nothing is wrong\n"):  # fmt: skip
        assert part in said, part
    assert not (tmp_path / "a b").exists()
    assert not home.exists()


@pytest.mark.usefixtures("home")
def test_what_was_measured_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / PLANS).write_text(
        '{"Some CPU: beats": {"batch": 1, "workers": 2, "threads": 1, "kernel": "plain"}}'
    )
    text = '{"Some CPU: beats 768x12, bfloat16": {"gain": 2.4, "rho": 0.9998, "points": 0.1}}'
    (tmp_path / FORMATS).write_text(text)
    assert main(["--doctor", "--cache-dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "measured: Some CPU: beats: batches of 1, 2 workers of 1 thread, plain\n" in said
    assert (
        "beats 768x12, bfloat16: taken: 2.40 times float32's pace, rank correlation of scores 0.99980" in said
    )


def test_data_is_still_needed_for_anything_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--backbone", "logmel"]) == 2
    assert "--data is needed" in capsys.readouterr().err


@pytest.mark.usefixtures("home")
def test_damaged_weights_are_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = path_of(EFFICIENTAT[0])
    path.parent.mkdir(parents=True)
    write_mobilenet(path)
    assert main(["--doctor", "--cache-dir", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert f"FAULT  weights mn04_as_mAP_432.pt: {path} is not the published file" in said
    assert "remedy: delete it; python -m extractors.weights fetch mn04_as_mAP_432.pt" in said
    assert said.endswith("faults: 1\n")


@pytest.mark.usefixtures("home")
def test_a_device_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--doctor", "--device", "cuda:77", "--cache-dir", str(tmp_path)]) == 1
    assert "remedy: --device cuda:77: not to be had here" in capsys.readouterr().out


def test_libraries_are_held_against_what_is_asked_for() -> None:
    asked = ["numpy>=2", "numpy<1", "surely-not-installed>=1"]
    found = list(doctor.libraries(map(Requirement, asked)))
    assert [finding.what for finding in found] == ["numpy", "surely-not-installed", "libraries"]
    assert found[0].seen == f"{version('numpy')}, where <1 is needed"
    assert all("pip install" in finding.remedy for finding in found[:2])
    assert found[2].seen == f"numpy {version('numpy')}"
    assert not found[2].remedy


def test_folders_that_cannot_be_written_or_are_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (finding,) = doctor.folder_findings("cache folder", tmp_path / "file" / "below")
    assert finding.remedy == "choose a folder that can be written"
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: SimpleNamespace(free=5_000_000))
    (finding,) = doctor.folder_findings("cache folder", tmp_path)
    assert "5.0 MB free" in finding.seen
    assert "free space" in finding.remedy


def test_a_backbone_that_breaks_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> object:
        raise ImportError(f"{name} has lost a library\nand more")

    monkeypatch.setattr(backbones, "find", broken)
    finding = doctor.backbone_finding("beats", [], CPU)
    assert finding.seen == "ImportError: beats has lost a library"
    assert finding.remedy


def test_weights_at_hand_are_tried(home: Path, real_weights: Path) -> None:
    path = home / "weights" / real_weights.name
    path.parent.mkdir(parents=True)
    path.write_bytes(real_weights.read_bytes())
    finding = doctor.backbone_finding("efficientat", [EFFICIENTAT[0]], CPU)
    assert "32 values" in finding.seen
    assert "random" not in finding.seen
    finding = doctor.backbone_finding("efficientat", [], CPU)
    assert finding.seen.endswith("random weights: none are here")
