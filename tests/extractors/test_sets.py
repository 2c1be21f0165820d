"""Public sets beside the challenge's: fetched from a Zenodo on this machine in their published layout."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import stat
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
import pandas as pd
import py7zr
import pytest
import soundfile

from cache.base.errors import AsdError
from eval.run import main as evaluate
from extractors.clips.dataset import counts, datasets
from extractors.clips.listing import list_clips
from extractors.data import archive
from extractors.data.fetch import pinned
from extractors.data.run import main
from extractors.fetching import http
from extractors.fetching.download import Remote
from tests.helpers.bad_server import BadServer

ErrorOf = Callable[..., str]


def sound(seed: int, channels: int = 1, rate: int = 16_000) -> bytes:
    """A hum with noise, 0.4 s; every fourth seed hums higher."""
    rng, t = np.random.default_rng(seed), np.arange(int(0.4 * rate)) / rate
    wave = 0.1 * np.sin(2 * np.pi * (300 + 900 * (seed % 4 == 3)) * t) + rng.normal(0, 0.02, t.size)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([wave] * channels, 1), rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def zipped(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with ZipFile(buffer, "w") as content:
        for name, data in members.items():
            content.writestr(ZipInfo(name), data, ZIP_DEFLATED)
    return buffer.getvalue()


def mimii(machine: str, first: int) -> bytes:
    """An archive of MIMII: two ids, 8 channels, nine normal and three abnormal clips each."""
    members = {}
    for number in ("00", "02"):
        for condition, many in (("normal", 9), ("abnormal", 3)):
            for i in range(many):
                seed = first + 4 * i + 3 * (condition == "abnormal") + 100 * int(number)
                members[f"{machine}/id_{number}/{condition}/{i:08d}.wav"] = sound(seed, 8)
    return zipped(members)


def engine() -> bytes:
    """The archive of IDMT-ISA-ELECTRIC-ENGINE: long recordings, and what was cut of them."""
    members = {}
    for state, odd in (("engine1_good", 0), ("engine2_broken", 3), ("engine3_heavyload", 3)):
        for i in range(8):
            members[f"train_cut/{state}/pure_{i}.wav"] = sound(4 * i + odd, rate=44_100)
        for i in range(3):
            members[f"test_cut/{state}/talking_{i}.wav"] = sound(400 + 4 * i + odd, rate=44_100)
        members[f"train/{state}/pure.wav"] = sound(700 + odd, rate=44_100)
        members[f"test/{state}/talking.wav"] = sound(800 + odd, rate=44_100)
    return zipped({f"IDMT-ISA-ELECTRIC-ENGINE/{name}": data for name, data in members.items()})


FILES: dict[str, Callable[[], dict[str, bytes]]] = {
    "mimii": lambda: {"-6_dB_fan.zip": mimii("fan", 0), "6_dB_fan.zip": mimii("fan", 1000),
                      "0_dB_pump.zip": mimii("pump", 2000)},
    "idmt-isa-electric-engine": lambda: {"IDMT-ISA-ELECTRIC-ENGINE.zip": engine()},
}  # fmt: skip


@pytest.fixture
def publish(server: BadServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setenv("ASD_OFFLINE", "")
    monkeypatch.setenv("ASD_ZENODO", server.url)

    def serve(name: str, files: Mapping[str, bytes], **how: object) -> None:
        record = datasets()[name].record
        listed = []
        for key, content in files.items():
            url = server.serve(f"/api/records/{record}/files/{key}/content", content, **how)
            server.serve(f"/records/{record}/files/{key}", content, **how)
            md5 = f"md5:{hashlib.md5(content).hexdigest()}"
            listed.append({"key": key, "size": len(content), "checksum": md5, "links": {"self": url}})
        answer = {"files": listed, "metadata": {"license": {"id": "cc-by-4.0"}}}
        server.serve(f"/api/records/{record}", json.dumps(answer).encode())

    return serve


def due(machine: str) -> bytes:
    """An archive of MIMII DUE: two sections, three folders, attributes in the names of training clips."""
    members = {}
    for number in ("00", "05"):
        for domain, many in (("source", 4), ("target", 2)):
            for i in range(many):
                name = f"section_{number}_{domain}_train_normal_{i:04d}_strength_{i}.wav"
                members[f"{machine}/train/{name}"] = sound(4 * i)
            for condition, odd in (("normal", 0), ("anomaly", 3)):
                name = f"section_{number}_{domain}_test_{condition}_0000.wav"
                members[f"{machine}/{domain}_test/{name}"] = sound(odd)
    return zipped(members)


def dg(machine: str) -> bytes:
    """An archive of MIMII DG: train and test, attribute files."""
    rows, members = ["file_name,d1p,d1v"], {}
    for split, domain, condition, odd in (
        ("train", "source", "normal", 0), ("train", "target", "normal", 0), ("test", "source", "normal", 0),
        ("test", "source", "anomaly", 3), ("test", "target", "normal", 0), ("test", "target", "anomaly", 3),
    ):  # fmt: skip
        for i in range(3):
            path = f"{machine}/{split}/section_02_{domain}_{split}_{condition}_{i:04d}_vel_{i}.wav"
            members[path] = sound(4 * i + odd)
            rows.append(f"{path},vel,{10 * i}")
    return zipped({**members, f"{machine}/attributes_02.csv": "\n".join(rows).encode()})


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        (
            ("mimii-due",
            {"dev_data_fan.zip": due("fan"), "dev_data_gearbox.zip": due("gearbox")}),
            {(f"{machine}/section_{number}", split, domain, condition): count
             for machine in ("fan", "gearbox") for number in ("00", "05")
             for split, domain, condition, count in (
                 ("train", "source", "normal", 4), ("train", "target", "normal", 2),
                 ("test", "source", "normal", 1), ("test", "source", "anomaly", 1),
                 ("test", "target", "normal", 1), ("test", "target", "anomaly", 1))},
        ),
        (
            ("mimii-dg", {"bearing.zip": dg("bearing")}),
            {("bearing/section_02", split, domain, condition): 3
             for split, domain, condition in (
                 ("train", "source", "normal"), ("train", "target", "normal"),
                 ("test", "source", "normal"), ("test", "source", "anomaly"),
                 ("test", "target", "normal"), ("test", "target", "anomaly"))},
        ),
    ],
    ids=["due", "dg"],
)  # fmt: skip
def test_the_successors_of_mimii(
    publish: Callable[..., None], published: tuple[str, dict[str, bytes]],
    expected: dict[tuple[str, ...], int], tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    name, files = published
    publish(name, files)
    assert main(["fetch", name, "--to", str(tmp_path)]) == 0
    said = capsys.readouterr().err
    assert {"mimii-due": "Licence: not established", "mimii-dg": "Licence: sources disagree"}[name] in said
    clips = list_clips([tmp_path / name]).clips
    assert Counter((str(c.section), c.split, c.domain, c.condition) for c in clips) == expected
    key, value = {"mimii-due": ("strength", "1"), "mimii-dg": ("vel", "10")}[name]
    assert next(c for c in clips if c.split == "train" and "_0001_" in c.clip_id).attributes[key] == value
    assert main(["fetch", name, "--to", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["there"] == len(files)


@pytest.mark.parametrize("name", FILES)
def test_two_commands_lead_to_scores_and_a_page(
    publish: Callable[..., None], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    publish(name, FILES[name]())
    assert main(["fetch", name, "--to", str(tmp_path / "my data"), "--json"]) == 0
    (root,) = json.loads(capsys.readouterr().out)["made"]
    assert root == str(tmp_path / "my data" / name)
    monkeypatch.setenv("ASD_OFFLINE", "1")
    out, cache = tmp_path / "results", tmp_path / "cache"
    assert evaluate(["logmel", "--data", root, "--out", str(out), "--cache-dir", str(cache)]) == 0
    assert (out / "report.html").stat().st_size > 100_000
    scores = list(out.rglob("anomaly_score_*.csv"))
    rows = dict(line.split(",") for path in scores for line in path.read_text().splitlines())
    assert len(scores) == (6 if name == "mimii" else 1)
    assert len(rows) == (6 if name == "mimii" else 9)
    assert np.isfinite([float(score) for score in rows.values()]).all()


def test_layouts_say_what_is_learnt_from(
    publish: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, made in FILES.items():
        publish(name, made())
        assert main(["fetch", name, "--to", str(tmp_path)]) == 0
    clips = list_clips([tmp_path / "mimii"]).clips
    found = Counter((str(c.section), c.split, c.condition) for c in clips)
    for section in ("fan_-6_dB/section_00", "fan_6_dB/section_02", "pump_0_dB/section_02"):
        assert [found[section, s, c] for s, c in
                (("train", "normal"), ("test", "normal"), ("test", "anomaly"))] == [6, 3, 3]  # fmt: skip
    listing = list_clips([tmp_path / "idmt-isa-electric-engine"])
    found = Counter((c.split, c.condition, c.attributes["state"]) for c in listing.clips)
    assert found == {
        ("train", "normal", "good"): 8, ("test", "normal", "good"): 3,
        ("test", "anomaly", "broken"): 3, ("test", "anomaly", "heavyload"): 3,
    }  # fmt: skip
    assert {c.attributes["noise"] for c in listing.clips if c.split == "test"} == {"talking"}
    assert any("39 recordings where the whole set has 2378" in note for note in listing.notes)
    capsys.readouterr()
    assert main(["check", str(tmp_path / "mimii")]) == 0
    said = capsys.readouterr()
    assert "fan_6_dB section 02 is called as in MIMII, 6_dB, with 12 of 1375 clips" in said.err


def test_published_counts_are_held_against_a_set_that_is_nearly_whole(
    monkeypatch: pytest.MonkeyPatch, publish: Callable[..., None], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    publish("mimii", {"6_dB_fan.zip": mimii("fan", 0)})
    assert main(["fetch", "mimii", "--to", str(tmp_path)]) == 0
    whole = datasets()["mimii"]
    for normal, findings in ((9, 0), (10, 1)):
        for each in whole.known:
            if each.sections == {"fan_6_dB": (0,)}:
                monkeypatch.setitem(vars(each), "counts", counts(normal, 3))
        assert main(["check", str(tmp_path / "mimii")]) == findings
    assert "6 of 7 clips train normal (MIMII, 6_dB)" in capsys.readouterr().err


def test_counts_of_the_papers_table() -> None:
    """Normal and abnormal clips of all that is published, as the literature sums them up."""
    sums: Counter[tuple[str, str]] = Counter()
    for each in datasets()["mimii"].known:
        ((machine, _),) = each.sections.items()
        for (_, _, condition), count in each.counts.items():
            sums[machine.split("_")[0], str(condition)] += count
    assert {key: value // 3 for key, value in sums.items()} == {
        ("fan", "normal"): 4075, ("fan", "anomaly"): 1475, ("pump", "normal"): 3749,
        ("pump", "anomaly"): 456, ("slider", "normal"): 3204, ("slider", "anomaly"): 890,
        ("valve", "normal"): 3691, ("valve", "anomaly"): 479,
    }  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_terms_and_citation_come_before_the_first_byte(
    publish: Callable[..., None], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    publish(name, FILES[name]())
    said: list[str] = []

    def listening(*_: object) -> str:
        said.append(capsys.readouterr().err)
        raise AsdError("not now")

    monkeypatch.setattr(archive, "download", listening)
    assert main(["fetch", name, "--to", str(tmp_path)]) == 1
    for part in ("Licence: CC BY-", "Cite: ", "Split: ", "states cc-by-4.0"):
        assert part in said[0]


@pytest.mark.parametrize("name", ["toyadmos", "toyadmos2"])
def test_what_may_not_be_fetched_gets_a_notice(server: BadServer, name: str, error_of: ErrorOf) -> None:
    said = error_of(main, "fetch", name, "--to", "/nowhere")
    assert "is not fetched by a program" in said
    assert f"/records/{datasets()[name].record}" in said
    assert "Cite " in said
    assert not server.asked


def test_toyadmos_is_read_where_it_lies(tmp_path: Path) -> None:
    case = tmp_path / "ToyADMOS" / "ToyCar" / "case1"
    for i in range(10):
        for channel in (1, 2):
            for folder, name, many in (("NormalSound_IND", "normal", 10), ("AnomalousSound_IND", "ab01", 3)):
                if i < many:
                    path = case / folder / f"1{i:03d}_ToyCar_case1_{name}_IND_ch{channel}_{i:04d}.wav"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(sound(i))
    (case / "NormalSound_CNT").mkdir()
    for root in (tmp_path, tmp_path / "ToyADMOS", case.parent):
        listing = list_clips([root])
        found = Counter((str(c.section), c.split, c.condition) for c in listing.clips)
        assert found == {("ToyCar/section_01", "train", "normal"): 7,
                         ("ToyCar/section_01", "test", "normal"): 3,
                         ("ToyCar/section_01", "test", "anomaly"): 3}  # fmt: skip
        assert all("_ch1_" in clip.clip_id for clip in listing.clips)
        assert any("13 files of microphones 2 to 4 are not read" in note for note in listing.notes)


@pytest.mark.parametrize("name", FILES)
def test_archives_cut_off_are_continued(
    publish: Callable[..., None], server: BadServer, name: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(http, "_PAUSE", 0.01)
    publish(name, FILES[name](), cut=[70_000])
    assert main(["fetch", name, "--to", str(tmp_path)]) == 0
    assert any(asked.startswith("bytes=") for _, asked in server.asked)
    assert list_clips([tmp_path / name]).clips


_FAULTS = {
    "lying": "its md5 is", "redirect": "Exceeded 30 redirects", "stalled": "timed out",
    "up": "would leave the folder", "absolute": "would leave the folder",
    "link": "is a link or a device", "half": "is no whole zip file",
    "full": "No space left on device",
}  # fmt: skip


def damaged(content: bytes, fault: str, folder: Path) -> bytes:
    evil = {"up": "fan/../../evil.wav", "absolute": str(folder / "evil.wav")}.get(fault)
    if evil:
        return zipped({"fan/a.wav": b"x", evil: b"evil"})
    if fault == "link":
        member, buffer = ZipInfo("fan/link"), io.BytesIO()
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        with ZipFile(buffer, "w") as made:
            made.writestr(member, "/etc")
        return buffer.getvalue()
    return content[: len(content) // 2] if fault == "half" else content


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("fault", _FAULTS)
def test_bad_archives_and_servers(
    publish: Callable[..., None], server: BadServer, name: str, fault: str, tmp_path: Path,
    *, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(http, "_PAUSE", 0.01)
    monkeypatch.setattr(http, "_TIMEOUT", (1.0, 0.3))
    key, content = list(FILES[name]().items())[-1]
    how = {"redirect": {"status": 302}, "stalled": {"halt": 1}}.get(fault, {})
    publish(name, {key: damaged(content, fault, tmp_path)}, **how)
    for path, served in server.files.items():
        if fault == "lying" and key in path:
            served.content = served.content[:-1] + b"x"
    if fault == "full":
        monkeypatch.setattr("extractors.data.archive.shutil.copyfileobj", full)
    assert main(["fetch", name, "--to", str(tmp_path / "to")]) == 1
    assert _FAULTS[fault] in capsys.readouterr().err
    assert not list(tmp_path.rglob("*evil*"))
    assert not list((tmp_path / "to").rglob("*.wav"))


def test_machines_of_mimii_and_parts(publish: Callable[..., None], tmp_path: Path, error_of: ErrorOf) -> None:
    publish("mimii", FILES["mimii"]())
    call = ("fetch", "mimii", "--to", str(tmp_path))
    assert "--machine saw: there are -6_dB_fan, 0_dB_pump, 6_dB_fan" in error_of(
        main, *call, "--machine", "saw"
    )
    assert "mimii has no parts" in error_of(main, *call, "--part", "dev")
    assert main([*call, "--machine", "fan"]) == 0
    assert {path.name for path in (tmp_path / "mimii").iterdir()} == {"-6_dB_fan", "6_dB_fan"}


def test_offline_it_says_what_to_bring(tmp_path: Path, error_of: ErrorOf, server: BadServer) -> None:
    said = error_of(main, "fetch", "mimii", "--to", str(tmp_path), "--offline")
    assert "/records/3384388 to " in said
    assert not server.asked


def test_published_hashes_are_pinned(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "extractors")
    md5 = datasets()["mimii"].md5
    assert len(md5) == 12
    monkeypatch.delenv("ASD_ZENODO", raising=False)
    other = Remote("6_dB_fan.zip", (), "md5:" + "0" * 32)
    with pytest.raises(AsdError, match="it was changed since"):
        pinned(other, md5)
    known = pinned(Remote("6_dB_fan.zip", ()), md5)
    assert known.known_hash == "md5:0890f7d3c2fd8448634e69ff1d66dd47"
    assert pinned(known, md5) is known
    monkeypatch.setenv("ASD_ZENODO", "http://localhost")
    assert pinned(other, md5) is other
    assert "not the published archive" in caplog.text


def imad() -> bytes:
    """The archive of one machine of IMAD-DS, by microphone, accelerometer and gyroscope."""
    buffer = io.BytesIO()
    with py7zr.SevenZipFile(buffer, "w", filters=[{"id": py7zr.FILTER_COPY}]) as made:
        for split, kinds in (("train", ["normal"]), ("test", ["normal", "anomaly"])):
            for condition, domain in ((c, d) for c in kinds for d in ("source", "target")):
                rows = []
                for i in range(12 if (split, domain) == ("train", "source") else 4):
                    seed = f"{condition}_{domain}_{split}_{i}"
                    row: dict[str, object] = {
                        "imp23absu_mic": "",
                        "ism330dhcx_acc": "",
                        "ism330dhcx_gyro": "",
                    }
                    for sensor, rate, columns in (
                        ("imp23absu_mic", 16_000, ["PCM"]),
                        ("ism330dhcx_acc", 7_063, ["A_x [g]", "A_y [g]", "A_z [g]"]),
                        ("ism330dhcx_gyro", 7_063, ["G_x [dps]"]),
                    ):
                        name = f"{sensor}_{seed}.parquet"
                        rng = np.random.default_rng(zlib.crc32(name.encode()))
                        t = np.sort(np.arange(rate // 2) / rate + rng.normal(0, 1e-5, rate // 2))
                        pitch = 900 if condition == "anomaly" else 300
                        wave = np.sin(2 * np.pi * pitch * t)[:, None] + rng.normal(
                            9.8, 0.2, (len(t), len(columns))
                        )
                        frame = pd.DataFrame({"Time": t, **dict(zip(columns, wave.T, strict=True))})
                        made.writestr(frame.to_parquet(), f"BrushlessMotor/{split}/{name}")
                        row[sensor] = name
                    rows.append({**row, "split_label": split, "anomaly_label": condition, "load": i % 2})
                table = pd.DataFrame(rows).to_csv()
                made.writestr(table, f"BrushlessMotor/{split}/attributes_{condition}_{domain}_{split}.csv")
    return buffer.getvalue()


def test_imad_ds_by_microphone_and_accelerometer(
    publish: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    publish("imad-ds", {"BrushlessMotor.7z": imad()})
    assert main(["fetch", "imad-ds", "--to", str(tmp_path)]) == 0
    assert "Licence: CC BY-SA 4.0" in capsys.readouterr().err
    root = tmp_path / "imad-ds"
    clips = list_clips([root]).clips
    found = Counter((c.section.machine_type, c.split, c.domain, c.condition) for c in clips)
    assert found["BrushlessMotor", "train", "source", "normal"] == 12
    assert found["BrushlessMotor_acc", "train", "target", "normal"] == 4
    assert found["BrushlessMotor_acc", "test", "target", "anomaly"] == 4
    assert {c.signal.rate for c in clips if c.section.machine_type.endswith("_acc")} == {7063}
    assert clips[0].attributes == {"load": "0"}
    monkeypatch.setenv("ASD_OFFLINE", "1")
    out = tmp_path / "out"
    call = ["logmel", "--data", str(root), "--out", str(out), "--cache-dir", str(tmp_path / "cache")]
    assert evaluate([*call, "--set", "remove_dc=true"]) == 0
    assert "made audible" in (out / "report.html").read_text()
    assert json.loads((out / "results.json").read_text())
    assert len(list(out.rglob("anomaly_score_*.csv"))) == 2


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[: len(data) // 2], "is no whole 7z file"),
        (lambda data: b"<html>" + data, "is no whole 7z file"),
        (lambda data: data[:60] + bytes([data[60] ^ 255]) + data[61:], "is no whole 7z file"),
    ],
)
def test_7z_archives_that_are_not_whole(
    publish: Callable[..., None], damage: Callable[[bytes], bytes], reason: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    publish("imad-ds", {"BrushlessMotor.7z": damage(imad())})
    assert main(["fetch", "imad-ds", "--to", str(tmp_path)]) == 1
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "imad-ds").exists()


@pytest.mark.parametrize(
    ("name", "link", "reason"),
    [("../evil.wav", False, "would leave the folder"), ("/tmp/evil.wav", False, "would leave the folder"),
     ("link", True, "is a link or a device")],
)  # fmt: skip
def test_members_of_a_7z_file_stay_in_it(
    name: str, link: bool, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.7z").write_bytes(imad())
    listed = SimpleNamespace(
        filename=name, is_symlink=link, is_junction=False, is_socket=False, uncompressed=1
    )
    listing = property(lambda _: [listed], lambda *_: None, lambda _: None)
    monkeypatch.setattr(py7zr.SevenZipFile, "files", listing, raising=False)
    monkeypatch.setattr(py7zr.SevenZipFile, "extractall", lambda *_: pytest.fail("unpacked all the same"))
    with pytest.raises(AsdError, match=reason):
        archive.unpack(tmp_path / "a.7z", tmp_path / "root", tmp_path / "work")
    assert not (tmp_path / "root").exists()
