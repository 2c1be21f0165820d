"""What data roots hold: counts, duplicates, what is missing, and the exit code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cache.table import Section
from extractors.clips.dataset import KNOWN, find_known
from extractors.data.run import main
from tests.conftest import write_clip

ErrorOf = Callable[..., str]


def findings(root: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, list[str]]:
    capsys.readouterr()
    code = main(["check", str(root), "--json", *options])
    return code, json.loads(capsys.readouterr().out)["findings"]


def test_a_good_root_is_told_in_full(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (root / "fan").rglob("*.wav"):
        path.rename(path.with_name(path.name.replace("section_00", "section_09")))
    assert main(["check", str(root)]) == 0
    said = capsys.readouterr()
    lines = [line.split() for line in said.out.splitlines()]
    assert [
        "fan",
        "09",
        "train",
        "source",
        "normal",
        "6",
        "16000",
        "1",
        "0.2",
        "to",
        "0.3",
    ] in lines
    assert ["fan", "09", "test", "target", "anomaly", "1", "16000", "1", "0.2"] in lines
    assert "fan/section_09  speed      2 values: 0 x 8, 1 x 4" in said.out
    assert "12 clips of 1 machine, 0 findings" in said.out
    assert main(["check", str(root), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sum(group["clips"] for group in told["groups"]) == 12
    assert told["attributes"] == {"fan/section_09": {"speed": {"0": 8, "1": 4}}}


def test_every_kind_of_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine = tmp_path / "press"
    for i in range(3):
        write_clip(machine / "train" / f"{i}.wav", i)
    shutil.copy(machine / "train" / "0.wav", machine / "train" / "again.wav")
    (machine / "test").mkdir()
    shutil.copy(machine / "train" / "1.wav", machine / "test" / "leak.wav")
    write_clip(machine / "test" / "cd.wav", 9, rate=44_100)
    soundfile.write(machine / "test" / "stereo.wav", np.ones((1600, 2)) / 4, 16_000)
    soundfile.write(machine / "test" / "nan.wav", np.full(1600, np.nan), 16_000, subtype="FLOAT")
    data = (machine / "train" / "2.wav").read_bytes()
    (machine / "test" / "short.wav").write_bytes(data[:-100])
    (machine / "test" / "empty.wav").write_bytes(b"")
    (machine / "test" / "notes.txt").write_text("hello")
    code, found = findings(tmp_path, capsys)
    assert code == 1
    expected = [
        ("left out:", "empty.wav", "an empty file of 0 bytes"),
        ("left out:", "nan.wav", "1600 of 1600 samples are NaN"),
        ("left out:", "short.wav", "cut short"),
        ("the same recording:", "press/train/0.wav, press/train/again.wav"),
        ("train and test share a recording:", "press/test/leak.wav, press/train/1.wav"),
        ("press: mixed recordings: 6 clips of 16000 Hz, 1 clips of 44100 Hz",),
        ("press: mixed recordings: 6 clips of 1 channels, 1 clips of 2 channels",),
        ("1 clip is constant, every sample the same", "e.g. press/test/stereo.wav"),
    ]
    assert len(found) == len(expected)
    for parts in expected:
        assert sum(all(part in text for part in parts) for text in found) == 1, parts


def test_attribute_values_of_one_clip_are_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i, speed in enumerate((1, 1, 2)):
        write_clip(tmp_path / f"a/train/section_00_source_train_normal_000{i}_spd_{speed}.wav", i)
    assert main(["check", str(tmp_path)]) == 0
    assert "attribute values of one clip only: spd=2" in capsys.readouterr().err


def write_fan(root: Path, channels: int = 1) -> Path:
    """The fan of 2023 to 2025, or of 2026: as many clips, each of a few samples."""
    kinds = [("source_train_normal", 990), ("target_train_normal", 10)]
    kinds += [(f"{d}_test_{c}", 50) for d in ("source", "target") for c in ("normal", "anomaly")]
    rng = np.random.default_rng(0)
    for kind, count in kinds:
        folder = root / "fan" / kind.split("_")[1]
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            path = folder / f"section_00_{kind}_{i:04d}_noAttribute.wav"
            soundfile.write(path, rng.normal(0, 0.1, (16, channels)), 16_000)
    return root


def test_what_is_missing_against_the_published_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_fan(tmp_path)
    assert findings(root, capsys) == (0, [])
    code, found = findings(root, capsys, "--year", "2023")
    assert (code, len(found)) == (1, 6)
    assert "ToyCar section 00 is not here (DCASE 2023 Task 2, dev)" in found
    for i in (3, 7, 8):
        (root / f"fan/train/section_00_target_train_normal_000{i}_noAttribute.wav").unlink()
    code, found = findings(root, capsys)
    sets = "; ".join(f"DCASE {year} Task 2, dev" for year in (2023, 2024, 2025))
    assert found == [f"fan section 00: 7 of 10 clips train target normal ({sets})"]
    shutil.rmtree(root / "fan" / "test")
    assert len(findings(root, capsys)[1]) == 1  # left out on purpose, as far as one can tell
    assert sum("0 of 50 clips test" in text for text in findings(root, capsys, "--year", "2025")[1]) == 4


def test_two_channels_are_those_of_2026(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(write_fan(tmp_path, channels=2))]) == 0
    said = capsys.readouterr()
    assert "compared with DCASE 2026 Task 2, dev\n" in said.out
    assert "sliderEmu section 00 is not here" in said.err


def test_known_sets() -> None:
    assert {(one.year, one.part) for one in KNOWN} == {
        (year, part) for year in range(2020, 2027) for part in ("dev", "eval")
    }
    found = find_known({Section("ToyTank", 0), Section("Vacuum", 0)}, 1)
    assert [str(one) for one in found] == ["DCASE 2023 Task 2, eval"]
    found = find_known({Section("pump", 4), Section("ToyConveyor", 1), Section("pump", 5)}, 1)
    assert {one.year for one in found} == {2020, 2021}
    assert find_known({Section("press", 0)}, 1) == []


def test_ones_own_fan_is_not_taken_for_a_published_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip(tmp_path / "fan" / "train" / "a.wav", 0)
    assert main(["check", str(tmp_path)]) == 0
    assert "compared" not in capsys.readouterr().out


def test_ones_own_pump_with_the_tasks_names_is_not_held_against_a_published_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for domain, count in (("source", 5), ("target", 2)):
        for i in range(count):
            name = f"section_00_{domain}_train_normal_{i:04d}_speed_1500.wav"
            write_clip(tmp_path / "pump" / "train" / name, 10 * count + i)
    assert main(["check", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "compared" not in said.out
    assert "called as in DCASE 2021 Task 2, dev, with other counts" in said.err
    code, found = findings(tmp_path, capsys, "--year", "2021")
    assert code == 1
    assert "pump section 00: 2 of 3 clips train target normal (DCASE 2021 Task 2, dev)" in found


def test_nothing_to_check_is_a_mistake_in_the_call(tmp_path: Path, error_of: ErrorOf) -> None:
    assert "no machine in" in error_of(main, "check", tmp_path)
    assert "is not a folder" in error_of(main, "check", tmp_path / "nowhere")
