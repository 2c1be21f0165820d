"""Data root, cache and bank in object storage: same results, few calls, whole tables, faults."""

from __future__ import annotations

import filecmp
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import s3fs
import soundfile

from cache.base.errors import AsdError
from cache.files import objects, places
from cache.files.places import here, place
from cache.parquet import read_table
from cache.run import main as look_after
from cache.store import Store
from cache.table import Section
from eval.run import main as evaluate
from extractors.clips.listing import list_clips
from extractors.data.run import main as data_main
from extractors.doctor import folder_findings
from extractors.run import main as extract
from index.bank import Bank
from index.run import main as build
from tests.conftest import make_recipe, make_table, write_clip, write_root
from tests.helpers.object_store import ObjectStore, quiet

SECTION = Section("fan", 0)


@dataclass
class Bucket:
    """An empty bucket and the server that holds it."""

    server: ObjectStore
    system: s3fs.S3FileSystem
    url: str

    def upload(self, folder: Path, name: str) -> str:
        self.system.put(f"{folder}/", f"{self.url}/{name}/", recursive=True)
        return f"{self.url}/{name}"

    def names(self) -> set[str]:
        found = self.system.find(self.url, refresh=True)
        return {key.partition("/")[2] for key in found}


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    store = ObjectStore()
    store.start()
    yield store
    store.stop()


@pytest.fixture
def bucket(
    server: ObjectStore, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Bucket]:
    monkeypatch.delenv("ASD_OFFLINE", raising=False)  # offline no store is asked
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    # A client that gives up sooner; the first of its attempts are the same.
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 3)
    server.reset()
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"b{abs(hash(request.node.name)):x}"
    system = s3fs.S3FileSystem(use_listings_cache=False)
    system.mkdir(name)
    yield Bucket(server, system, f"s3://{name}")
    s3fs.S3FileSystem.clear_instance_cache()


def rows(count: int, seed: int = 0, width: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def chain(data: str, cache: str, out: Path) -> None:
    """Extract, build and score, all named as a user names them."""
    assert extract(["--backbone", "logmel", "--data", data, "--cache-dir", cache]) == 0
    assert build(["--cache-dir", cache]) == 0
    assert evaluate(["--cache-dir", cache, "--out", str(out), "--audio", data]) == 0


def test_the_whole_chain_in_a_bucket_gives_what_folders_give(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_root(tmp_path / "data", "a fan+2")
    chain(str(root), str(tmp_path / "cache"), tmp_path / "here")
    url = bucket.upload(root, "data")
    chain(url, f"{bucket.url}/cache", tmp_path / "there")
    for name in (
        "anomaly_score_a fan+2_section_00_test.csv",
        "decision_result_a fan+2_section_00_test.csv",
    ):
        assert filecmp.cmp(tmp_path / "here" / name, tmp_path / "there" / name, shallow=False)
    assert f"-> {bucket.url}/cache/" in capsys.readouterr().out
    page = (tmp_path / "there" / "report.html").read_text()
    assert len(page) == pytest.approx(len((tmp_path / "here" / "report.html").read_text()), rel=0.05)

    bucket.server.reset()
    assert extract(["--backbone", "logmel", "--data", url, "--cache-dir", f"{bucket.url}/cache"]) == 0
    assert "0 new, 0 changed, 12 unchanged" in capsys.readouterr().out
    assert not bucket.server.requests["PUT"]


def test_listing_a_data_root_asks_nothing_a_file(bucket: Bucket, tmp_path: Path) -> None:
    root = write_root(tmp_path / "data", source=60)
    write_root(tmp_path / "data", "pump", source=60)
    (root / "fan" / "attributes_00.csv").write_text(
        "file_name,d1p,d1v\ntrain/section_00_source_train_normal_0000_speed_0.wav,load,high\n"
    )
    url = bucket.upload(root, "data")
    bucket.server.reset()
    listing = list_clips([place(url)])
    assert [clip.clip_id for clip in listing.clips] == [c.clip_id for c in list_clips([root]).clips]
    assert listing.clips[0].attributes == list_clips([root]).clips[0].attributes
    asked = bucket.server.requests
    assert asked["LIST"] + asked["HEAD"] <= 6, asked
    assert asked["GET"] <= 1, asked  # the attribute file

    bucket.server.reset()
    assert (
        extract(
            [
                "--backbone",
                "logmel",
                "--data",
                url,
                "--cache-dir",
                str(tmp_path / "cache"),
                "--batch-size",
                "8",
            ]
        )
        == 0
    )
    assert bucket.server.requests["HEAD"] <= 6
    assert bucket.server.requests["GET"] <= len(listing.clips) + 1


def test_listing_a_cache_asks_nothing_a_table(bucket: Bucket) -> None:
    store, recipe = Store(place(f"{bucket.url}/cache")), make_recipe()
    for number in range(30):
        store.write(make_table(rows(3), section=Section("fan", number)), recipe)
    bucket.server.reset()
    assert len(store.tables(recipe)) == 30
    assert bucket.server.requests.total() <= 2
    assert [str(found) for found in store.recipes()] == [str(recipe)]


def test_what_a_table_is_and_its_keys_are_read_without_the_vectors(bucket: Bucket) -> None:
    store, recipe = Store(place(f"{bucket.url}/cache")), make_recipe()
    path = store.write(make_table(rows(500, width=2048)), recipe)
    vectors = 500 * 2048 * 4
    bucket.server.reset()
    assert store.recipes() == [recipe]
    assert store.digest(recipe, SECTION, "train") is not None
    assert 0 < bucket.server.sent["GET"] < 2 * 2**17, bucket.server.sent  # footers
    bucket.server.reset()
    assert len(store.keys(recipe, SECTION, "train")) == 500
    assert 0 < bucket.server.sent["GET"] < vectors / 10, bucket.server.sent
    bucket.server.reset()
    assert sum(map(len, store.read_blocks(recipe, SECTION, "train", 100))) == 500
    assert bucket.server.sent["GET"] == len(places.read_bytes(path))  # once, though read in two goes


def test_a_table_written_anew_while_it_is_read_in_ranges_is_not_called_damaged(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, recipe = Store(place(f"{bucket.url}/cache")), make_recipe()
    old, new = (make_table(rows(count, count, width=64)) for count in (900, 30))
    monkeypatch.setattr(objects, "_AT_ONCE", 2**16)
    read, reads = objects.Ranges.read, [0]

    def overtaken(file: objects.Ranges, size: int | None = -1) -> bytes:
        reads[0] += 1
        if reads[0] == 2:
            store.write(new, recipe)
        return read(file, size)

    monkeypatch.setattr(objects.Ranges, "read", overtaken)
    for call in (
        lambda: len(store.keys(recipe, SECTION, "train")),
        lambda: sum(map(len, store.read_blocks(recipe, SECTION, "train", 100))),
    ):
        reads[0] = 2
        store.write(old, recipe)
        reads[0] = 0
        assert call() == len(new)


def test_two_writers_of_one_table_lose_no_row(bucket: Bucket) -> None:
    recipe = make_recipe()
    table = make_table(rows(40))
    failures: list[BaseException] = []

    def write(part: int) -> None:
        try:
            store = Store(place(f"{bucket.url}/cache"))
            for row in range(part, 40, 4):
                store.add(table.select([row]), recipe)
        except BaseException as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    threads = [threading.Thread(target=write, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    stored = Store(place(f"{bucket.url}/cache")).read(recipe, SECTION, "train")
    assert stored.clip_ids == table.clip_ids
    np.testing.assert_array_equal(stored.embeddings, table.embeddings)


def test_a_writer_overtaken_between_reading_and_writing_reads_again(bucket: Bucket) -> None:
    store, recipe = Store(place(f"{bucket.url}/cache")), make_recipe()
    table = make_table(rows(3))
    store.add(table.select([0]), recipe)
    other = Store(place(f"{bucket.url}/cache"))

    def overtake(kind: str, path: str) -> None:
        if kind == "PUT" and path.endswith("train.parquet"):
            bucket.server.before = quiet
            other.add(table.select([1]), recipe)

    bucket.server.before = overtake
    store.add(table.select([2]), recipe)
    assert store.read(recipe, SECTION, "train").clip_ids == table.clip_ids


def test_a_reader_beside_a_writer_sees_whole_tables(bucket: Bucket) -> None:
    recipe, done = make_recipe(), threading.Event()
    tables = [make_table(rows(20, seed)) for seed in range(2)]
    store = Store(place(f"{bucket.url}/cache"))
    store.write(tables[0], recipe)
    writes = 0

    def write() -> None:
        nonlocal writes
        while not done.is_set():
            store.write(tables[writes % 2], recipe)
            writes += 1

    thread = threading.Thread(target=write)
    thread.start()
    reader, reads = Store(place(f"{bucket.url}/cache")), 0
    try:
        while reads < 6 or (writes < 6 and thread.is_alive()):
            found = reader.read(recipe, SECTION, "train").embeddings
            assert any(np.array_equal(found, table.embeddings) for table in tables)
            reads += 1
    finally:
        done.set()
        thread.join()
    assert writes >= 6


@pytest.mark.parametrize("fault", ["refuse", "cut", "reset"])
def test_a_store_that_fails_now_and_then_is_asked_again(bucket: Bucket, fault: str) -> None:
    store, recipe = Store(place(f"{bucket.url}/cache")), make_recipe()
    table = make_table(rows(20, width=256))
    bucket.server.faults = {} if fault == "cut" else {"PUT": [fault]}
    store.add(table, recipe)
    bucket.server.faults = {"GET": [fault, fault]}
    np.testing.assert_array_equal(store.read(recipe, SECTION, "train").embeddings, table.embeddings)
    bucket.server.faults = {"GET": [fault]}
    assert len(store.keys(recipe, SECTION, "train")) == 20


def test_an_answer_lost_after_the_write_harms_nothing(bucket: Bucket) -> None:
    store, recipe = Store(place(f"{bucket.url}/cache")), make_recipe()
    table = make_table(rows(4))
    store.add(table.select([0, 1]), recipe)
    bucket.server.faults = {"PUT": ["swallow"]}
    store.add(table.select([2, 3]), recipe)
    assert store.read(recipe, SECTION, "train").clip_ids == table.clip_ids


def test_a_store_that_does_not_answer_never_makes_a_table_faulty(
    bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{bucket.url}/cache"
    store, recipe = Store(place(url)), make_recipe()
    path = store.write(make_table(rows(20)), recipe)
    bucket.server.faults = {"GET": ["refuse"] * 1000}
    assert look_after(["verify", "--repair", "--cache-dir", url]) == 2
    assert "does not answer as it should" in capsys.readouterr().err
    bucket.server.faults = {}
    assert places.exists(path)
    assert look_after(["verify", "--cache-dir", url]) == 0


def test_damage_is_named_and_moved_aside(bucket: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"{bucket.url}/cache"
    store, recipe = Store(place(url)), make_recipe()
    path = store.write(make_table(rows(20)), recipe)
    data = bytearray(places.read_bytes(path))
    data[len(data) // 2] ^= 0xFF
    objects.put(path, bytes(data))
    with pytest.raises(AsdError, match="damaged"):
        read_table(path)
    assert look_after(["verify", "--repair", "--cache-dir", url]) == 1
    capsys.readouterr()
    assert {name.partition("/")[2] for name in bucket.names() if "damaged" in name} == {
        f"damaged/{recipe.fingerprint}/fan/section_00/train.parquet"
    }
    assert look_after(["ls", "--cache-dir", url]) == 0
    assert "no tables" in capsys.readouterr().out


def test_rows_and_recipes_are_removed(bucket: Bucket) -> None:
    url = f"{bucket.url}/cache"
    store, recipe = Store(place(url)), make_recipe()
    table = make_table(rows(3))
    store.write(table, recipe)
    store.discard(recipe, SECTION, "train", table.clip_ids[:1])
    assert store.read(recipe, SECTION, "train").clip_ids == table.clip_ids[1:]
    store.write(make_table(rows(3), section=Section("fan", 1)), recipe)
    store.discard(recipe, SECTION, "train", table.clip_ids[1:])
    assert [stored.section.number for stored in store.tables(recipe)] == [1]
    assert look_after(["gc", "--recipe", recipe.fingerprint, "--cache-dir", url]) == 0
    assert not bucket.names()


def test_a_bank_has_no_leftovers_of_the_one_before(bucket: Bucket) -> None:
    store, recipe = Store(place(f"{bucket.url}/cache")), make_recipe()
    bank = ["--bank", f"{bucket.url}/bank", "--cache-dir", f"{bucket.url}/cache"]
    for seed in range(2):
        store.write(make_table(rows(20, seed)), recipe)
        assert build([*bank, "--scorer", "min-distance"]) == 0
    held = Bank(place(f"{bucket.url}/bank"))
    named = {name for name in bucket.names() if name.startswith("bank/")}
    told = json.loads(places.read_bytes(held.root / "fan/section_00/record.json"))["files"]
    assert len(named) == len(told) + 1
    assert held.read(SECTION, recipe).scorer.score(rows(1)).shape == (1,)


@pytest.mark.parametrize("whole", [True, False])
def test_a_manifest_names_recordings_of_its_bucket(bucket: Bucket, tmp_path: Path, whole: bool) -> None:
    for number in range(20):
        write_clip(tmp_path / "clips" / f"{number}.wav", number)
    url = bucket.upload(tmp_path / "clips", "clips")
    names = [f"{url}/{n}.wav" if whole else f"{n}.wav" for n in range(20)]
    text = "path,split\n" + "".join(f"{name},train\n" for name in names)
    table = place(f"{url}/press.csv")
    objects.put(table, text.encode())
    bucket.server.reset()
    listing = list_clips([table])
    assert len(listing.clips) == 20
    assert bucket.server.requests.total() <= 6
    assert (
        extract(["--backbone", "logmel", "--data", str(table), "--cache-dir", str(tmp_path / "cache")]) == 0
    )
    objects.put(place(f"{url}/short.csv"), f"path,split\n{url}/none.wav,train\n".encode())
    with pytest.raises(AsdError, match=r"no file s3://.*none\.wav"):
        list_clips([place(f"{url}/short.csv")])
    (tmp_path / "press.csv").write_text(text)
    objects.put(place(f"{url}/other.csv"), b"path,split\ns3://other/x.wav,train\n")
    bucket.server.reset()
    if whole:
        with pytest.raises(AsdError, match="is not on this machine as press.csv is"):
            list_clips([tmp_path / "press.csv"])
        assert bucket.server.requests.total() == 0
    with pytest.raises(AsdError, match=r"'s3://other/x.wav' is not on s3://b"):
        list_clips([place(f"{url}/other.csv")])


def test_windows_of_a_recording_are_those_of_the_file(bucket: Bucket, tmp_path: Path) -> None:
    write_clip(tmp_path / "data/press/normal/long day.wav", 1, seconds=3.0)
    write_clip(tmp_path / "data/press/normal/b.wav", 2, seconds=2.0)
    url = bucket.upload(tmp_path / "data", "data")
    made = []
    for name, data in (("here", str(tmp_path / "data")), ("there", url)):
        windows = ["--window", "0.5", "--hop", "0.25"]
        folder = tmp_path / name
        assert extract(["--backbone", "logmel", "--data", data, "--cache-dir", str(folder), *windows]) == 0
        made.append(read_table(next(folder.rglob("*.parquet")))[0])
    assert made[0].clip_ids == made[1].clip_ids
    np.testing.assert_array_equal(made[0].embeddings, made[1].embeddings)


def test_a_clip_that_is_no_sound_is_named_and_the_rest_used(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_root(tmp_path / "data")
    broken = root / "fan/train/section_00_source_train_normal_0000_speed_0.wav"
    broken.write_bytes(b"nothing")
    url = bucket.upload(root, "data")
    assert extract(["--backbone", "logmel", "--data", url, "--cache-dir", f"{bucket.url}/cache"]) == 1
    told = capsys.readouterr()
    assert f"left out: {url}/fan/train/{broken.name}: not audio" in told.err
    assert "12 clips: 11 new" in told.out
    assert data_main(["check", url]) == 1


def test_what_cannot_be_reached_is_named_with_its_remedy(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_root(tmp_path / "data")
    data = ["--data", str(root)]
    assert extract([*data, "--cache-dir", "s3://no-such-bucket/cache"]) == 2
    assert "no such bucket; make it first" in capsys.readouterr().err
    assert (
        extract(
            [
                "--backbone",
                "logmel",
                "--data",
                f"{bucket.url}/nothing",
                "--cache-dir",
                str(tmp_path / "c"),
            ]
        )
        == 2
    )
    assert "is not a folder; --data wants" in capsys.readouterr().err
    assert extract([*data, "--cache-dir", "nowhere://x/y"]) == 2
    assert "nothing here speaks nowhere://" in capsys.readouterr().err
    assert evaluate(["--out", f"{bucket.url}/results"]) == 2
    assert "expected a path of this machine, not a URL" in capsys.readouterr().err
    bucket.server.faults = {kind: ["refuse"] * 1000 for kind in ("LIST", "HEAD", "GET", "PUT")}
    assert (
        extract(
            [
                "--backbone",
                "logmel",
                "--data",
                f"{bucket.url}/data",
                "--cache-dir",
                str(tmp_path / "c"),
            ]
        )
        == 2
    )
    assert "does not answer as it should" in capsys.readouterr().err
    assert "does not answer" in next(folder_findings("cache", place(bucket.url))).seen
    bucket.server.faults = {}
    assert not next(folder_findings("cache", place(f"{bucket.url}/cache"))).remedy
    assert not bucket.names()


def test_any_other_store_of_fsspec(tmp_path: Path) -> None:
    """Without conditional writes: the same results; of two writers at once the later one wins."""
    root = write_root(tmp_path / "data")
    chain(str(root), str(tmp_path / "cache"), tmp_path / "here")
    chain(str(root), "memory://asd/cache", tmp_path / "there")
    name = "anomaly_score_fan_section_00_test.csv"
    assert filecmp.cmp(tmp_path / "here" / name, tmp_path / "there" / name, shallow=False)


def test_paths_of_this_machine_stay_what_they_are(tmp_path: Path) -> None:
    assert type(place(str(tmp_path))) is type(tmp_path)
    assert here("a/b") == Path("a/b")
    assert not places.is_remote(place("a:b"))
    with pytest.raises(FileNotFoundError):
        places.read_bytes(tmp_path / "none")
    assert places.version(tmp_path / "none") == ""


def test_a_long_recording_is_not_fetched_a_window(bucket: Bucket, tmp_path: Path) -> None:
    path = tmp_path / "data/press/normal/long.wav"
    path.parent.mkdir(parents=True)
    soundfile.write(path, rows(48_000, width=1)[:, 0] * 0.1, 16_000)
    url = bucket.upload(tmp_path / "data", "data")
    bucket.server.reset()
    assert (
        extract(
            [
                "--backbone",
                "logmel",
                "--data",
                url,
                "--cache-dir",
                str(tmp_path / "c"),
                "--window",
                "0.3",
            ]
        )
        == 0
    )
    assert bucket.server.requests["GET"] <= 3  # to list, to read, to hash


def test_a_run_killed_inside_a_write_is_finished_by_the_next(bucket: Bucket, tmp_path: Path) -> None:
    root = write_root(tmp_path / "data", source=40)
    expected, url = tmp_path / "expected", f"{bucket.url}/cache"
    options = ["--data", str(root), "--batch-size", "4"]
    assert extract([*options, "--cache-dir", str(expected)]) == 0
    command = [sys.executable, "-m", "extractors.run", *options, "--cache-dir", url]
    kills = 0
    for writes in (1, 2, 1):
        with subprocess.Popen(command) as process:

            def kill(kind: str, _path: str, process: subprocess.Popen[bytes] = process) -> None:
                if kind == "PUT" and bucket.server.requests["PUT"] == writes:  # noqa: B023
                    process.kill()

            bucket.server.reset()
            bucket.server.before = kill
        kills += process.returncode == -signal.SIGKILL
    assert kills
    bucket.server.reset()
    assert extract([*options, "--cache-dir", url]) == 0
    local, remote = Store(expected), Store(place(url))
    for recipe in local.recipes():
        for stored in local.tables(recipe):
            ours = remote.read(recipe, stored.section, stored.split)
            theirs = local.read(recipe, stored.section, stored.split)
            assert ours.keys == theirs.keys
            np.testing.assert_array_equal(ours.embeddings, theirs.embeddings)
    assert len(bucket.names()) == len(local.tables())
