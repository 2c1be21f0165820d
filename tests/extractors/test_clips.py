"""Data roots to clips: the 2023 layout, and everything that is not quite it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cache.base.errors import AsdError
from cache.table import Section
from extractors.clips.listing import list_clips
from tests.conftest import write_clip, write_root


def test_a_root_becomes_clips_with_ids_relative_to_it(root: Path) -> None:
    listing = list_clips([root])
    assert len(listing.clips) == 12
    assert not listing.faults
    first = listing.clips[0]
    assert first.clip_id == "fan/test/section_00_source_test_anomaly_0000_speed_0.wav"
    assert (first.section, first.domain, first.condition) == (
        Section("fan", 0),
        "source",
        "anomaly",
    )
    assert first.attributes == {"speed": "0"}


def test_attribute_file_wins_over_the_name_and_a_missing_row_is_noted(root: Path) -> None:
    name = "section_00_source_train_normal_0000_speed_0.wav"
    (root / "fan" / "attributes_00.csv").write_text(
        f"file_name,d1p,d1v,d2p,d2v\nfan/train/{name},speed,3.0,load,\n", encoding="utf-8"
    )
    listing = list_clips([root])
    by_name = {clip.path.name: clip.attributes for clip in listing.clips}
    assert by_name[name] == {"speed": "3.0", "load": ""}
    assert by_name["section_00_source_train_normal_0001_speed_1.wav"] == {"speed": "1"}
    assert "11 clips have no row" in listing.notes[0]


def test_an_attribute_file_that_is_none_is_a_fault(root: Path) -> None:
    (root / "fan" / "attributes_00.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    listing = list_clips([root])
    assert len(listing.clips) == 12
    assert "not an attribute file" in str(listing.faults[0])


def test_what_does_not_fit_is_named_and_the_rest_is_read(root: Path) -> None:
    odd = write_clip(root / "fan" / "train" / "my recording.wav", 0)
    (root / "fan" / "train" / "notes.txt").write_text("hello", encoding="utf-8")
    (root / "fan" / "train" / ".DS_Store").write_text("", encoding="utf-8")
    listing = list_clips([root])
    assert len(listing.clips) == 12
    assert [fault.path.name for fault in listing.faults] == [odd.name]
    assert listing.notes[0].endswith("train: not read: 1 files that are no recordings (.txt 1)")


def test_a_name_with_a_space_and_upper_case_suffix(tmp_path: Path) -> None:
    write_clip(tmp_path / "my fan" / "train" / "section_00_source_train_normal_0000_spd_1 m.WAV", 0)
    (clip,) = list_clips([tmp_path]).clips
    assert clip.section.machine_type == "my fan"
    assert clip.attributes == {"spd": "1 m"}


def test_a_missing_root_an_empty_root_and_a_wrong_level(tmp_path: Path, root: Path) -> None:
    with pytest.raises(AsdError, match="nowhere is not a folder"):
        list_clips([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(AsdError, match="no machine in .*empty: expected"):
        list_clips([tmp_path / "empty"])
    (tmp_path / "bare" / "fan" / "train").mkdir(parents=True)
    with pytest.raises(AsdError, match="no clips in .*bare"):
        list_clips([tmp_path / "bare"])
    with pytest.raises(AsdError, match=f"several data roots; give --data .*{root}"):
        list_clips([root.parent])


def test_two_clips_with_one_id_are_refused_with_both_paths(tmp_path: Path, root: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(root, other)
    with pytest.raises(AsdError, match=f"one id .*{root}.*{other}.*--cache-dir"):
        list_clips([root, other])


def test_several_roots_and_choices(tmp_path: Path, root: Path) -> None:
    valve = write_root(tmp_path / "more", machine="valve")
    listing = list_clips([root, valve])
    assert len(listing.clips) == 24
    chosen = listing.only(["valve"], ["test"])
    assert {(c.section.machine_type, c.split) for c in chosen.clips} == {("valve", "test")}
    with pytest.raises(AsdError, match="no machine type 'pump' in the data; it has fan, valve"):
        listing.only(["pump"], [])
