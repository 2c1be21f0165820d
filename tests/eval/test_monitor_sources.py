"""Recordings as they arrive: files that still grow, times in names, samples on a stream."""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cache.base.errors import AsdError
from eval.monitor.sources import FolderSource, PcmSource, recorded_at
from tests.conftest import PATIENCE, write_clip


@pytest.mark.parametrize(
    "name",
    [
        "pump 2026-11-26T21-54-07.wav",
        "20261126_215407.wav",
        "a-20261126215407-b.wav",
        "2026-11-26 21.54.07 x.wav",
    ],
)
def test_a_time_in_a_name(name: str) -> None:
    assert recorded_at(name) == datetime(2026, 11, 26, 21, 54, 7, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("name", ["section_00_source_test_normal_0000.wav", "20261326_215407.wav", "a.wav"])
def test_no_time_in_a_name(name: str) -> None:
    assert recorded_at(name) is None


def test_a_file_that_grows_is_left_alone(tmp_path: Path) -> None:
    now = 1e9
    source = FolderSource(tmp_path, settled=5.0, clock=lambda: now)
    path = write_clip(tmp_path / "sub dir" / "a.wav", 1)
    os.utime(path, (now, now))
    (tmp_path / "notes.txt").write_text("no sound")
    write_clip(tmp_path / ".hidden" / "b.wav", 2)
    assert source.arrived() == []  # written a moment ago
    with path.open("ab") as file:
        file.write(b"1234")
    os.utime(path, (now + 100, now + 100))  # by a clock that is ahead
    assert source.arrived() == []  # has grown since
    now += 4.9
    assert source.arrived() == []
    now += 0.1
    assert [arrival.name for arrival in source.arrived()] == ["sub dir/a.wav"]
    os.utime(path, (1e9, 1e9))
    again = FolderSource(tmp_path, settled=5.0, clock=lambda: now)
    assert [arrival.time for arrival in again.arrived()] == [1e9]  # old enough at the first look


def test_what_lies_behind_a_link_is_found_and_what_is_not_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(tmp_path / "disk" / "a.wav", 1)
    (tmp_path / "in" / "shut").mkdir(parents=True)
    (tmp_path / "in" / "day").symlink_to(tmp_path / "disk")
    (tmp_path / "in" / "phone.m4a").write_bytes(b"sound of a kind that is not read")
    forbid(tmp_path / "in" / "shut", monkeypatch)
    arrived = {one.name: one.fault for one in FolderSource(tmp_path / "in", settled=0.0).arrived()}
    assert arrived.pop("day/a.wav") == ""
    assert "Permission denied" in arrived.pop("shut")
    assert "not an audio file" in arrived.pop("phone.m4a")
    assert not arrived


def forbid(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that this user may not list; root may list any."""
    listed = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if path == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)


def test_a_wait_ends_when_something_comes(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    source, stop = FolderSource(tmp_path, settled=0.1), threading.Event()

    def waiting() -> threading.Thread:
        thread = threading.Thread(target=source.wait, args=(stop, 10.0 * PATIENCE), daemon=True)
        thread.start()
        return thread

    thread = waiting()
    for seed in range(PATIENCE):  # what comes before the folder is looked at wakes nobody
        write_clip(tmp_path / "a.wav", seed)
        thread.join(1.0)
        if not thread.is_alive():
            break
    assert not thread.is_alive()
    while not (found := source.arrived()):
        source.wait(stop, PATIENCE)
    assert [arrival.name for arrival in found] == ["a.wav"]
    stop.set()
    thread = waiting()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_oldest_first_by_the_time_in_the_name(tmp_path: Path) -> None:
    for name in ("20260102_000000.wav", "20260101_000000.wav"):
        write_clip(tmp_path / name, 1)
    source = FolderSource(tmp_path, settled=0.0)
    assert [arrival.name[:8] for arrival in source.arrived()] == ["20260101", "20260102"]
    with pytest.raises(AsdError, match="not a folder"):
        FolderSource(tmp_path / "none").arrived()


def test_a_stream_becomes_recordings(tmp_path: Path) -> None:
    samples = np.arange(2500, dtype="<i2").reshape(-1, 2)
    times = iter([1e9, 1e9 + 0.5])
    source = PcmSource(
        io.BytesIO(samples.tobytes()), 1000, 0.5, tmp_path / "heard", 2, 1, clock=lambda: next(times)
    )
    names = []
    while not source.ends:
        names += [arrival.path for arrival in source.arrived()]
    assert len(names) == 2  # 1.25 s: what is left over is no recording
    assert [path.exists() for path in names] == [False, True]
    again = PcmSource(io.BytesIO(), 1000, 0.5, tmp_path / "heard", channels=2)
    (kept,) = again.arrived()  # of an earlier run, which may have been killed
    assert (kept.path, again.arrived(), again.ends) == (names[1], [], True)
    assert kept.time == 1e9  # when it began
    heard, rate = soundfile.read(names[1], dtype="int16")
    assert rate == 1000
    assert np.array_equal(heard, samples[500:1000])
