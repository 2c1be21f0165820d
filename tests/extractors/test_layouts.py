"""Folders of every year, of one's own machine, and manifests."""

from __future__ import annotations

import csv
import json
import shlex
import tracemalloc
import unicodedata
from argparse import Namespace
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.base.errors import AsdError
from cache.files.places import place
from cache.table import Section
from extractors.clips.listing import Clip, Listing, list_clips
from extractors.fetching.offline import apply_offline


def make(root: Path, *files: str) -> Path:
    """Empty files: a listing reads no sound."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def told(listing: Listing) -> dict[str, tuple[int, str, str | None, str | None]]:
    return {c.clip_id: (c.section.number, c.split, c.domain, c.condition) for c in listing.clips}


def test_folders_of_2020(tmp_path: Path) -> None:
    names = ["train/normal_id_00_00000000", "test/anomaly_id_00_00000000", "test/id_01_00000000"]
    make(tmp_path, *(f"fan/{name}.wav" for name in names))
    assert told(list_clips([tmp_path])) == {
        "fan/train/normal_id_00_00000000.wav": (0, "train", None, "normal"),
        "fan/test/anomaly_id_00_00000000.wav": (0, "test", None, "anomaly"),
        "fan/test/id_01_00000000.wav": (1, "test", None, None),
    }


def test_folders_of_2021(tmp_path: Path) -> None:
    make(
        tmp_path,
        "fan/train/section_00_target_train_normal_0002_strength_1_ambient.wav",
        "fan/source_test/section_00_source_test_anomaly_0000.wav",
        "fan/target_test/section_00_target_test_normal_0000.wav",
        "fan/source_test/section_03_source_test_0000.wav",
        "fan/target_test/section_03_0001.wav",
    )
    assert sorted(told(list_clips([tmp_path])).values(), key=str) == [
        (0, "test", "source", "anomaly"),
        (0, "test", "target", "normal"),
        (0, "train", "target", "normal"),
        (3, "test", "source", None),
        (3, "test", "target", None),
    ]


def test_a_name_against_its_domain_folder_is_a_fault(tmp_path: Path) -> None:
    make(
        tmp_path,
        "fan/source_test/section_00_source_test_normal_0000.wav",
        "fan/source_test/section_00_target_test_normal_0001.wav",
    )
    listing = list_clips([tmp_path])
    assert len(listing.clips) == 1
    assert "named target but lies in source_test/" in str(listing.faults[0])


def test_a_test_clip_without_the_word_test(tmp_path: Path) -> None:
    make(
        tmp_path,
        "RoboticArm/train/section_00_source_train_normal_0001_ac_0.03_.wav",
        "RoboticArm/test/section_00_source_anomaly_0001_ac_0.03_.wav",
    )
    test, train = list_clips([tmp_path]).clips
    assert (test.split, test.condition, test.attributes) == ("test", "anomaly", {"ac": "0.03"})
    assert (train.split, train.condition, train.attributes) == ("train", "normal", {"ac": "0.03"})


SUPPLEMENTS = (
    "fan/train/section_00_source_train_normal_0000_n_B.wav",
    "fan/supplemental/section_00_machine_source_0000_noAttribute.wav",
    "fan/supplemental/section_00_noise_supplemental_normal_0001_n_C.wav",
    "pump/train/section_00_source_train_normal_0000_n_B.wav",
    "pump/supplemental/noise 7.wav",
)


def test_supplemental_clips_are_read_only_when_asked(tmp_path: Path) -> None:
    make(tmp_path, *SUPPLEMENTS)
    listing = list_clips([tmp_path])
    assert len(listing.clips) == 2
    assert "2 supplemental clips not read; --supplemental clean or noise" in listing.notes[0]
    clean = [c for c in list_clips([tmp_path], ["clean"]).clips if "supplemental" in c.attributes]
    assert [(c.path.stem, c.split, c.domain, c.condition) for c in clean] == [
        ("section_00_machine_source_0000_noAttribute", "train", "source", "normal")
    ]
    noise = [c for c in list_clips([tmp_path], ["noise"]).clips if "supplemental" in c.attributes]
    assert [(c.path.name, c.attributes) for c in noise] == [
        ("section_00_noise_supplemental_normal_0001_n_C.wav", {"n": "C", "supplemental": "noise"}),
        ("noise 7.wav", {"supplemental": "noise"}),
    ]


def test_pseudo_anomalies_are_never_read(tmp_path: Path) -> None:
    make(
        tmp_path,
        "fan/train/section_00_source_train_normal_0000_synthetic_mixup.wav",
        "fan/pseudo_anomalies/section_00_source_test_anomaly_0000_synthetic_noise.wav",
    )
    listing = list_clips([tmp_path], ["clean", "noise"])
    assert [clip.synthetic for clip in listing.clips] == [True]
    assert listing.notes == ()


def test_attribute_files_of_every_shape(tmp_path: Path) -> None:
    folder = make(tmp_path, *(f"fan/train/section_00_source_train_normal_000{i}_v_9.wav"
                              for i in range(5))) / "fan"  # fmt: skip
    rows = [
        "file_name,d1p,d1v,d2p,d2v",
        "fan/train/section_00_source_train_normal_0000_v_9.wav,speed,3.0,load,",
        "dev\\fan\\train\\section_00_source_train_normal_0001_v_9.wav,noAttribute,,,",
        "section_00_source_train_normal_0002_v_9.wav,speed,1",
        'fan/train/section_00_source_train_normal_0003_v_9.wav,,,"load","a,b"',
    ]
    (folder / "attributes_00.csv").write_text("\ufeff" + "\r\n".join(rows), encoding="utf-8")
    listing = list_clips([tmp_path])
    assert [dict(clip.attributes) for clip in listing.clips] == [
        {"speed": "3.0", "load": ""},
        {},
        {"speed": "1"},
        {"load": "a,b"},
        {"v": "9"},
    ]
    assert "1 clips have no row in the attribute file" in listing.notes[0]
    (folder / "attributes_01.csv").write_bytes(b"file_name,d1p,d1v\nx\xff,a,1\n")
    assert "not an attribute file" in str(list_clips([tmp_path]).faults[0])


OWN = (
    "pump 1/Normal/Woche 1/aufnahme früh.wav",
    "pump 1/Normal/anomaly report.wav",
    "pump 1/reference/b.flac",
    "pump 1/new/2026-01-01 10:00/section.mp3",
    "pump 1/new/normal/ok.ogg",
    "pump 1/new/abnormal/leak.wav",
    "pump 1/new/.hidden.wav",
    "pump 1/new/Thumbs.db",
    "pump 1/notes/x.wav",
)


def test_ones_own_machine(tmp_path: Path) -> None:
    make(tmp_path, *OWN)
    listing = list_clips([tmp_path])
    assert told(listing) == {
        "pump 1/Normal/Woche 1/aufnahme früh.wav": (0, "train", None, "normal"),
        "pump 1/Normal/anomaly report.wav": (0, "train", None, "normal"),
        "pump 1/reference/b.flac": (0, "train", None, "normal"),
        "pump 1/new/2026-01-01 10:00/section.mp3": (0, "test", None, None),
        "pump 1/new/normal/ok.ogg": (0, "test", None, "normal"),
        "pump 1/new/abnormal/leak.wav": (0, "test", None, "anomaly"),
    }
    assert not listing.faults
    how, unread = listing.notes
    assert "their names mean nothing: 2 clips in Normal/ are normal" in how
    assert "3 clips in new/ are to be judged" in how
    assert "sub-folders tell normal from anomaly for 2 of 3; no domains" in how
    assert unread.endswith("not read: notes/; recordings are read from normal/ and new/")


def test_the_machines_own_folder_may_be_the_root(tmp_path: Path) -> None:
    make(tmp_path, *OWN)
    above, itself = list_clips([tmp_path]), list_clips([tmp_path / "pump 1"])
    assert [clip.clip_id for clip in itself.clips] == [clip.clip_id for clip in above.clips]
    assert itself.clips[0].section == Section("pump 1", 0)
    assert "read as the folder of one machine, 'pump 1'" in itself.notes[0]
    make(tmp_path / "pump 1", "fan/train/a.wav")
    with pytest.raises(AsdError, match=r"own folders \(Normal, new, reference\) and machines \(fan\)"):
        list_clips([tmp_path / "pump 1"])


def test_own_test_clips_beside_named_training_clips_join_their_section(tmp_path: Path) -> None:
    make(tmp_path, "fan/train/section_02_source_train_normal_0000.wav", "fan/test/monday 8.wav")
    test, train = list_clips([tmp_path]).clips
    assert test.section == train.section == Section("fan", 2)
    make(tmp_path, "fan/train/section_03_source_train_normal_0000.wav")
    assert "which of the sections 02, 03" in str(list_clips([tmp_path]).faults[0])


def test_an_anomaly_among_own_training_clips_is_a_fault(tmp_path: Path) -> None:
    make(tmp_path, "fan/train/normal/a.wav", "fan/train/anomaly/b.wav")
    listing = list_clips([tmp_path])
    assert [clip.path.name for clip in listing.clips] == ["a.wav"]
    assert "must all be normal" in str(listing.faults[0])


def test_a_link_to_a_folder_above_is_followed_once(tmp_path: Path) -> None:
    make(tmp_path, "fan/train/a/x.wav")
    (tmp_path / "fan" / "train" / "a" / "loop").symlink_to(tmp_path / "fan" / "train")
    assert len(list_clips([tmp_path]).clips) == 1


def test_names_that_no_table_can_hold_are_faults(tmp_path: Path) -> None:
    make(tmp_path, "fan/train/good.wav", "fan/train/two\nlines.wav", "fan/train/back\\slash.wav")
    (tmp_path / "fan" / "train" / "b\udcff.wav").write_bytes(b"")
    reasons = sorted(fault.reason for fault in list_clips([tmp_path]).faults)
    assert reasons == [
        "its name holds a backslash; rename it",
        "its path holds a line break; rename it",
        "its path is not UTF-8; rename it",
    ]


MANIFEST = """path,machine_type,section,split,domain,condition,speed,Attributes
a/one.wav,pump,1,train,source,,1500,
a/two.wav,pump,01,Train,target,normal,,"{""load"": 3}"
b/three.wav,pump,1,test,,anomaly,1500,
"""


def written(folder: Path, text: str, name: str = "list.csv") -> Path:
    make(folder, "a/one.wav", "a/two.wav", "b/three.wav")
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def without_path(clips: tuple[Clip, ...]) -> list[tuple[object, ...]]:
    return [(c.clip_id, c.section, c.split, c.domain, c.condition, dict(c.attributes)) for c in clips]


def test_a_manifest(tmp_path: Path) -> None:
    path = written(tmp_path, MANIFEST)
    pump = Section("pump", 1)
    listing = list_clips([path])
    assert without_path(listing.clips) == [
        ("a/one.wav", pump, "train", "source", "normal", {"speed": "1500"}),
        ("a/two.wav", pump, "train", "target", "normal", {"load": "3"}),
        ("b/three.wav", pump, "test", None, "anomaly", {"speed": "1500"}),
    ]
    assert "read as a manifest of 3 clips" in listing.notes[0]
    semicolons = MANIFEST.replace(",", ";").replace('"{""load""; 3}"', '"{""load"": 3}"')
    assert list_clips([written(tmp_path, semicolons)]).clips == listing.clips
    frame = pd.DataFrame({
        "path": ["a/one.wav", "a/two.wav", "b/three.wav"], "split": ["train", "train", "test"],
        "machine_type": "pump", "section": [1, 1, 1], "domain": ["source", "target", None],
        "condition": [None, None, "anomaly"], "speed": [1500, float("nan"), 1500],
        "attributes": [None, json.dumps({"load": 3}), None],
    })  # fmt: skip
    frame.to_parquet(tmp_path / "list.parquet")
    assert list_clips([tmp_path / "list.parquet"]).clips == listing.clips


def test_path_and_split_are_enough(tmp_path: Path) -> None:
    path = written(tmp_path, "path,split\n./a/../a/one.wav,reference\nb/three.wav,new\n", "fan 2.csv")
    assert without_path(list_clips([path]).clips) == [
        ("a/one.wav", Section("fan 2", 0), "train", None, "normal", {}),
        ("b/three.wav", Section("fan 2", 0), "test", None, None, {}),
    ]


def test_an_absolute_path_may_lie_anywhere(tmp_path: Path) -> None:
    make(tmp_path, "elsewhere/x.wav")
    path = written(tmp_path / "here", f"path,split\n{tmp_path}/elsewhere/x.wav,test\n")
    (clip,) = list_clips([path]).clips
    assert clip.path == tmp_path / "elsewhere" / "x.wav"
    assert clip.clip_id == str(tmp_path / "elsewhere" / "x.wav").lstrip("/")


def test_every_fault_of_a_manifest_is_told_at_once_by_row(tmp_path: Path) -> None:
    rows = [
        *("a/one.wav,train,", "../up.wav,train,", "a/gone.wav,train,", "a/two.wav,train,anomaly"),
        *("b/three.wav,sideways,", ",test,", "a/one.wav,test,", "list.csv,test,", "a/two.wav,,"),
    ]
    path = written(tmp_path, "path,split,condition\n" + "\n".join(rows))
    with pytest.raises(AsdError) as caught:
        list_clips([path])
    faults = str(caught.value).splitlines()[1:]
    expected = {
        2: "leaves the table's folder; give an absolute path if it must",
        3: "no file",
        4: "must all be normal",
        5: "split 'sideways' is not one of train, normal, reference, test, new",
        6: "no path",
        8: "not an audio file",
        9: "no split",
    }
    found = {int(f.split(":")[0].split()[1]): f for f in faults if f.strip().startswith("row")}
    assert found.keys() == expected.keys()
    assert all(text in found[number] for number, text in expected.items())
    assert "'a/one.wav' stands in 2 rows" in faults[-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'path'; a manifest needs path and split"),
        ("path,domain\nx.wav,source\n", "no column 'split'"),
        ("path,split\n", "no rows"),
        ("path,split,section\na/one.wav,train,x\n", "row 1: section 'x' is not a whole number"),
        ("path,split,attributes\na/one.wav,train,[1]\n", "row 1: attributes are not a JSON object"),
        (
            "path,split,machine_type\na/one.wav,train,a/b\n",
            "row 1: 'a/b' section 0: a machine type",
        ),
    ],
)
def test_bad_manifests(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(AsdError, match=message):
        list_clips([written(tmp_path, text)])


def test_a_manifest_that_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"path,split\n\xff\xfe,train\n")
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    for name in ("x.csv", "x.parquet"):
        with pytest.raises(AsdError, match="not a table in CSV"):
            list_clips([tmp_path / name])


CELLS = st.one_of(
    st.sampled_from(["a/one.wav", "../x.wav", "train", "test", "normal", "anomaly", "source", "0"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
)
COLUMNS = ("path", "split", "condition", "domain", "section", "machine_type", "attributes", "speed")


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(CELLS, max_size=9), max_size=4))
def test_any_manifest_is_read_or_refused_and_a_condition_is_the_one_written(
    rows: list[list[str]],
) -> None:
    with TemporaryDirectory() as folder:
        make(Path(folder), "a/one.wav")
        path = Path(folder) / "list.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
        try:
            clips = list_clips([path]).clips
        except AsdError:
            return
        (row,) = rows  # there is one file, which may stand in one row
        written = dict(zip(COLUMNS, row, strict=False)).get("condition", "").strip().lower()
        assert clips[0].condition == (written or ("normal" if clips[0].split == "train" else None))


def test_a_name_that_is_too_long_is_a_fault_of_its_row(tmp_path: Path) -> None:
    with pytest.raises(AsdError, match="row 1: .*cannot be a path: File name too long"):
        list_clips([written(tmp_path, f"path,split\n{'x' * 300}.wav,train\n")])


def test_names_that_would_be_options_or_steer_a_terminal_are_faults(tmp_path: Path) -> None:
    make(
        tmp_path,
        *("fan/train/good.wav", "fan/train/\x1b[31mred.wav", "fan/train/\u202egpj.wav"),
        *("--bank=x/train/a.wav", "-6_dB/test/b.wav", "p\x9bump/train/c.wav"),
    )
    listing = list_clips([tmp_path])
    assert [clip.clip_id for clip in listing.clips] == ["fan/train/good.wav"]
    told = sorted(str(fault).removeprefix(f"{tmp_path}/") for fault in listing.faults)
    assert [text.partition(":")[0] for text in told] == [
        *("--bank=x", "-6_dB", "fan/train/\\u001b[31mred.wav", "fan/train/\\u202egpj.wav"),
        "p\\u009bump",
    ]
    assert "begins with neither . nor -; rename it" in told[0]
    assert "holds the control character U+202E; rename it" in told[3]


@pytest.mark.parametrize(
    ("header", "cells", "message"),
    [
        ("section", "3000000000", "row 1: .*expected a number from 0 to 2147483647"),
        ("section", "9" * 5000, "row 1: .*expected a number from 0 to 2147483647"),
        ("attributes", "[" * 100_000, "row 1: attributes are not JSON: .*nested too deep"),
        ("machine_type", "--bank=x", "row 1: '--bank=x' .*begins with neither"),
        ("machine_type", "a\x1bb", "row 1: .*control character"),
        ("load", "\x1b[31m3", "row 1: load .*control character U.001B"),
        ("attributes", '"{""a"": ""\\u001b""}"', "row 1: a .*control character U.001B"),
    ],
)
def test_out_of_range_cells_are_faults_of_their_row(
    tmp_path: Path, header: str, cells: str, message: str
) -> None:
    path = written(tmp_path, f"path,split,{header}\na/one.wav,train,{cells}\n")
    with pytest.raises(AsdError, match=message) as caught:
        list_clips([path])
    assert all(line.isprintable() for line in str(caught.value).splitlines())


def test_attribute_files_are_text_tables_whose_bad_rows_are_named(tmp_path: Path) -> None:
    names = [f"section_00_source_train_normal_000{i}_v_9.wav" for i in range(4)]
    folder = make(tmp_path, *(f"fan/train/{name}" for name in names)) / "fan"
    rows = [f"fan/train/{names[0]};speed;1,5", f"fan/train/{names[1]};speed;1;5", "",
            f"fan/train/{names[2]};speed;\x1b[31m"]  # fmt: skip
    text = "sep=;\r\n" + "\r\n".join(["file_name;d1p;d1v", *rows])
    (folder / "attributes_00.csv").write_bytes(text.encode("utf-16"))
    listing = list_clips([tmp_path])
    assert [dict(clip.attributes) for clip in listing.clips] == [
        {"speed": "1,5"}, {"v": "9"}, {"v": "9"}, {"v": "9"},
    ]  # fmt: skip
    assert [fault.reason.partition(";")[0] for fault in listing.faults] == [
        "row 2: 4 cells, the header has 3", "row 4: control character U+001B",
    ]  # fmt: skip


def test_names_that_look_the_same_are_found(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Prüfling ä.wav") for form in ("NFC", "NFD"))
    folder = make(tmp_path, f"pump/train/{decomposed}", f"{composed[:8]}/{decomposed}") / "pump"
    (folder / "attributes_00.csv").write_text(
        f"file_name,d1p,d1v\npump/train/{composed},speed,3\n", encoding="utf-8"
    )
    (clip,) = list_clips([tmp_path]).clips
    assert dict(clip.attributes) == {"speed": "3"}
    table = tmp_path / "list.csv"
    rows = [f"pump/train/{composed},train", f"{decomposed[:9]}/{composed},test"]
    table.write_text("path,split\n" + "\n".join(rows), encoding="utf-8")
    assert [clip.path.name for clip in list_clips([table]).clips] == [decomposed] * 2
    make(tmp_path, f"pump/train/{composed}")
    assert list_clips([table]).clips[1].path.name == composed  # the very name wins
    table.write_text(f"path,split\n{composed[:8]}/gone ä.wav,train\n", encoding="utf-8")
    with pytest.raises(AsdError, match="row 1: no file"):
        list_clips([table])


def test_files_that_are_no_recordings_are_counted_and_unread_recordings_are_faults(
    tmp_path: Path,
) -> None:
    make(tmp_path, "pump/normal/a.wav", "pump/normal/a.json", "pump/normal/b.wav",
         "pump/normal/b.json", "pump/normal/README", "pump/new/c.m4a", "pump/new/d.wav")  # fmt: skip
    listing = list_clips([tmp_path])
    assert len(listing.clips) == 3
    assert [fault.path.name for fault in listing.faults] == ["c.m4a"]
    assert "not an audio file; expected .wav" in listing.faults[0].reason
    told = "not read: 3 files that are no recordings (.json 2, README 1)"
    assert sum(note.endswith(told) for note in listing.notes) == 1


def refusal(path: Path) -> str:
    with pytest.raises(AsdError) as caught:
        list_clips([path])
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        *("http://127.0.0.1:9/a.wav", "s3://bucket/a.wav", "file:///etc/hosts.wav"),
        *("simplecache::http://127.0.0.1:9/a.wav", "memory://a.wav", "http:\\\\127.0.0.1:9\\a.wav"),
        *("//server/share/a.wav", "ftp://u:s3cr3t@h/a.wav"),
    ],
)
def test_rows_reach_only_the_store_of_their_table(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASD_OFFLINE")
    said = refusal(written(tmp_path, f"path,split\n{name},train\n"))
    assert "row 1: " in said
    assert "is not on this machine as list.csv is; put the table beside" in said
    assert "s3cr3t" not in said


def test_a_table_in_a_store_names_recordings_of_that_store(tmp_path: Path) -> None:
    place("memory://tables/a/one.wav").write_bytes(b"")
    table = place("memory://tables/list.csv")
    table.write_text("path,split\na/one.wav,train\n")
    (clip,) = list_clips([table]).clips
    assert clip.clip_id == "a/one.wav"
    table.write_text(f"path,split\nmemory://other/x.wav,train\nfile://{tmp_path}/x.wav,train\n")
    assert refusal(table).count("is not on memory://tables as list.csv is") == 2


def test_offline_no_store_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AsdError, match="s3://b/x: offline no address is asked"):
        place("s3://b/x")
    monkeypatch.setenv("ASD_OFFLINE", "")
    args = Namespace(offline=True, data=[tmp_path, place("http://u:s3cr3t@127.0.0.1:9/x.csv")])
    with pytest.raises(AsdError, match=r"http://\*\*\*@127.0.0.1:9/x.csv: offline no address"):
        apply_offline(args)
    apply_offline(Namespace(offline=True, data=[tmp_path, place("memory://x")], out=tmp_path))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": ["a/one.wav"], "split": [b"train"]}, "row 1: b'train' is no text"),
        ({"path": ["x" * 2**20], "split": ["train"], "rows": 2**16}, "bytes in 65,536 rows"),
        ({"path": ["x"], "split": ["train"], "rows": 2_100_000}, "in 2,100,000 rows, of which"),
        ({f"c{i}": ["x"] for i in range(1100)}, "1,100 columns"),
        ({"path": ["a"], "Path": ["b"], "split": ["test"]}, "two columns are called 'path'"),
    ],
)
def test_parquet_manifests_are_held_against_bounds(
    tmp_path: Path, columns: dict[str, object], message: str
) -> None:
    rows = columns.pop("rows", 1)
    indices = pa.array(np.zeros(rows, np.int32))  # type: ignore[call-overload]
    bomb = pa.table({
        name: pa.DictionaryArray.from_arrays(indices, pa.array(cell)) for name, cell in columns.items()
    })  # fmt: skip
    pq.write_table(bomb, tmp_path / "x.parquet", store_schema=False)
    assert (tmp_path / "x.parquet").stat().st_size < 4_000_000
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    assert message in refusal(tmp_path / "x.parquet")
    assert tracemalloc.get_traced_memory()[1] < 2**27
    assert pa.total_allocated_bytes() - before < 2**27
    tracemalloc.stop()


def write_mimii(root: Path, machine: str, normal: int = 5, abnormal: int = 2) -> None:
    for number in ("00", "02"):
        for kind, count in (("normal", normal), ("abnormal", abnormal)):
            make(root, *(f"{machine}/id_{number}/{kind}/{i:08d}.wav" for i in range(count)))


def test_mimii_as_it_is_published(tmp_path: Path) -> None:
    for ratio in ("-6_dB", "0_dB", "6_dB"):
        write_mimii(tmp_path / "mimii" / f"{ratio}_fan", "fan")
    one = list_clips([tmp_path / "mimii" / "6_dB_fan"])
    expected = {
        **{f"normal/{i:08d}.wav": ("test", None, "normal") for i in (0, 1)},  # as many as abnormal
        **{f"normal/{i:08d}.wav": ("train", None, "normal") for i in (2, 3, 4)},
        **{f"abnormal/{i:08d}.wav": ("test", None, "anomaly") for i in (0, 1)},
    }
    assert told(one) == {
        f"fan/id_{number:02d}/{name}": (number, *kind) for number in (0, 2) for name, kind in expected.items()
    }
    assert not one.faults
    assert "4 clips in normal/ are held out to be judged beside the abnormal ones" in one.notes[0]
    assert "id_<nn> are sections: 00, 02; sub-folders tell normal from anomaly for 8 of 8" in one.notes[0]
    assert told(list_clips([tmp_path / "mimii" / "6_dB_fan" / "fan"])) == told(one)
    (alone,) = {c.section for c in list_clips([tmp_path / "mimii/6_dB_fan/fan/id_02"]).clips}
    assert alone == Section("id_02", 2)
    every = list_clips([tmp_path / "mimii"])
    assert {c.section for c in every.clips} == {
        Section(f"fan_{ratio}", number) for ratio in ("-6_dB", "0_dB", "6_dB") for number in (0, 2)
    }
    assert len(every.clips) == 3 * len(one.clips)


def test_at_most_half_of_the_normal_clips_are_held_out_and_none_where_others_are_judged(
    tmp_path: Path,
) -> None:
    make(
        tmp_path,
        *(f"fan/normal/{i}.wav" for i in range(5)),
        *(f"fan/Abnormal/{i}.wav" for i in range(9)),
    )
    kinds = Counter((c.split, c.condition) for c in list_clips([tmp_path]).clips)
    assert kinds == {("train", "normal"): 3, ("test", "normal"): 2, ("test", "anomaly"): 9}
    make(tmp_path, "fan/new/a.wav", "fan/id_00/normal/x.wav")
    listing = list_clips([tmp_path])
    kinds = Counter((c.split, c.condition) for c in listing.clips)
    assert kinds == {("train", "normal"): 5, ("test", None): 1, ("test", "anomaly"): 9}
    assert listing.notes[-1].endswith("not read: id_00/; recordings are read from normal/ and new/")


def test_several_roots_with_machines_of_one_name_are_run_alone(tmp_path: Path) -> None:
    make(tmp_path, *(f"plants/{site}/pump/normal/a.wav" for site in ("north", "south east")))
    said = refusal(tmp_path / "plants")
    assert "each alone with a --cache-dir of its own: several have a machine 'pump'" in said
    make(tmp_path, "years/a b/fan/train/x.wav", "years/c/pump/train/x.wav")
    roots = shlex.split(refusal(tmp_path / "years").partition("--data ")[2])
    assert len(list_clips(list(map(Path, roots))).clips) == 2


def test_remedies_work_where_they_are_told(tmp_path: Path) -> None:
    flat = make(tmp_path / "flat", "a.wav", "b.wav", "c.wav")
    assert f"move the normal ones of its 3 recordings to {flat}/normal" in refusal(flat)
    for name, folder in (("a", "normal"), ("b", "normal"), ("c", "new")):
        (flat / folder).mkdir(exist_ok=True)
        (flat / f"{name}.wav").rename(flat / folder / f"{name}.wav")
    assert [clip.split for clip in list_clips([flat]).clips] == ["test", "train", "train"]
    assert refusal(flat / "normal").endswith(f"a machine's clips; give --data {flat}")


def test_a_store_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASD_OFFLINE")
    said = refusal(place("http://user:s3cr3t@127.0.0.1:9/list.csv"))
    assert said.startswith("http://***@127.0.0.1:9/list.csv: the store does not answer")
    assert len(said.splitlines()) == 1
    with pytest.raises(AsdError, match="expected one URL, not a chain of them"):
        place("simplecache::http://127.0.0.1:9/list.csv")
