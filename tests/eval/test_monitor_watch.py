"""Recordings judged as they arrive: once each, whatever ends the watch; alarms from them."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from cache.base.errors import AsdError
from eval.detector import Detector
from eval.monitor.alarm import AlarmRule
from eval.monitor.history import History
from eval.monitor.sinks import JsonLines
from eval.monitor.sources import FolderSource, PcmSource
from eval.monitor.watch import WatchRequest, watch
from tests.conftest import RATE, write_clip

RULE = AlarmRule(votes=2, window=3, clear=2, cool_down=200.0)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    root = tmp_path_factory.mktemp("normal")
    for i in range(30):
        write_clip(root / f"n{i:02d}.wav", i, seconds=0.3)
    found = Detector("logmel", scorer="min-distance", machine="pump").fit(root)
    return Detector.load(found.save(root / "pump.bank"))


def arrive(folder: Path, kinds: str) -> None:
    """A minute apart: normal recordings (.), humming ones (x), and what is no sound (?)."""
    folder.mkdir(exist_ok=True)
    begin = len(list(folder.iterdir()))
    for i, kind in enumerate(kinds, begin):
        path = folder / f"2026-11-26T10-{i:02d}-00.wav"
        noise = np.random.default_rng(1000 + i).normal(0, 0.1, int(0.3 * RATE))
        hum = 0.3 * np.sin(2 * np.pi * 440 * np.arange(len(noise)) / RATE)
        soundfile.write(path, noise + hum * (kind == "x"), RATE, subtype="PCM_16")
        if kind == "?":
            path.write_bytes(b"no sound")
        os.utime(path, (1e9, 1e9))


def request(detector: Detector, folder: Path, state: Path, **changes: object) -> WatchRequest:
    values = {"rule": RULE, "once": True, **changes}
    section = detector.section()
    return WatchRequest(detector, FolderSource(folder), state, section, **values)  # type: ignore[arg-type]


def told(table: pa.Table) -> list[tuple[str, int | None, str]]:
    names = ("clip", "decision", "event")
    return [tuple(row[n] for n in names) for row in table.to_pylist()]  # type: ignore[misc]


def test_everything_is_judged_once_with_its_reasons(detector: Detector, tmp_path: Path) -> None:
    arrive(tmp_path / "in", "..xx?..")
    lines = tmp_path / "alarms.jsonl"
    asked = request(detector, tmp_path / "in", tmp_path / "state", sinks=(JsonLines(lines),))
    seen: list[str] = []
    done = watch(asked, lambda judgement: seen.append(judgement.clip))
    assert (done.judged, done.abnormal, done.unreadable, done.raised, done.waiting) == (
        6,
        2,
        1,
        1,
        0,
    )
    rows = History(tmp_path / "state" / "history").read().to_pylist()
    assert [row["event"] for row in rows] == ["", "", "", "raised", "", "", "cleared"]
    assert seen == [row["clip"] for row in rows] == sorted(seen)
    assert [row["decision"] for row in rows] == [0, 0, 1, 1, None, 0, 0]
    assert rows[0]["time"].isoformat() == "2026-11-26T10:00:00+00:00"
    assert "440 Hz" in rows[3]["sentence"] or "0.4 kHz" in rows[3]["sentence"]
    assert "sound" in rows[4]["sentence"] or "audio" in rows[4]["sentence"]
    messages = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [(m["event"], m["machine"], m["alarm"]) for m in messages] == [
        ("raised", "pump", 1),
        ("cleared", "pump", 1),
    ]
    assert watch(asked).judged == 0
    arrive(tmp_path / "in", "xx")
    assert watch(asked).raised == 1  # the alarm's state was kept
    assert len(lines.read_text().splitlines()) == 3


def test_a_watch_that_is_killed_anywhere_ends_in_the_same_history(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(tmp_path / "in", "..xx..x.xx..")
    monkeypatch.setattr("eval.monitor.watch._BATCH", 1)
    watch(request(detector, tmp_path / "in", tmp_path / "whole"))
    kills, judge, append = [2, 1, 3, 1, 1, 2], Detector.judge, History.append

    class Killed(BaseException):
        pass

    def dying(function: object, after: bool) -> object:
        def call(self: object, *args: object) -> object:
            made = function(self, *args) if after else None  # type: ignore[operator]
            if kills:
                kills[0] -= 1
                if kills[0] <= 0:
                    kills.pop(0)
                    raise Killed
            return made if after else function(self, *args)  # type: ignore[operator]

        return call

    places = [(Detector, "judge", dying(judge, False)), (History, "append", dying(append, True))]
    for turn in range(20):
        with monkeypatch.context() as patch:
            patch.setattr(*places[turn % 2])  # type: ignore[call-overload]
            try:
                watch(request(detector, tmp_path / "in", tmp_path / "killed"))
                break
            except Killed:
                continue
    assert kills == []
    one, other = (History(tmp_path / name / "history") for name in ("whole", "killed"))
    assert one.read().equals(other.read())
    assert one.state() == other.state()


def test_two_watchers_share_the_work(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(tmp_path / "in", "." * 20)
    monkeypatch.setattr("eval.monitor.watch._BATCH", 2)
    counts: list[int] = []

    def work() -> None:
        counts.append(watch(request(detector, tmp_path / "in", tmp_path / "state")).judged)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 20
    clips = History(tmp_path / "state" / "history").read()["clip"].to_pylist()
    assert len(clips) == len(set(clips)) == 20


def test_a_file_of_new_content_is_judged_again(detector: Detector, tmp_path: Path) -> None:
    arrive(tmp_path / "in", "..")
    path = tmp_path / "in" / "plain name.wav"
    for i in range(2):
        write_clip(path, 50 + i, seconds=0.3)
        os.utime(path, (1e9 + i, 1e9 + i))
        assert watch(request(detector, tmp_path / "in", tmp_path / "state")).judged == (3 if i == 0 else 1)
    os.utime(path, (1e9 + 5, 1e9 + 5))  # touched, not changed
    assert watch(request(detector, tmp_path / "in", tmp_path / "state")).judged == 0


def test_a_stream_is_watched_to_its_end(detector: Detector, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = np.concatenate([rng.normal(0, 0.1, RATE), 0.3 * np.sin(np.arange(RATE) / 6)])
    stream = io.BytesIO((samples * 2**15).astype("<i2").tobytes())
    source = PcmSource(stream, RATE, 0.3, tmp_path / "heard")
    asked = WatchRequest(detector, source, tmp_path / "state", detector.section(), rule=RULE)
    done = watch(asked)
    assert done.judged == 6
    assert done.abnormal >= 2


def test_evidence_keeps_a_rate(detector: Detector, tmp_path: Path) -> None:
    arrive(tmp_path / "in", "......" + "x" * 14)
    rule = AlarmRule(votes=0, limit=10_000.0, cool_down=0.0)
    done = watch(request(detector, tmp_path / "in", tmp_path / "state", rule=rule))
    assert done.raised == 1
    table = History(tmp_path / "state" / "history").read().to_pylist()
    first = next(i for i, row in enumerate(table) if row["event"])
    assert 8 < first < 20
    assert "once in 10,000 clips" in table[first]["reason"]
    assert all(row["evidence"] < 10_000 for row in table[:first])


def test_a_folder_that_is_not_there(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(AsdError, match="not a folder"):
        watch(request(detector, tmp_path / "none", tmp_path / "state"))
