"""Corrections by hand: normal after all, not normal, the threshold; and back to the old bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cache.asd import main as asd
from eval.detector import Detector
from index.bank import Bank
from index.threshold import fit_threshold
from tests.conftest import RATE, write_clip
from tests.index.test_versions import content


def squeal(path: Path, seed: int, frequency: float = 3000.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 0.1, int(0.3 * RATE))
    tone = 0.2 * np.sin(2 * np.pi * frequency * np.arange(len(noise)) / RATE)
    soundfile.write(path, noise + tone, RATE, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def normal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sounds") / "normal"
    for i in range(30):
        write_clip(root / f"n{i:02d}.wav", i, seconds=0.3)
    return root


@pytest.fixture(scope="module")
def built(normal: Path) -> Path:
    # `auto` would make one group of the added clips, which no other clip is like.
    detector = Detector(["logmel", "logspec"], scorer="min-distance", machine="pump")
    return detector.fit(normal).save(normal.parent / "pump.bank")


@pytest.fixture
def bank(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "pump.bank"))


def decisions(bank: Path, *paths: Path) -> list[int | None]:
    return [clip.decision for clip in Detector.load(bank).score(list(map(str, paths)))]


def test_flagged_normals_are_added_their_like_pass_faults_do_not_and_undo_is_exact(
    bank: Path, normal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flagged = [squeal(tmp_path / "later" / f"s{i}.wav", 100 + i) for i in range(10)]
    like = [squeal(tmp_path / "like" / f"l{i}.wav", 200 + i) for i in range(8)]
    faults = [squeal(tmp_path / "bad" / f"f{i}.wav", 300 + i, 900.0) for i in range(8)]
    assert decisions(bank, *flagged, *like, *faults) == [1] * 26
    before, first = content(bank), Bank(bank).fingerprint(Detector.load(bank).section())
    asked = ["bank", "add", str(bank), str(tmp_path / "later"), "--because", "new bearing", "--json"]
    assert asd(asked) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["clips"] == 10
    assert sum(map(bool, decisions(bank, *like))) <= 2
    assert decisions(bank, *faults) == [1] * 8
    # The same as if they had been there from the beginning.
    anew = Detector(["logmel", "logspec"], scorer="min-distance", machine="pump")
    ids = sorted(json.loads((bank / "recordings.json").read_text()))
    assert [name for name in ids if name.startswith("added/later/")] == [
        f"added/later/s{i}.wav" for i in range(10)
    ]
    shutil.copytree(tmp_path / "later", tmp_path / "added" / "later")
    whole = anew.fit([str(tmp_path / "added"), str(normal)])
    scores = [[c.score for c in d.score(list(map(str, like)))] for d in (whole, Detector.load(bank))]
    assert scores[0] == scores[1]
    assert whole.score(str(like[0]))[0].threshold == done["threshold"]
    # Again: nothing is new.
    assert asd(asked) == 2
    assert "nothing new" in capsys.readouterr().err
    assert asd(["bank", "log", str(bank), "--json"]) == 0
    log = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["action"], one["because"]) for one in log] == [("built", ""), ("add", "new bearing")]
    assert log[1]["hash"] == done["version"]
    assert log[1]["facts"]["bank"] == Bank(bank).fingerprint(Detector.load(bank).section()) != first
    assert asd(["bank", "undo", str(bank)]) == 0
    assert content(bank) == before
    assert asd(["bank", "undo", str(bank)]) == 2
    assert asd(["bank", "undo", str(bank), "--to", done["version"][:8]]) == 0
    assert decisions(bank, *faults) == [1] * 8
    assert asd(["bank", "prune", str(bank), "--keep", "0"]) == 0
    assert asd(["bank", "undo", str(bank)]) == 2
    assert "pruned" in capsys.readouterr().err


def test_remove_is_as_if_the_clips_had_never_been_there(
    bank: Path, normal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["bank", "remove", str(bank), "--because", "loose bolt"]
    assert asd([*asked, "n0*.wav", "n11.wav"]) == 0
    kept = [path for path in sorted(normal.iterdir()) if path.name[:2] != "n0" and path.name != "n11.wav"]
    anew = Detector(["logmel", "logspec"], scorer="min-distance").fit(list(map(str, kept)))
    new = str(write_clip(tmp_path / "x.wav", 99, seconds=0.3))
    ours, theirs = (d.score(new)[0] for d in (Detector.load(bank), anew))
    assert (ours.score, ours.threshold) == (theirs.score, theirs.threshold)
    for names, told in ((["none.wav"], "fits no training clip"), (["*"], "not all"), ([], "not all")):
        assert asd([*asked, *names]) == 2
        assert told in capsys.readouterr().err


def test_calibrate_learns_the_threshold_from_what_is_given(
    bank: Path, normal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [write_clip(tmp_path / "given" / f"{i}.wav", 500 + i, seconds=0.3) for i in range(25)]
    scores = np.array([clip.score for clip in Detector.load(bank).score(list(map(str, given)))])
    asked = ["bank", "calibrate", str(bank), "--because", "winter"]
    assert asd([*asked, str(tmp_path / "given"), "--json"]) == 0
    wanted = fit_threshold(scores, "gamma", 90.0).value
    assert json.loads(capsys.readouterr().out)["threshold"] == pytest.approx(wanted, rel=1e-12)
    judged = Detector.load(bank).score(str(given[0]))[0]
    assert judged.threshold == pytest.approx(wanted, rel=1e-12)
    assert judged.score == scores[0]  # scores stay
    assert judged.p_value == pytest.approx((1 + np.sum(scores >= scores[0])) / 26)
    assert asd([*asked, "--percentile", "99", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["threshold"]
    assert told == pytest.approx(fit_threshold(scores, "gamma", 99.0).value, rel=1e-12)
    for more, words in (
        ([], "nothing to calibrate with"),
        (["--false-alarms", "1/1000"], "nothing rarer than"),
        ([str(given[0])], "do not vary"),
        ([str(normal)], "never heard"),
    ):
        assert asd([*asked, *more]) == 2
        assert words in capsys.readouterr().err


def test_calibrate_passes_over_what_the_bank_holds_and_copies(
    bank: Path, normal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [write_clip(tmp_path / "given" / f"{i}.wav", 500 + i, seconds=0.3) for i in range(25)]
    scores = np.array([clip.score for clip in Detector.load(bank).score(list(map(str, given)))])
    shutil.copy(given[0], tmp_path / "given" / "again.wav")
    asked = ["bank", "calibrate", str(bank), str(tmp_path / "given"), str(normal), "--because", "winter"]
    assert asd([*asked, "--json"]) == 0
    said = capsys.readouterr()
    done = json.loads(said.out)
    assert done["clips"] == 25
    assert done["threshold"] == pytest.approx(fit_threshold(scores, "gamma", 90.0).value, rel=1e-12)
    assert "31 of 56 recordings passed over" in said.err
    # The log of an undo counts no clips: it corrected none.
    assert asd(["bank", "calibrate", str(bank), "--percentile", "99", "--because", "loud"]) == 0
    assert asd(["bank", "undo", str(bank)]) == 0
    capsys.readouterr()
    assert asd(["bank", "log", str(bank)]) == 0
    assert capsys.readouterr().out.rstrip().endswith("  undo")


def test_marks_of_the_page_say_what_is_added(
    bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(3):
        squeal(tmp_path / "data" / "pump" / "new" / f"s{i}.wav", i)
    marks = tmp_path / "marks.csv"
    head = "machine_type,section,clip,mark\r\n"
    rows = ("pump,0,pump/new/s0.wav,normal", "pump,0,pump/new/s1.wav,abnormal",
            "fan,0,pump/new/s2.wav,normal")  # fmt: skip
    marks.write_text(head + "\r\n".join(rows) + "\r\n")
    asked = ["bank", "add", str(bank), str(tmp_path / "data"), "--marks", str(marks), "--because", "x"]
    assert asd([*asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clips"] == 1
    assert "added/new/s0.wav" in (bank / "recordings.json").read_text()
    for text, told in (
        (head + "pump,0,gone.wav,normal", "0 recordings"),
        (head + "pump,0,pump/new/s1.wav,perhaps", "perhaps"),
        ("clip,mark\nx,normal", "machine_type"),
        (head + "pump,0,pump/new/s1.wav,abnormal", "marks no clip"),
    ):
        marks.write_text(text)
        assert asd(asked) == 2
        assert told in capsys.readouterr().err


def test_a_bank_of_the_commands_is_corrected_and_not_built_over(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert asd(["extract", "--data", str(root), "--backbone", "logmel"]) == 0
    capsys.readouterr()
    build = ["build", "--scorer", "min-distance"]
    assert asd([*build, "--json"]) == 0
    made = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    inside = Path(next(row["made"] for row in made if "sections" in row))
    assert asd([*build, "--bank", "elsewhere"]) == 0
    new = squeal(tmp_path / "new" / "2026-11-26 s.wav", 1)
    for bank in (inside, Path("elsewhere")):  # in the cache folder, and with it beside
        before = content(bank)
        assert asd(["bank", "add", str(bank), str(new), "--because", "x", "--domain", "target"]) == 0
        assert decisions(bank, new) == [0]
        fitted = Bank(bank).read(Detector.load(bank).section(), Bank(bank).recipe())
        assert fitted.clips["target"] == 3
        capsys.readouterr()
        assert asd([*build, "--bank", str(bank)]) == 2
        assert "changed by hand (add)" in capsys.readouterr().err
        assert asd(["bank", "undo", str(bank)]) == 0
        assert content(bank) == before
    shutil.move("artifacts", "gone")
    assert asd(["bank", "add", "elsewhere", str(new), "--because", "x"]) == 2
    assert "--cache-dir" in capsys.readouterr().err
    assert asd(["bank", "add", "elsewhere", str(new), "--because", "x", "--cache-dir", "gone"]) == 0
    assert asd(["bank", "add", "elsewhere", str(new), "--because", " "]) == 2
