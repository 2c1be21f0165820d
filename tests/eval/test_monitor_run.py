"""The commands of every day: what they print, their exit codes, and what they refuse."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from scipy.stats import binom

from cache.asd import main as asd
from eval.detector import Detector
from eval.monitor.history import History
from tests.conftest import PATIENCE, RATE, write_clip

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("my pump")
    for i in range(30):
        write_clip(root / "normal" / f"n{i:02d}.wav", i, seconds=0.3)
    detector = Detector("logmel", scorer="min-distance", machine="pump")
    return detector.fit(root / "normal").save(root / "pump.bank")


def record(path: Path, seed: int, *, hums: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(1000 + seed).normal(0, 0.1, int(0.3 * RATE))
    hum = 0.3 * np.sin(2 * np.pi * 440 * np.arange(len(noise)) / RATE)
    soundfile.write(path, noise + hum * hums, RATE, subtype="PCM_16")
    os.utime(path, (1e9, 1e9))
    return path


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_check_says_a_line_a_clip_and_its_exit_code_tells(
    bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = record(tmp_path / "new" / "2026-11-26T10-00-00.wav", 0)
    assert asd(["check", str(bank), str(good)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("2026-11-26T10:00:00Z  normal ")
    assert "1 in 10" in said.err
    hum = record(tmp_path / "new" / "b c.wav", 1, hums=True)
    bad = tmp_path / "new" / "bad.wav"
    bad.write_bytes(b"no sound")
    assert asd(["check", str(bank), "--json", str(bad), str(good)]) == 2
    rows = lines(capsys.readouterr().out)
    assert [row["decision"] for row in rows] == [None, 0]
    assert "not audio" in str(rows[0]["sentence"])
    assert asd(["check", str(bank.parent), "--json", str(hum.parent)]) == 1  # one level down
    rows = lines(capsys.readouterr().out)
    assert [row["decision"] for row in rows] == [0, 1, None]
    assert rows[1]["kind"] in ("tone", "broadband")
    assert rows[1]["low"] <= 440 <= rows[1]["high"]  # type: ignore[operator]
    scores = Detector.load(bank).score([good, hum]).to_pandas()["score"].tolist()
    assert [row["score"] for row in rows[:2]] == scores
    assert asd(["check", str(bank / "pump"), str(good)]) == 0  # one level up
    capsys.readouterr()
    assert asd(["check", str(bank), "--no-words", "--json", str(hum)]) == 1
    assert lines(capsys.readouterr().out)[0]["sentence"] == ""


def test_what_is_no_file_or_has_a_name_that_no_table_holds_is_not_judged_and_said(
    bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = record(tmp_path / "new" / "good.wav", 0).parent
    strange = {"a\nb.wav": "a\\u000ab.wav", os.fsdecode(b"c\xff.wav"): "c\\udcff.wav"}
    for name in strange:
        shutil.copy(new / "good.wav", new / name)
    os.mkfifo(new / "pipe.wav")  # which nobody writes to: who opens it waits for ever
    names = {*strange.values(), "pipe.wav"}
    watching = ["watch", str(bank), str(new), "--once", "--state", str(tmp_path / "watch")]
    for arguments in (
        ["check", str(bank), str(new)],
        ["check", str(bank), *map(str, new.iterdir())],
        watching,
    ):
        assert asd([*arguments, "--json"]) == 2
        rows = lines(capsys.readouterr().out)
        unjudged = [row for row in rows if row.get("clip") and row["decision"] is None]
        assert {str(row["clip"]).rpartition("/")[2] for row in unjudged} == names, arguments
        assert all(row["sentence"] for row in unjudged)
        assert [row["decision"] for row in rows if str(row.get("clip")).endswith("good.wav")] == [0]


def test_what_was_recorded_otherwise_than_the_normal_clips_is_said_beside_the_verdict(
    bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = record(tmp_path / "new" / "alike.wav", 0).parent
    noise = np.random.default_rng(3).normal(0, 0.1, 2400)
    soundfile.write(new / "slow.wav", noise, RATE // 2)
    soundfile.write(new / "mute.wav", np.zeros(4800), RATE)
    for path in new.iterdir():
        os.utime(path, (1e9, 1e9))
    watching = ["watch", str(bank), str(new), "--once", "--state", str(tmp_path / "watch")]
    for arguments in (["check", str(bank), str(new), "--no-words"], watching):
        asd([*arguments, "--json"])
        rows = [row for row in lines(capsys.readouterr().out) if "clip" in row]
        said = {str(row["clip"]).rpartition("/")[2]: str(row["sentence"]) for row in rows}
        assert "narrower than the training clips: 8000 Hz" in said["slow.wav"]
        assert "silent" in said["mute.wav"]
        assert "training clips" not in said["alike.wav"]
    results = Detector.load(bank).score(new)
    assert {name.rpartition("/")[2] for name in results.remarks} == {"slow.wav", "mute.wav"}
    assert any("narrower" in text for text in results.cautions)


def test_options_of_a_stream_are_not_passed_over_for_a_folder(
    bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"--rate": "8000", "--channels": "2", "--seconds": "3", "--keep": "5", "--device": "1"}
    for option in values.items():
        assert asd(["watch", str(bank), str(tmp_path), "--once", *option]) == 2
        assert f"{option[0]} is of standard input" in capsys.readouterr().err


def test_two_clips_of_one_name_are_two(
    bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [record(tmp_path / name / "a.wav", i, hums=bool(i)) for i, name in enumerate("xy")]
    assert asd(["check", str(bank), "--json", *map(str, paths)]) == 1
    assert [row["decision"] for row in lines(capsys.readouterr().out)] == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["none", "a.wav"], "no bank in none"),
        (["BANK"], "name what is to be judged"),
        (["BANK", "empty"], "no recordings in empty"),
        (["BANK", "none.wav"], "none.wav does not exist"),
        (["BANK", "empty", "--machine", "fan"], "which holds pump"),
    ],
)
def test_check_refuses(  # noqa: PLR0917
    bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], arguments: list[str], told: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert asd(["check", *(str(bank) if a == "BANK" else a for a in arguments)]) == 2
    assert told in capsys.readouterr().err


def test_check_of_a_data_root_surveys_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asd(["check", str(root)])
    assert "machine" in capsys.readouterr().out.splitlines()[0]


def test_recordings_misspelt_beside_a_bank_are_named(
    bank: Path,
    tmp_path: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(bank, tmp_path / "results" / "bank")
    assert asd(["check", str(tmp_path / "results"), str(tmp_path / "newclisp")]) == 2
    assert "newclisp does not exist: name recordings" in capsys.readouterr().err
    # The value of an option is no recording: data beside which a bank lies are surveyed as ever.
    shutil.copytree(bank, root / "bank")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "16000").mkdir()  # even where a folder is called so
    assert asd(["check", str(root), "--rate", "16000"]) == 0
    assert "next: asd run" in capsys.readouterr().out


def test_a_bank_of_several_machines_goes_by_the_folders(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--cache-dir", str(tmp_path / "a")]
    assert asd(["extract", "--data", str(root), "--backbone", "logmel", *where]) == 0
    write_clip(root / "pump" / "normal" / "a.wav", 1)
    write_clip(root / "pump" / "normal" / "b.wav", 2)
    write_clip(root / "pump" / "new" / "c.wav", 3)
    assert asd(["extract", "--data", str(root), "--backbone", "logmel", *where]) == 0
    assert asd(["build", "--scorer", "min-distance", "--bank", str(tmp_path / "b"), *where]) == 0
    capsys.readouterr()
    (root / "pump" / "new" / "d.m4a").write_bytes(b"sound of a kind that is not read")
    asd(["check", str(tmp_path / "b"), str(root), "--json"])
    rows = lines(capsys.readouterr().out)
    (unread,) = [row for row in rows if str(row["clip"]).endswith("d.m4a")]
    assert (unread["machine_type"], unread["decision"]) == ("pump", None)
    assert {row["machine_type"] for row in rows} == {"fan", "pump"}
    assert all("test" in str(row["clip"]) or "new" in str(row["clip"]) for row in rows)
    assert all(row["sentence"] for row in rows)
    clip = str(root / "pump" / "new" / "c.wav")
    assert asd(["check", str(tmp_path / "b"), clip]) == 2
    assert "--machine" in capsys.readouterr().err
    assert asd(["check", str(tmp_path / "b"), clip, "--machine", "fan", "--json"]) in (0, 1)
    assert lines(capsys.readouterr().out)[0]["machine_type"] == "fan"
    far = shutil.copy(clip, tmp_path / "far.wav")  # no folder of it holds the normal clips
    for normal, told in (((), False), (("--normal", str(root)), True)):
        asd(["check", str(tmp_path / "b"), str(far), "--machine", "pump", "--json", *normal])
        assert bool(lines(capsys.readouterr().out)[0]["sentence"]) == told


def test_watch_once_history_and_metrics(
    bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, kind in enumerate("..xx."):
        record(tmp_path / "in" / f"2026-11-26T10-{i:02d}-00.wav", i * (kind == "x"), hums=kind == "x")
    state, metrics = str(tmp_path / "state"), tmp_path / "asd.prom"
    asked = ["watch", str(bank), str(tmp_path / "in"), "--once", "--votes", "2/3", "--state", state,
             "--alarms", str(tmp_path / "alarms.jsonl"), "--metrics", str(metrics)]  # fmt: skip
    assert asd([*asked, "--json"]) == 1
    *judged, total = lines(capsys.readouterr().out)
    assert [row["decision"] for row in judged] == [0, 0, 1, 1, 0]
    assert (total["judged"], total["raised"]) == (5, 1)
    (alarm,) = lines((tmp_path / "alarms.jsonl").read_text())
    assert (alarm["event"], alarm["clip"]) == ("raised", "2026-11-26T10-03-00.wav")
    text = metrics.read_text()
    assert 'asd_clips_total{machine_type="pump",section="0",decision="abnormal"} 2.0' in text
    assert 'asd_alarm{machine_type="pump",section="0"} 1.0' in text
    assert asd([*asked, "--quiet"]) == 0  # nothing new
    assert 'decision="normal"} 3.0' in metrics.read_text()
    capsys.readouterr()
    filters = {
        ("--events",): ["10-03"], ("--abnormal",): ["10-02", "10-03"], ("--last", "1"): ["10-04"],
        ("--since", "2026-11-26T10:01", "--until", "2026-11-26T10:03"): ["10-01", "10-02"],
        ("--clip", "*10-04*"): ["10-04"], ("--unjudged",): [], ("--machine", "fan"): [],
    }  # fmt: skip
    for asks, expected in filters.items():
        assert asd(["history", state, "--json", *asks]) == 0
        found = [str(row["clip"])[11:16] for row in lines(capsys.readouterr().out)]
        assert found == expected
    for suffix in ("csv", "parquet"):
        path = tmp_path / f"all.{suffix}"
        assert asd(["history", state, "--table", str(path)]) == 0
        frame = pd.read_csv(path) if suffix == "csv" else pd.read_parquet(path)
        assert frame["decision"].tolist() == [0, 0, 1, 1, 0]
    both = [tmp_path / "both.csv", tmp_path / "both.html"]
    assert asd(["history", state, "--table", str(both[0]), "--page", str(both[1])]) == 0
    assert all(path.is_file() for path in both)
    assert asd(["history", str(tmp_path / "in")]) == 2


def test_what_a_bank_cannot_promise_is_refused_with_figures(
    bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["watch", str(bank), str(tmp_path), "--plan"]
    assert asd([*asked, "--votes", "3/5", "--json"]) == 0
    share = binom.sf(2, 5, 0.1)
    said = capsys.readouterr()
    assert f"1 in {1 / share:.0f} clips" in json.loads(said.out)["promise"]
    assert asd([*asked, "--false-alarms", "1/month", "--clip-interval", "600", "--json"]) == 0
    promise = json.loads(capsys.readouterr().out)
    assert promise["limit"] == pytest.approx(30.436875 * 144)  # a mean month of ten minutes
    found = Detector.load(bank).bank
    groups = found.read(found.sections()[0], found.recipe()).calibration.count
    assert f"the {groups} groups" in promise["promise"]
    for more, told in (
        (["--false-alarms", "1/month"], "--clip-interval"),
        (["--false-alarms", "1/1000000", "--within", "3"], "--within 3"),
        (["--false-alarms", "2"], "--false-alarms 2"),
        (["--false-alarms", "1/100", "--votes", "3/5"], "leave one out"),
        (["--votes", "4/3"], "K/N"),
        (["--webhook", "ftp://x"], "--webhook ftp://x"),
        (["--mqtt", "mqtt://x"], "expected mqtt://"),
    ):
        assert asd([*asked, *more]) == 2
        assert told in capsys.readouterr().err
    assert asd(["watch", str(bank), "-", "--plan"]) == 2
    assert "--rate" in capsys.readouterr().err


def test_a_bank_of_windows_keeps_a_rate_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(30):
        write_clip(tmp_path / "normal" / f"n{i:02d}.wav", i, seconds=0.3)
    detector = Detector("logmel", scorer="min-distance", machine="pump", window=0.1, group="file")
    bank = detector.fit(tmp_path / "normal").save(tmp_path / "pump.bank")
    for i in range(14):
        record(tmp_path / "in" / f"2026-11-26T10-{i:02d}-00.wav", i, hums=i > 2)
    asked = ["watch", str(bank), str(tmp_path / "in"), "--once", "--false-alarms", "1/50", "--json"]
    assert asd([*asked, "--plan", "--state", str(tmp_path / "s")]) == 0
    assert "clips of 3 windows" in json.loads(capsys.readouterr().out)["promise"]
    assert asd([*asked, "--state", str(tmp_path / "s")]) == 1
    *rows, total = lines(capsys.readouterr().out)
    assert [row["windows"] for row in rows] == [3] * 14
    assert total["raised"] == 1
    assert [row["event"] for row in rows[:3]] == [""] * 3


def test_samples_on_standard_input_are_watched_in_a_process(bank: Path, tmp_path: Path) -> None:
    hum = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE)
    done = subprocess.run(
        [sys.executable, "-m", "eval.monitor.run", "watch", str(bank), "-", "--rate", str(RATE),
         "--seconds", "0.5", "--state", str(tmp_path / "s"), "--json"],
        input=(np.concatenate([noise, noise + hum]) * 2**15).astype("<i2").tobytes(),
        check=True, capture_output=True, timeout=PATIENCE, cwd=REPOSITORY,
    )  # fmt: skip
    *rows, total = lines(done.stdout.decode())
    assert [row["decision"] for row in rows[4:]] == [1, 1, 1, 1]
    assert (total["judged"], total["raised"]) == (8, 1)
    assert len(list((tmp_path / "s").rglob("recordings/*.wav"))) == 8


def test_a_watch_that_is_told_to_end_ends_well(bank: Path, tmp_path: Path) -> None:
    record(tmp_path / "in" / "a.wav", 1)
    started = subprocess.Popen(
        [sys.executable, "-m", "eval.monitor.run", "watch", str(bank), str(tmp_path / "in"),
         "--state", str(tmp_path / "s")],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    while not list(tmp_path.rglob("history/*.parquet")):
        assert started.poll() is None
        time.sleep(0.05)
    started.send_signal(signal.SIGTERM)
    said, _ = started.communicate(timeout=PATIENCE)
    assert started.returncode == 0, said
    assert "1 judged" in said
    assert len(History(tmp_path / "s" / "pump" / "section_00" / "history").read()) == 1
