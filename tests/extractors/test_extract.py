"""The extraction as its user runs it: resumed, killed, on bad files, in batches of any size."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cache.files.atomic import leftovers
from cache.run import main as cache_main
from cache.store import Store
from cache.table import EmbeddingTable
from cache.upkeep import verify
from extractors.audio.batches import DecodedClip, equal_lengths
from extractors.audio.decode import Recording
from extractors.clips.listing import list_clips
from extractors.run import main
from tests.conftest import RATE, write_clip, write_root

ErrorOf = Callable[..., str]


def run(data: Path, cache: Path, *options: str) -> int:
    return main(["--backbone", "logmel", "--data", str(data), "--cache-dir", str(cache), *options])


def tables(cache: Path) -> dict[str, EmbeddingTable]:
    store = Store(cache)
    (recipe,) = store.recipes()
    found = store.tables(recipe)
    return {f"{t.section} {t.split}": store.read(recipe, t.section, t.split) for t in found}


def assert_same(one: Path, other: Path) -> None:
    left, right = tables(one), tables(other)
    assert left.keys() == right.keys()
    for name, table in left.items():
        assert table.keys == right[name].keys
        np.testing.assert_array_equal(table.embeddings, right[name].embeddings)


def test_an_extraction_makes_one_table_a_section_and_split(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, tmp_path / "a") == 0
    assert "12 clips: 12 new, 0 changed, 0 unchanged, 0 left out -> " in capsys.readouterr().out
    made = tables(tmp_path / "a")
    assert {name: len(table) for name, table in made.items()} == {
        "fan/section_00 test": 4,
        "fan/section_00 train": 8,
    }
    train = made["fan/section_00 train"]
    assert train.blocks == {"logmel": (0, 128)}
    assert [key.domain for key in train.keys].count("target") == 2


def test_run_again_extracts_nothing_and_a_deleted_table_alone_comes_back(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(root, tmp_path / "a")
    run(root, tmp_path / "b")
    capsys.readouterr()
    run(root, tmp_path / "a")
    assert "0 new, 0 changed, 12 unchanged" in capsys.readouterr().out
    next((tmp_path / "a").rglob("test.parquet")).unlink()
    run(root, tmp_path / "a")
    assert "4 new, 0 changed, 8 unchanged" in capsys.readouterr().out
    assert_same(tmp_path / "a", tmp_path / "b")


def test_a_changed_a_removed_and_a_relabelled_clip(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(root, tmp_path / "a")
    train = sorted((root / "fan" / "train").iterdir())
    write_clip(train[0], seed=99)
    train[1].unlink()
    (root / "fan" / "attributes_00.csv").write_text(
        f"file_name,d1p,d1v\nfan/train/{train[2].name},speed,9\n", encoding="utf-8"
    )
    capsys.readouterr()
    run(root, tmp_path / "a")
    said = capsys.readouterr()
    assert "11 clips: 0 new, 2 changed, 9 unchanged" in said.out
    assert f"no longer in the data, removed: fan/train/{train[1].name}" in said.err
    run(root, tmp_path / "b")
    assert_same(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("size", ["1", "2", "64"])
def test_the_batch_size_changes_no_value(root: Path, tmp_path: Path, size: str) -> None:
    run(root, tmp_path / "a")
    run(root, tmp_path / "b", "--batch-size", size)
    assert_same(tmp_path / "a", tmp_path / "b")


def test_several_poolings_come_out_of_one_pass(root: Path, tmp_path: Path) -> None:
    assert run(root, tmp_path / "a", "--pooling", "mean", "gwrp:0.5", "mean+std") == 0
    assert len(Store(tmp_path / "a").recipes()) == 3
    run(root, tmp_path / "b")
    store, (mean,) = Store(tmp_path / "a"), Store(tmp_path / "b").recipes()
    for name, table in tables(tmp_path / "b").items():
        section, split = table.section, name.split()[-1]
        together = store.read(mean, section, split)
        np.testing.assert_array_equal(together.embeddings, table.embeddings)


def test_bad_clips_are_left_out_named_and_counted(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = root / "fan" / "train"
    names = [f"section_00_source_train_normal_{i:04d}.wav" for i in range(90, 95)]
    (train / names[0]).write_text("not a recording", encoding="utf-8")
    (train / names[1]).write_bytes(b"RIFF")
    soundfile.write(train / names[2], np.zeros(0), RATE)
    soundfile.write(train / names[3], np.full(9000, np.nan), RATE, subtype="FLOAT")
    soundfile.write(train / names[4], np.zeros(500), RATE)
    write_clip(train / "holiday.wav", 0)
    assert run(root, tmp_path / "a") == 1
    said = capsys.readouterr()
    assert "12 new, 0 changed, 0 unchanged, 6 left out" in said.out
    for name in (*names, "holiday.wav"):
        assert f"left out: {train / name}: " in said.err
    assert "0.031 s is too short; logmel needs at least 0.064 s" in said.err


def test_a_clip_that_went_bad_loses_its_row(root: Path, tmp_path: Path) -> None:
    run(root, tmp_path / "a")
    bad = sorted((root / "fan" / "train").iterdir())[0]
    bad.write_bytes(b"")
    assert run(root, tmp_path / "a") == 1
    assert f"fan/train/{bad.name}" not in tables(tmp_path / "a")["fan/section_00 train"].clip_ids


def test_strict_stops_at_the_first(root: Path, tmp_path: Path, error_of: ErrorOf) -> None:
    bad = root / "fan" / "train" / "section_00_source_train_normal_0099.wav"
    bad.write_bytes(b"")
    arguments = ["--backbone", "logmel", "--data", root, "--cache-dir", tmp_path / "a", "--strict"]
    assert f"{bad}: an empty file of 0 bytes" in error_of(main, *arguments)


def test_machine_and_split_choose(root: Path, tmp_path: Path) -> None:
    write_root(root, machine="valve")
    run(root, tmp_path / "a", "--machine", "valve", "--split", "test")
    assert list(tables(tmp_path / "a")) == ["valve/section_00 test"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "cuda:99"], "--device cuda:99: not to be had here"),
        (["--device", "toaster"], "--device toaster: not to be had here"),
        (["--layers", "7"], "logmel has no layer 7; it has 0"),
        (["--weights", "beats.pt"], "logmel has no published weights"),
        (["--pooling", "median"], "--pooling median: expected gem or"),
        (["--machine", "pump"], "no machine type 'pump'"),
    ],
)
def test_mistakes_in_the_call(
    root: Path, tmp_path: Path, error_of: ErrorOf, options: list[str], message: str
) -> None:
    said = error_of(main, "--backbone", "logmel", "--data", root, "--cache-dir", tmp_path / "a", *options)
    assert message in said


def test_a_damaged_table_is_named_with_its_remedy(root: Path, tmp_path: Path, error_of: ErrorOf) -> None:
    run(root, tmp_path / "a")
    path = next((tmp_path / "a").rglob("train.parquet"))
    path.write_bytes(path.read_bytes()[:100])
    said = error_of(main, "--backbone", "logmel", "--data", root, "--cache-dir", tmp_path / "a")
    assert str(path) in said
    assert "verify --repair` and run the extraction again" in said
    path.unlink()
    assert run(root, tmp_path / "a") == 0


def test_killed_at_any_moment_and_run_again_gives_the_same_tables(tmp_path: Path) -> None:
    root = write_root(tmp_path / "data", source=80, target=10)
    run(root, tmp_path / "whole")
    command = [
        sys.executable,
        "-m",
        "extractors.run",
        "--backbone",
        "logmel",
        "--data",
        root,
        "--batch-size",
        "1",
    ]
    rows = []
    for delay in (0.0, 0.03, 0.1, 0.2):
        process = subprocess.Popen([*command, "--cache-dir", tmp_path / "killed"])
        folder = tmp_path / "killed"
        started = time.monotonic()
        while not folder.exists() and process.poll() is None and time.monotonic() < started + 60:
            time.sleep(0.001)  # until the first row is about to be written
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        store = Store(folder)
        rows.append(sum(len(pair) for pair in tables(folder).values()) if store.tables() else 0)
        assert all(fault is None for _, fault in verify(store))
    assert rows == sorted(rows)
    run(root, tmp_path / "killed")
    assert_same(tmp_path / "killed", tmp_path / "whole")
    assert cache_main(["gc", "--cache-dir", str(tmp_path / "killed")]) == 0
    assert leftovers(tmp_path / "killed") == []


def test_clips_of_many_lengths_go_out_in_batches_of_one_length(root: Path) -> None:
    clip = list_clips([root]).clips[0]
    lengths = [5, 5, 6, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 6]
    items = [DecodedClip(clip, Recording(np.zeros(n, "f4"), str(i))) for i, n in enumerate(lengths)]
    waiting = most_waiting = 0
    handed = []

    def feed() -> object:
        nonlocal waiting, most_waiting
        for item in items:
            waiting += 1
            most_waiting = max(most_waiting, waiting)
            yield item

    for batch in equal_lengths(feed(), 2):  # type: ignore[arg-type]
        waiting -= len(batch)
        assert len({len(d.recording.samples) for d in batch}) == 1
        assert len(batch) <= 2
        handed += [d.recording.content_sha256 for d in batch]
    assert sorted(handed, key=int) == [str(i) for i in range(len(items))]
    assert most_waiting <= 8
