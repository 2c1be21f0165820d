"""The command that makes synthetic roots: what of what, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from cache.base.errors import AsdError
from extractors.audio import decode as audio
from extractors.audio.waves import rms
from extractors.clips.listing import list_clips
from finetune.synthesis import folder, rendering
from finetune.synthesis.folder import list_pseudo_anomalies
from finetune.synthesise import main
from tests.conftest import write_clip, write_root

ErrorOf = Callable[..., str]
FAULTS = ["bearing", "modulation", "harmonics", "rubbing", "clipping", "dropouts"]
NORMALS = ["mixup", "speed", "pitch", "noise", "equalisation"]


def command(root: Path, to: Path, kind: str, *options: str, methods: list[str]) -> list[str]:
    common = ["--data", str(root), "--to", str(to), "--as", kind, "--method", *methods]
    return [*common, *options]


def synthesise(root: Path, to: Path, kind: str, *options: str, methods: list[str]) -> int:
    return main(command(root, to, kind, *options, methods=methods))


def rows(root: Path) -> list[dict[str, str]]:
    with (root / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def mono(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    return samples.reshape(len(samples), -1).mean(axis=1, dtype=np.float64)


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two sections in one machine and another machine, with a space in its name."""
    folder = write_root(tmp_path / "data", source=10, target=4)
    write_root(tmp_path / "data", "big pump", source=5, target=3)
    for number in range(4):
        name = f"section_01_source_train_normal_{number:04d}_speed_9.wav"
        write_clip(folder / "fan" / "train" / name, 900 + number, 0.3)
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every file whose sound or bytes are read."""
    paths: list[Path] = []
    read_bytes = Path.read_bytes

    def watched(path: Path) -> bytes:
        paths.append(path)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", watched)
    return paths


@pytest.mark.parametrize("kind", ["normals", "anomalies", "proxy"])
def test_no_test_clip_is_ever_opened(root: Path, tmp_path: Path, kind: str, opened: list[Path]) -> None:
    shutil.rmtree(root / "fan" / "test")
    (root / "fan" / "test").mkdir()
    for name in ("section_00_0000.wav", "section_00_source_test_anomaly_0000.wav"):
        (root / "fan" / "test" / name).write_bytes(b"opening this would fail")
    methods = NORMALS if kind == "normals" else FAULTS
    code = synthesise(root, tmp_path / "made", kind, "--machine", "fan", methods=methods)
    assert code == (1 if kind == "normals" else 0)  # section 01 has no target clips
    assert opened
    assert not [path for path in opened if "test" in path.parts and root in path.parents]


def test_normals_are_target_clips_of_target_clips(root: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    synthesise(root, made, "normals", "--per-section", "10", methods=NORMALS)
    clips = list_clips([made]).clips
    assert len(clips) == 20
    assert {(c.split, c.domain, c.condition) for c in clips} == {("train", "target", "normal")}
    assert {c.attributes["synthetic"] for c in clips} == set(NORMALS)
    assert {c.attributes["speed"] for c in clips} == {"0", "1"}
    assert all("_target_" in row["sources"] for row in rows(made))
    assert all("_source_" not in row["sources"] for row in rows(made))
    both = list_clips([root, made])
    assert len(both.clips) == len(list_clips([root]).clips) + 20
    assert not both.faults
    assert not both.notes


def test_normals_can_be_made_of_source_clips(root: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    assert synthesise(root, made, "normals", "--from", "source", methods=["speed"]) == 0
    assert {row["domain"] for row in rows(made)} == {"target"}
    assert all("_source_" in row["sources"] for row in rows(made))
    assert {row["section"] for row in rows(made)} == {"00", "01"}


def test_a_section_without_target_clips_is_named(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert synthesise(root, tmp_path / "made", "normals", methods=["speed"]) == 1
    said = capsys.readouterr().err
    assert "left out: fan/section_01: no target clips to make target clips of" in said


def test_one_target_clip_is_mixed_with_a_source_clip(tmp_path: Path) -> None:
    root, made = write_root(tmp_path / "data", target=1), tmp_path / "made"
    assert synthesise(root, made, "normals", "--per-section", "3", methods=["mixup"]) == 0
    for row in rows(made):
        first, second = row["sources"].split(" | ")
        assert "_target_" in first
        assert "_source_" in second


def test_one_clip_alone_cannot_be_mixed(tmp_path: Path, error_of: ErrorOf) -> None:
    write_clip(tmp_path / "data/fan/train/section_00_target_train_normal_0000.wav", 1)
    said = error_of(main, *command(tmp_path / "data", tmp_path / "made", "normals", methods=["mixup"]))
    assert "nothing can be made: fan/section_00: mixup takes 2 clips, and there are too few" in said


def test_pseudo_anomalies_are_no_training_clips(root: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    assert synthesise(root, made, "anomalies", "--per-section", "12", methods=FAULTS) == 0
    clips = list_pseudo_anomalies(made)
    assert len(clips) == 36
    assert {(c.split, c.condition) for c in clips} == {("train", "anomaly")}
    assert {c.attributes["synthetic"] for c in clips} == set(FAULTS)
    assert all(set(c.attributes) == {"speed", "synthetic"} for c in clips)
    assert {c.clip_id.split("/")[1] for c in clips} == {"pseudo_anomalies"}
    for section in {c.section for c in clips}:
        domains = [c.domain for c in clips if c.section == section]
        if section.number == 0:
            assert domains.count("source") == domains.count("target") == 6
    shutil.copytree(made / "fan" / "pseudo_anomalies", root / "fan" / "pseudo_anomalies")
    assert not [c for c in list_clips([root]).clips if "pseudo" in c.clip_id]


def test_reading_pseudo_anomalies_says_what_is_missing(root: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    synthesise(root, made, "anomalies", "--per-section", "2", methods=["clipping"])
    gone = list_pseudo_anomalies(made)[0]
    gone.path.unlink()
    with pytest.raises(AsdError, match="is gone from"):
        list_pseudo_anomalies(made)
    with pytest.raises(AsdError, match="cannot be read"):
        list_pseudo_anomalies(root)


def test_a_proxy_root_tests_on_what_it_does_not_train_on(root: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    assert synthesise(root, made, "proxy", "--per-section", "12", methods=FAULTS) == 0
    listing = list_clips([made])
    assert not listing.faults
    assert not listing.notes
    train = {row["sources"] for row in rows(made) if row["split"] == "train"}
    test = [row for row in rows(made) if row["split"] == "test"]
    tested = {source for row in test for source in row["sources"].split(" | ")}
    real = {c.clip_id for c in list_clips([root]).clips if c.split == "train"}
    assert train | tested == real
    assert not train & tested
    assert all(("synthetic" in c.attributes) == (c.split == "test") for c in listing.clips)
    held = {row["sources"] for row in test if row["condition"] == "normal"}
    assert held == tested
    fan = [s for s in held if s.startswith("fan/train/section_00")]
    assert sum("_source_" in s for s in fan) == 3
    assert sum("_target_" in s for s in fan) == 1


def test_copies_of_one_recording_stay_on_one_side(tmp_path: Path) -> None:
    folder = tmp_path / "data/fan/train"
    for number in range(12):
        write_clip(folder / f"section_00_source_train_normal_{number:04d}.wav", number // 2)
    made = tmp_path / "made"
    for seed in range(5):
        options = ["--held-out", "0.25", "--seed", str(seed), "--per-section", "2"]
        synthesise(tmp_path / "data", made / str(seed), "proxy", *options, methods=["clipping"])
        sides: dict[str, set[bytes]] = {"train": set(), "test": set()}
        for row in rows(made / str(seed)):
            if row["condition"] == "normal":
                sides[row["split"]].add((made / str(seed) / row["path"]).read_bytes())
        assert not sides["train"] & sides["test"]
        assert len(sides["train"]) + len(sides["test"]) == 6


@pytest.mark.parametrize("kind", ["normals", "anomalies", "proxy"])
def test_the_same_seed_gives_the_same_bytes(root: Path, tmp_path: Path, kind: str) -> None:
    methods = NORMALS if kind == "normals" else NORMALS + FAULTS
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        synthesise(root, tmp_path / name, kind, "--seed", seed, "--per-section", "11", methods=methods)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert a != c


def test_a_clip_depends_on_no_other_machine(root: Path, tmp_path: Path) -> None:
    synthesise(root, tmp_path / "all", "anomalies", methods=["bearing"])
    synthesise(root, tmp_path / "one", "anomalies", "--machine", "fan", methods=["bearing"])
    everything, alone = contents(tmp_path / "all" / "fan"), contents(tmp_path / "one" / "fan")
    assert everything == alone


def test_a_stopped_run_goes_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--per-section", "12")
    synthesise(root, tmp_path / "whole", "proxy", *options, methods=FAULTS)
    calls: list[int] = []
    render = rendering.render

    def stopping(*args: object) -> object:
        calls.append(0)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return render(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(folder, "render", stopping)
    assert synthesise(root, tmp_path / "made", "proxy", *options, methods=FAULTS) == 130
    monkeypatch.undo()
    capsys.readouterr()
    assert synthesise(root, tmp_path / "made", "proxy", *options, methods=FAULTS) == 0
    before = len(list((tmp_path / "whole").rglob("*.wav")))
    assert f"{before} in all" in capsys.readouterr().out
    assert contents(tmp_path / "made") == contents(tmp_path / "whole")
    assert synthesise(root, tmp_path / "made", "proxy", *options, methods=FAULTS) == 0
    assert "0 clips made" in capsys.readouterr().out


def test_a_foreign_file_under_a_clips_name_is_told(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "made"
    synthesise(root, made, "anomalies", methods=["clipping"])
    path = list_pseudo_anomalies(made)[3].path
    path.write_bytes(write_clip(tmp_path / "x.wav", 1).read_bytes())
    assert synthesise(root, made, "anomalies", methods=["clipping"]) == 1
    assert "is not what this recipe makes; delete it" in capsys.readouterr().err


def test_a_folder_of_another_recipe_or_of_data_is_refused(
    root: Path, tmp_path: Path, error_of: ErrorOf
) -> None:
    made = tmp_path / "made"
    synthesise(root, made, "anomalies", methods=["clipping"])
    before = contents(made)
    for change in (["--seed", "1"], ["--per-section", "7"], ["--machine", "fan"]):
        said = error_of(main, *command(root, made, "anomalies", *change, methods=["clipping"]))
        assert "holds clips of another recipe" in said
    said = error_of(main, *command(root, made, "anomalies", methods=["clipping:share=0.1"]))
    assert "holds clips of another recipe" in said
    for other in (root, root / "fan", root.parent):
        said = error_of(main, *command(root, other, "anomalies", methods=["clipping"]))
        assert "in the data root" in said
    stranger = tmp_path / "elsewhere" / "notes.txt"
    stranger.parent.mkdir()
    stranger.write_text("mine")
    said = error_of(main, *command(root, stranger.parent, "proxy", methods=["clipping"]))
    assert "holds files and no recipe.json" in said
    assert contents(made) == before


def test_clips_have_the_rate_length_and_level_of_their_first_recording(tmp_path: Path) -> None:
    folder = tmp_path / "data/fan/train"
    stereo = 0.1 * np.random.default_rng(0).standard_normal((44_100, 2))
    folder.mkdir(parents=True)
    soundfile.write(folder / "section_00_target_train_normal_0000.wav", stereo, 44_100)
    write_clip(folder / "section_00_target_train_normal_0001.wav", 1, 0.4, 16_000)
    made = tmp_path / "made"
    assert synthesise(tmp_path / "data", made, "normals", "--per-section", "20", methods=NORMALS) == 0
    for row in rows(made):
        source = audio.decode_file(tmp_path / "data" / row["sources"].split(" | ")[0])
        clip = audio.decode_file(made / row["path"])
        info = soundfile.info(made / row["path"])
        assert (info.subtype, info.channels) == ("PCM_16", 1)
        assert clip.sample_rate == source.sample_rate
        assert len(clip.samples) == len(source.samples)
        levels = [rms(mono(one.samples)) for one in (clip, source)]
        assert levels[0] == pytest.approx(levels[1], rel=1e-3)


def test_a_clip_near_full_scale_is_turned_down_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "data/fan/train/section_00_source_train_normal_0000.wav"
    path.parent.mkdir(parents=True)
    soundfile.write(path, 0.9 * np.sign(np.sin(np.arange(16_000) / 9)), 16_000)
    made = tmp_path / "made"
    synthesise(tmp_path / "data", made, "anomalies", "--per-section", "4", methods=["bearing"])
    assert "4 turned down so as not to clip" in capsys.readouterr().out
    for row in rows(made):
        peak = np.abs(soundfile.read(made / row["path"])[0]).max()
        assert 0.99 < peak <= 32767 / 32768
        assert json.loads(row["parameters"])["lowered"] > 0


def test_what_cannot_be_read_is_named_and_the_rest_is_made(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = root / "fan" / "train"
    (train / "section_00_source_train_normal_0000_speed_0.wav").write_bytes(b"RIFF")
    silent = train / "section_00_target_train_normal_0001_speed_1.wav"
    soundfile.write(silent, np.zeros(3_200), 16_000)
    short = train / "section_01_source_train_normal_0002_speed_9.wav"
    soundfile.write(short, np.ones(30), 16_000)
    made = tmp_path / "made"
    assert synthesise(root, made, "anomalies", "--machine", "fan", methods=["bearing"]) == 1
    said = capsys.readouterr().err
    assert "not audio, or damaged" in said
    assert "30 samples are less than 0.05 s" in said
    assert "silent, so that no level can be set against it" in said
    assert len(list_pseudo_anomalies(made)) == len(rows(made)) > 100


def test_what_is_synthetic_is_no_material(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    synthesise(root, first, "normals", "--per-section", "4", methods=["speed"])
    capsys.readouterr()
    assert main(["--data", str(root), str(first), "--to", str(second), "--as", "proxy",
                 "--method", "clipping"]) == 1  # fmt: skip
    assert "left out: 8 clips that are synthetic themselves" in capsys.readouterr().err
    assert not [row for row in rows(second) if "synthetic" in row["sources"]]


def test_options_that_would_do_nothing_are_refused(root: Path, tmp_path: Path, error_of: ErrorOf) -> None:
    refused = {
        ("normals", "bearing"): "bearing makes a fault, which is no normal sound",
        ("proxy", "clipping", "--from", "source"): "--from means nothing to --as proxy",
        ("normals", "speed", "--held-out", "0.2"): "--held-out means nothing to --as normals",
        ("proxy", "speed", "--held-out", "1"): "--held-out 1: expected a number from 0.001 to 0.999",
        ("proxy", "speed", "--model", "x"): "--model is for sounds from text",
        ("proxy", "speed", "--per-section", "0"): "--per-section 0",
        ("proxy", "speed", "--seed", "-1"): "--seed -1",
        ("proxy", "speed", "--machine", "car"): "no machine type 'car'",
    }
    for (kind, method, *options), said in refused.items():
        assert said in error_of(main, *command(root, tmp_path / "made", kind, *options, methods=[method]))
    said = error_of(main, *command(root, tmp_path / "made", "proxy", methods=["speed", "speed"]))
    assert "speed is named twice" in said
    assert not (tmp_path / "made").exists()


def test_a_full_disk_leaves_no_half_file(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "made"
    replace = Path.replace

    def full(path: Path, target: Path) -> Path:
        if path.name.count("_0003_"):
            raise OSError(28, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", full)
    assert synthesise(root, made, "anomalies", "--machine", "fan", methods=["clipping"]) == 1
    monkeypatch.undo()
    assert not list(made.rglob(".*"))
    assert synthesise(root, made, "anomalies", "--machine", "fan", methods=["clipping"]) == 0
