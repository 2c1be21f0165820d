"""The store: what lies on disk, that damage is found, that writers do not harm each other."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cache.base.errors import AsdError
from cache.files import places
from cache.files.atomic import atomic_path, leftovers, write_atomic
from cache.parquet import read_table
from cache.recipe import Recipe, concatenation, from_json
from cache.run import main
from cache.store import Store
from cache.table import EmbeddingTable, Section
from cache.upkeep import verify
from tests.conftest import make_recipe, make_table

SECTION = Section("fan", 0)


def random_table(rows: int = 20, width: int = 8, seed: int = 0) -> EmbeddingTable:
    return make_table(np.random.default_rng(seed).normal(size=(rows, width)))


def test_a_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    table, recipe = random_table(), make_recipe()
    keys = tuple(replace(key, attributes={"speed": "é 3.0", "ac": ""}) for key in table.keys)
    table = replace(table, keys=(*keys[:-1], replace(keys[-1], domain=None, condition=None)))
    Store(tmp_path).write(table, recipe)
    back = Store(tmp_path).read(recipe, SECTION, "train")
    assert back.keys == table.keys
    assert back.blocks == table.blocks
    np.testing.assert_array_equal(back.embeddings, table.embeddings)


def test_the_file_is_plain_parquet_with_the_promised_schema(tmp_path: Path) -> None:
    path = Store(tmp_path).write(random_table(), make_recipe())
    assert path == tmp_path / make_recipe().fingerprint / "fan" / "section_00" / "train.parquet"
    schema = pq.read_schema(path)
    assert str(schema.field("embedding").type) == ("fixed_size_list<element: float not null>[8]")
    assert not schema.field("embedding").nullable
    assert json.loads(schema.metadata[b"asd.recipe"])["backbone"] == "logmel"
    assert json.loads(schema.metadata[b"asd.blocks"]) == {"logmel": [0, 8]}
    column = pq.read_metadata(path).row_group(0).column(8)
    assert column.path_in_schema == "embedding.list.element"
    assert (column.compression, "BYTE_STREAM_SPLIT" in column.encodings) == ("ZSTD", True)
    assert not column.has_dictionary_page


def test_a_recipe_survives_its_json_and_its_fingerprint_tells_recipes_apart() -> None:
    recipe = make_recipe(settings=(("hop", 512), ("resampler", "x")), weights="ab" * 32)
    both = concatenation([recipe, make_recipe(pooling="max")])
    assert from_json(recipe.canonical) == recipe
    assert from_json(both.canonical) == both
    prints = {r.fingerprint for r in (recipe, both, make_recipe(), make_recipe(layer=1))}
    assert len(prints) == 4
    assert concatenation([recipe]) == recipe
    # Fixed for ever: tables on users' disks are found by it.
    assert (
        Recipe("logmel", 0, "mean", "merge", 16000).fingerprint
        == (
            subprocess.run(
                ["sha256sum"],
                input='{"backbone":"logmel","bands":"merge","layer":0,"parents":[],"pooling":"mean",'
                '"sample_rate":16000,"settings":{},"weights":null}',
                capture_output=True,
                text=True,
                check=True,
            ).stdout[:16]
        )
    )


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"backbone": 1}', "null"])
def test_what_is_no_recipe_is_refused(text: str) -> None:
    with pytest.raises(AsdError, match="not a recipe"):
        from_json(text)


def test_adding_rows_replaces_those_of_the_same_clips(tmp_path: Path) -> None:
    store, table, recipe = Store(tmp_path), random_table(), make_recipe()
    store.add(table.select(range(12)), recipe)
    store.add(table.select(range(8, 20)), recipe)
    np.testing.assert_array_equal(store.read(recipe, SECTION, "train").embeddings, table.embeddings)
    changed = replace(table.select([3]), embeddings=np.ones((1, 8), "f4"))
    store.add(changed, recipe)
    assert store.read(recipe, SECTION, "train").embeddings[3].tolist() == [1] * 8
    assert len(store.read(recipe, SECTION, "train")) == 20


def test_adding_rows_of_another_width_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    store, recipe = Store(tmp_path), make_recipe()
    store.write(random_table(width=8), recipe)
    other = random_table(width=4).select([0])
    with pytest.raises(AsdError, match="blocks must be the same"):
        store.add(other, recipe)
    assert store.read(recipe, SECTION, "train").width == 8


def test_a_parquet_file_of_another_recipe_in_its_place_is_refused(tmp_path: Path) -> None:
    store, narrow, wide = Store(tmp_path), make_recipe(), make_recipe(pooling="mean+std")
    stray = store.write(random_table(width=16), wide)
    place = store.write(random_table(width=8), narrow)
    place.write_bytes(stray.read_bytes())
    with pytest.raises(AsdError, match="pooling=mean[+]std .*its place says"):
        store.read(narrow, SECTION, "train")
    assert "move it" in next(str(fault) for _, fault in verify(store) if fault)


def test_discarding_rows(tmp_path: Path) -> None:
    store, table, recipe = Store(tmp_path), random_table(3), make_recipe()
    path = store.write(table, recipe)
    store.discard(recipe, SECTION, "train", {table.clip_ids[1], "not there"})
    assert store.read(recipe, SECTION, "train").clip_ids == (table.clip_ids[0], table.clip_ids[2])
    store.discard(recipe, SECTION, "train", set(table.clip_ids))
    assert not path.exists()


def test_missing_keeps_the_order_asked(tmp_path: Path) -> None:
    store, table, recipe = Store(tmp_path), random_table(3), make_recipe()
    assert store.missing(recipe, ["z", *table.clip_ids]) == ["z", *table.clip_ids]
    store.write(table, recipe)
    assert store.missing(recipe, ["z", *table.clip_ids, "a"]) == ["z", "a"]
    assert store.missing(make_recipe(layer=3), table.clip_ids) == list(table.clip_ids)


def test_an_empty_table_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(AsdError, match="no rows"):
        Store(tmp_path).write(random_table().select([]), make_recipe())


def test_a_missing_table_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(AsdError, match="does not exist; run the extraction"):
        Store(tmp_path).read(make_recipe(), SECTION, "train")


def test_damage_anywhere_in_a_file_is_found(tmp_path: Path) -> None:
    store, recipe = Store(tmp_path), make_recipe()
    path = store.write(random_table(), recipe)
    whole = path.read_bytes()
    good = read_table(path)[0]
    rng = np.random.default_rng(0)
    for position in rng.choice(len(whole), 150, replace=False):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            table = store.read(recipe, SECTION, "train")
        except AsdError:
            continue
        # A byte that no value depends on (statistics, a page header's spare bits).
        assert table.keys == good.keys
        np.testing.assert_array_equal(table.embeddings, good.embeddings)
    path.write_bytes(whole[: len(whole) // 2])
    (_, fault), *_ = verify(store)
    assert "run the extraction again" in str(fault)


def test_verify_passes_over_what_another_run_removes_or_replaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, recipe = Store(tmp_path), make_recipe()
    table = random_table()
    gone = store.write(table, recipe)
    store.write(replace(table, split="test"), recipe)
    whole = gone.read_bytes()
    listing = places.matching

    def overtaken(*asked: object) -> Iterator[Path]:
        """List what is there; then one table goes and another one comes."""
        yield from list(listing(*asked))
        gone.unlink(missing_ok=True)
        store.write(replace(table, section=Section("valve", 1)), recipe)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(places, "matching", overtaken)
        assert [(stored.split, fault) for stored, fault in verify(store)] == [("test", None)]
    assert [recipe] == store.recipes()
    places.remove_tree(tmp_path / recipe.fingerprint / "valve")
    gone.write_bytes(whole[:-50])  # as it is read, another run writes it anew
    versions = iter([1, 2, 3])
    state = places.version

    def version(path: Path) -> str:
        if path == gone and next(versions) == 2:
            gone.write_bytes(whole)
        return state(path)

    monkeypatch.setattr(places, "version", version)
    assert [fault for _, fault in verify(store)] == [None, None]


def test_what_the_system_does_not_give_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    one = store.write(random_table(), make_recipe())
    other = store.write(replace(random_table(), split="test"), make_recipe())
    other.write_bytes(b"PAR1")
    opened = pa.OSFile

    def denied(path: str) -> object:
        if path == str(one):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path)

    monkeypatch.setattr(pa, "OSFile", denied)
    assert main(["verify", "--repair", "--cache-dir", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert f"not moved: {one} cannot be read: Permission denied" in said
    assert f"moved {other} to" in said
    assert one.exists()
    assert not other.exists()


def test_concatenation_is_joined_on_the_fly(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one, two = make_recipe(), make_recipe(pooling="max")
    store.write(random_table(seed=1), one)
    store.write(random_table(seed=2), two)
    both = concatenation([one, two])
    assert [stored.section for stored in store.tables(both)] == [SECTION]
    joined = store.read(both, SECTION, "train")
    assert list(joined.blocks) == [f"logmel@{r.fingerprint[:8]}" for r in (one, two)]
    parts = [store.read(each, SECTION, "train").embeddings for each in (one, two)]
    np.testing.assert_array_equal(joined.embeddings, np.concatenate(parts, axis=1))


def _add_rows(folder: str, rows: list[int]) -> None:
    for row in rows:
        Store(Path(folder)).add(random_table(60).select([row]), make_recipe())


def test_two_processes_on_one_table_lose_no_row(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    halves = [list(range(0, 60, 2)), list(range(1, 60, 2))]
    workers = [context.Process(target=_add_rows, args=(str(tmp_path), half)) for half in halves]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    back = Store(tmp_path).read(make_recipe(), SECTION, "train")
    np.testing.assert_array_equal(back.embeddings, random_table(60).embeddings)
    assert leftovers(tmp_path) == []


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(AsdError, match="No space left on device; the disk is full: free space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_cache_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("")
    with pytest.raises(AsdError, match="write to another folder"):
        Store(tmp_path / "artifacts").add(random_table(), make_recipe())


def test_what_a_killed_writer_left_is_found(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys\nfrom cache.files.atomic import atomic_path\n"
        "with atomic_path(pathlib.Path(sys.argv[1]) / 'train.parquet') as path:\n"
        "    path.write_bytes(b'half')\n    os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    assert [path.read_bytes() for path in leftovers(tmp_path)] == [b"half"]
    with atomic_path(tmp_path / "other") as mine:
        mine.write_bytes(b"")
        assert mine not in leftovers(tmp_path)
