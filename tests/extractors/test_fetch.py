"""Data sets by name, from a Zenodo on this machine, with archives good and bad."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pytest

from extractors.clips.listing import list_clips
from extractors.data import archive
from extractors.data.archive import Archive
from extractors.data.fetch import FetchRequest, look_up
from extractors.data.run import main
from extractors.data.zenodo import DATASETS, PARTS
from extractors.fetching.download import Remote
from tests.conftest import PATIENCE, write_clip
from tests.helpers.bad_server import BadServer

ErrorOf = Callable[..., str]
DEV, TRAIN, EVAL = DATASETS["dcase2023"]
_EVIL = {
    "up": "fan/../../evil.wav",
    "absolute": "/tmp/evil.wav",
    "drive": "C:/evil.wav",
    "backslash": "fan\\..\\..\\evil.wav",
}


def zipped(members: Mapping[str, bytes]) -> bytes:
    """An archive, the same bytes every time: a member without a date is of 1980."""
    buffer = io.BytesIO()
    with ZipFile(buffer, "w") as content:
        for name, data in members.items():
            content.writestr(ZipInfo(name), data, ZIP_DEFLATED)
    return buffer.getvalue()


class Zenodo:
    """Records on a server of this machine."""

    def __init__(self, server: BadServer) -> None:
        self.server = server

    def publish(self, number: int, files: Mapping[str, bytes], *, hashed: bool = True) -> None:
        listed = []
        for name, content in files.items():
            path = f"/api/records/{number}/files/{name}/content"
            url = self.server.serve(path, content)
            file = {"key": name, "size": len(content), "links": {"self": url}}
            checksum = {"checksum": f"md5:{hashlib.md5(content).hexdigest()}"} if hashed else {}
            listed.append(file | checksum)
        answer = {"files": listed, "metadata": {"license": {"id": "cc-by-nc-sa-4.0"}}}
        self.server.serve(f"/api/records/{number}", json.dumps(answer).encode())

    def asked(self) -> list[str]:
        """Archives asked for, in order."""
        return [path.split("/")[-2] for path, _ in self.server.asked if path.endswith("/content")]


@pytest.fixture
def clips(tmp_path: Path) -> dict[str, bytes]:
    """A machine's files by their names in an archive."""
    names = [
        "train/section_00_source_train_normal_0000_speed_1.wav",
        "train/section_00_target_train_normal_0001_speed_2.wav",
        "test/section_00_source_test_anomaly_0000_speed_1.wav",
    ]
    made = {name: write_clip(tmp_path / "made" / name, i) for i, name in enumerate(names)}
    return {f"fan/{name}": path.read_bytes() for name, path in made.items()}


@pytest.fixture
def zenodo(server: BadServer, clips: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Zenodo:
    """A small dcase2023: one development machine, one of the evaluation in two archives."""
    monkeypatch.setenv("ASD_ZENODO", f"{server.url}/")
    made = Zenodo(server)
    other = {name.replace("fan/", "vacuum/"): content for name, content in clips.items()}
    train = {name: content for name, content in other.items() if "/train/" in name}
    test = {"vacuum/test/section_00_0000.wav": other[next(n for n in other if "/test/" in n)]}
    made.publish(DEV, {"dev_fan.zip": zipped(clips), "readme.txt": b"hello"})
    made.publish(TRAIN, {"eval_data_vacuum_train.zip": zipped(train)})
    made.publish(EVAL, {"eval_data_vacuum_test.zip": zipped(test)})
    return made


def call(to: Path, *more: str) -> list[str]:
    return ["fetch", "dcase2023", "--to", str(to), *more]


def below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_every_record_is_another() -> None:
    numbers = [number for records in DATASETS.values() for number in records]
    assert len(set(numbers)) == len(PARTS) * 7


@pytest.mark.parametrize(
    ("name", "machine"),
    [
        ("dev_data_fan.zip", "fan"),
        ("eval_data_train_ToyCar.zip", "ToyCar"),
        ("eval_data_test_pump.zip", "pump"),
        ("eval_data_gearbox_train.zip", "gearbox"),
        ("dev_bearing.zip", "bearing"),
        ("eval_data_3DPrinter_test.zip", "3DPrinter"),
    ],
)
def test_machines_of_archive_names(name: str, machine: str) -> None:
    assert Archive(Remote(name, ()), Path(), Path(), keep=False).machine == machine


def test_a_data_set_becomes_data_roots(
    zenodo: Zenodo, tmp_path: Path, clips: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "my data"
    assert main(call(to)) == 0
    said = capsys.readouterr()
    assert "dcase2023, archives: 3 fetched and unpacked, 0 were there, 0 failed -> " in said.out
    assert "readme.txt is no archive, not fetched" in said.err
    assert below(to / "dev_data") == set(clips)
    assert {name: (to / "dev_data" / name).read_bytes() for name in clips} == clips
    listing = list_clips([to / "dev_data", to / "eval_data"])
    assert not listing.faults
    assert sorted((c.section.machine_type, c.split) for c in listing.clips) == [
        ("fan", "test"), ("fan", "train"), ("fan", "train"),
        ("vacuum", "test"), ("vacuum", "train"), ("vacuum", "train"),
    ]  # fmt: skip
    assert not list(to.rglob("*.zip"))
    assert len(zenodo.asked()) == 3
    assert main(call(to)) == 0
    assert "archives: 0 fetched and unpacked, 3 were there" in capsys.readouterr().out
    assert len(zenodo.asked()) == 3
    (to / "dev_data" / next(iter(clips))).unlink()
    assert main(call(to)) == 0
    assert zenodo.asked()[3:] == ["dev_fan.zip"]
    assert below(to / "dev_data") == set(clips)


@pytest.mark.usefixtures("zenodo")
def test_terms_come_before_the_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    real = archive.download

    def listening(*arguments: object) -> str:
        said.append(capsys.readouterr().err)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(archive, "download", listening)
    assert main(call(tmp_path / "to", "--part", "dev")) == 0
    for part in (
        "non-commercial",
        "They differ",
        "dev: ",
        "states cc-by-nc-sa-4.0",
        "archives to be fetched: 1",
    ):
        assert part in said[0]


def test_parts_and_machines(zenodo: Zenodo, tmp_path: Path, error_of: ErrorOf) -> None:
    assert main(call(tmp_path / "a", "--part", "train", "eval")) == 0
    assert sorted(zenodo.asked()) == ["eval_data_vacuum_test.zip", "eval_data_vacuum_train.zip"]
    assert main(call(tmp_path / "b", "--machine", "fan", "--keep-archives")) == 0
    assert zenodo.asked()[2:] == ["dev_fan.zip"]
    assert (tmp_path / "b" / "archives" / "dcase2023" / "dev_fan.zip").is_file()
    said = error_of(main, *call(tmp_path / "c", "--machine", "fam"))
    assert "--machine fam: there are fan, vacuum" in said


@pytest.mark.parametrize("how", _EVIL)
def test_no_member_leaves_the_folder(
    zenodo: Zenodo, tmp_path: Path, clips: dict[str, bytes], how: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    zenodo.publish(DEV, {"dev_fan.zip": zipped(clips | {_EVIL[how]: b"evil"})})
    _assert_refused(tmp_path / "to", "would leave the folder", capsys)
    assert not list(tmp_path.rglob("*evil*"))
    assert not Path("/tmp/evil.wav").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO])
def test_links_and_devices_are_refused(
    zenodo: Zenodo, tmp_path: Path, kind: int, capsys: pytest.CaptureFixture[str]
) -> None:
    member, buffer = ZipInfo("fan/train/link"), io.BytesIO()
    member.external_attr = (kind | 0o777) << 16
    with ZipFile(buffer, "w") as content:
        content.writestr(member, "/etc")
        content.writestr("fan/train/link/evil.wav", b"evil")
    zenodo.publish(DEV, {"dev_fan.zip": buffer.getvalue()})
    _assert_refused(tmp_path / "to", "is a link or a device", capsys)


def _assert_refused(to: Path, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The development archive fails, for a reason; the others are there."""
    assert main(call(to)) == 1
    said = capsys.readouterr()
    assert reason in said.err
    assert "archives: 2 fetched and unpacked, 0 were there, 1 failed" in said.out
    assert not (to / "dev_data").exists()
    assert len(below(to / "eval_data")) == 3
    assert not list((to / "archives").rglob(".*.unpacked"))


def test_an_archive_that_is_not_whole(
    zenodo: Zenodo, tmp_path: Path, clips: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = zipped(clips)
    broken = whole[:200] + bytes([whole[200] ^ 255]) + whole[201:]
    for number, content in enumerate((whole[: len(whole) // 2], b"<html>", broken)):
        zenodo.publish(DEV, {"dev_fan.zip": content})
        _assert_refused(tmp_path / str(number), "is no whole zip file", capsys)


def test_another_archive_than_the_record_says(
    zenodo: Zenodo, tmp_path: Path, clips: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    file = zenodo.server.files[f"/api/records/{DEV}/files/dev_fan.zip/content"]
    file.content = file.content[:-1] + b"x"
    _assert_refused(tmp_path / "to", "its md5 is", capsys)
    brought = tmp_path / "to" / "archives" / "dcase2023" / "dev_fan.zip"
    brought.write_bytes(file.content)
    assert main(call(tmp_path / "to")) == 1
    assert f"{brought} is not the file of the record (md5:" in capsys.readouterr().err
    brought.write_bytes(zipped(clips))  # as one would bring it by hand
    assert main(call(tmp_path / "to")) == 0


def test_without_a_published_hash_the_first_download_counts(
    zenodo: Zenodo, tmp_path: Path, clips: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    zenodo.publish(DEV, {"dev_fan.zip": zipped(clips)}, hashed=False)
    only = ("--part", "dev")
    assert main(call(tmp_path / "to", *only)) == 0
    record = json.loads((tmp_path / "to/archives/dcase2023/dev_fan.zip.json").read_text())
    assert record["sha256"] == hashlib.sha256(zipped(clips)).hexdigest()
    assert sorted(record["files"]) == sorted(clips)
    assert "has no published hash; its own is recorded" in capsys.readouterr().err
    for name in clips:
        (tmp_path / "to" / "dev_data" / name).unlink()
    zenodo.publish(DEV, {"dev_fan.zip": zipped({"fan/train/a.wav": b"x"})}, hashed=False)
    assert main(call(tmp_path / "to", *only)) == 1
    assert "its sha256 is" in capsys.readouterr().err


def test_archives_of_one_machine_take_their_places_in_turn(
    zenodo: Zenodo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = archive._settle
    inside: list[int] = []  # threads
    most: list[int] = []

    def slow(source: Path, target: Path) -> list[Path]:
        inside.append(threading.get_ident())
        time.sleep(0.1)
        most.append(len(set(inside)))
        kept = real(source, target)
        inside.remove(threading.get_ident())
        return kept

    monkeypatch.setattr(archive, "_settle", slow)
    names = [f"vacuum/part{number}/{number}.wav" for number in range(6)]
    files = {f"eval_data_vacuum_{n}.zip": zipped({name: b"x"}) for n, name in enumerate(names)}
    zenodo.publish(EVAL, files)
    assert main(call(tmp_path / "to", "--part", "eval")) == 0
    assert below(tmp_path / "to" / "eval_data") == set(names)
    assert max(most) == 1


def test_a_run_killed_while_unpacking_goes_on(
    zenodo: Zenodo, tmp_path: Path, clips: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(archive, "_settle", killed)
        assert main(call(tmp_path / "to", "--part", "dev")) == 130
    assert not below(tmp_path / "to" / "dev_data")
    left = tmp_path / "to" / "archives" / "dcase2023" / ".dev_fan.zip.unpacked"
    (left / "fan").mkdir(parents=True)
    (left / "fan" / "half.wav").write_bytes(b"half")
    assert main(call(tmp_path / "to", "--part", "dev")) == 0
    assert below(tmp_path / "to" / "dev_data") == set(clips)
    assert zenodo.asked() == ["dev_fan.zip"]


def test_a_disk_that_fills_up_while_unpacking(
    zenodo: Zenodo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(archive.shutil, "copyfileobj", full)
        assert main(call(tmp_path / "to", "--part", "dev")) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert not below(tmp_path / "to" / "dev_data")
    assert main(call(tmp_path / "to", "--part", "dev")) == 0
    assert zenodo.asked() == ["dev_fan.zip"]


def test_what_is_there_stays_and_wrapping_folders_go(
    zenodo: Zenodo, tmp_path: Path, clips: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    wrapped = {f"dev_data/{name}": content for name, content in clips.items()}
    zenodo.publish(DEV, {"dev_fan.zip": zipped(wrapped | {"__MACOSX/fan/._a": b"junk"})})
    mine = tmp_path / "to" / "dev_data" / next(iter(clips))
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    assert main(call(tmp_path / "to", "--part", "dev")) == 0
    assert f"another file is there and stays: {next(iter(clips))}" in capsys.readouterr().err
    assert mine.read_bytes() == b"mine"
    assert below(tmp_path / "to" / "dev_data") == set(clips)


@pytest.mark.usefixtures("zenodo")
def test_two_years_are_not_mixed(tmp_path: Path, error_of: ErrorOf) -> None:
    assert main(call(tmp_path, "--part", "dev")) == 0
    said = error_of(main, "fetch", "dcase2022", "--to", tmp_path)
    assert f"{tmp_path} holds dcase2023; give dcase2022 a folder of its own" in said


def test_offline_it_says_what_to_bring(
    zenodo: Zenodo, tmp_path: Path, error_of: ErrorOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASD_OFFLINE", "1")
    said = error_of(main, *call(tmp_path, "--part", "dev", "eval"))
    assert f"/records/{DEV} to {tmp_path / 'dev_data'}; " in said
    assert f"/records/{EVAL} to {tmp_path / 'eval_data'}" in said
    assert not zenodo.server.asked


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"<html>", "answers with something other than a record"),
        (b"[]", "answers with something other than a record"),
        (b"{}", "answers with something other than a record"),
        (b'{"files": [{"key": "../evil.zip", "links": {"self": "x"}}]}', "a file called"),
        (b'{"files": [{"key": "a.zip", "checksum": "crc9:1", "links": {"self": "x"}}]}', "crc9:1"),
        (b'{"files": []}', "no archive is listed there"),
        (None, "does not answer (404"),
    ],
)
def test_strange_answers(
    zenodo: Zenodo, tmp_path: Path, error_of: ErrorOf, answer: bytes | None, reason: str
) -> None:
    zenodo.server.serve(f"/api/records/{DEV}", answer or b"", status=200 if answer else 404)
    assert reason in error_of(main, *call(tmp_path / "to", "--part", "dev"))
    assert not (tmp_path / "to").exists()


def test_a_disk_without_room(
    zenodo: Zenodo, tmp_path: Path, error_of: ErrorOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("extractors.fetching.download.free_space", lambda _: 50_000_100)
    said = error_of(main, *call(tmp_path / "to"))
    assert "dcase2023, archives and what is in them, needs" in said
    assert not zenodo.asked()


def test_two_processes_at_once(zenodo: Zenodo, tmp_path: Path, clips: dict[str, bytes]) -> None:
    file = zenodo.server.files[f"/api/records/{DEV}/files/dev_fan.zip/content"]
    file.pause = 0.5
    command = [sys.executable, "-m", "extractors.data.run", *call(tmp_path / "to", "--part", "dev")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for _ in range(2)]  # fmt: skip
    said = [process.communicate(timeout=PATIENCE) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert zenodo.asked() == ["dev_fan.zip"]
    assert below(tmp_path / "to" / "dev_data") == set(clips)


@pytest.mark.parametrize("name", ["dcase2030", "bearing", "dcase2023:fan", "bearing:../rig"])
def test_a_set_that_there_is_not(name: str, tmp_path: Path, error_of: ErrorOf) -> None:
    said = error_of(main, "fetch", name, "--to", tmp_path)
    assert said.startswith(f"error: NAME {name}: expected ")
    assert "mimii-dg" in said


def test_a_program_asks_with_the_same_request(zenodo: Zenodo, tmp_path: Path) -> None:  # noqa: ARG001
    assert FetchRequest("dcase2023", tmp_path).parts == ()
    found = look_up(FetchRequest("dcase2023", tmp_path, machines=("fan",)))
    assert found.roots == [str(tmp_path / "dev_data")]
    assert "archives to be fetched: 1" in found.notice
