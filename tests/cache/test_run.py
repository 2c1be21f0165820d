"""The store's command line and the one way to choose tables."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cache.base.errors import AsdError
from cache.run import main
from cache.select import Selection, choose
from cache.store import Store
from tests.conftest import make_recipe, make_table

ErrorOf = Callable[..., str]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "artifacts")
    for pooling in ("mean", "gwrp:0.7"):
        store.write(make_table([[0.0], [1.0]]), make_recipe(pooling=pooling))
    return store


def test_an_ambiguous_choice_lists_the_candidates(store: Store) -> None:
    with pytest.raises(AsdError, match="2 recipes fit; choose with --layer, --pooling") as caught:
        choose(store, Selection(backbones=("logmel",)))
    for recipe in store.recipes():
        assert f"{recipe.fingerprint}  {recipe}" in str(caught.value)


@pytest.mark.parametrize(
    "wanted",
    [
        Selection(backbones=("logmel",), pooling="gwrp"),
        Selection(backbones=("logmel",), pooling="gwrp:0.7"),
        Selection(recipes=(make_recipe(pooling="gwrp:0.7").fingerprint[:6],)),
    ],
)
def test_a_choice_by_pooling_or_fingerprint(store: Store, wanted: Selection) -> None:
    assert choose(store, wanted) == make_recipe(pooling="gwrp:0.7")


def test_several_names_are_concatenated_in_order(store: Store) -> None:
    prints = [make_recipe(pooling=pooling).fingerprint for pooling in ("mean", "gwrp:0.7")]
    both = choose(store, Selection(recipes=tuple(prints)))
    assert [parent.fingerprint for parent in both.parents] == prints


def test_an_unknown_backbone_lists_what_there_is(store: Store) -> None:
    with pytest.raises(AsdError, match="beats: no table of that kind; the cache holds"):
        choose(store, Selection(backbones=("beats",)))


def test_an_empty_cache_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(AsdError, match=r"run `python -m extractors.run` first"):
        choose(Store(tmp_path), Selection(backbones=("logmel",)))


def test_ls_and_verify(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--cache-dir", str(store.root)]) == 0
    listed = capsys.readouterr().out
    assert listed.count("1 tables, 2 clips") == 2
    assert main(["verify", "--cache-dir", str(store.root)]) == 0
    assert "2 tables read in full, 0 faulty" in capsys.readouterr().out
    path = next(store.root.rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-20])
    assert main(["verify", "--cache-dir", str(store.root)]) == 1
    assert f"fault: {path}" in capsys.readouterr().out


def test_gc_removes_leftovers_and_unwanted_recipes(store: Store) -> None:
    left = store.root / "x" / ".train.parquet.00000000-1.abababab.tmp"
    left.parent.mkdir()
    left.write_bytes(b"")
    os.utime(left, (0, 0))
    unwanted = store.recipes()[0]
    command = ["gc", "--cache-dir", str(store.root), "--recipe", unwanted.fingerprint]
    assert main([*command, "--dry-run"]) == 0
    assert left.exists()
    assert len(store.recipes()) == 2
    assert main(command) == 0
    assert not left.exists()
    assert unwanted not in store.recipes()


def test_who_reads_no_further_is_no_fault() -> None:
    program = (
        "import sys\n"
        "from cache.base.errors import guarded\n"
        "sys.exit(guarded(lambda _: [print('line') for _ in range(10**6)] and 0)())\n"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.readline()
    running.stdout.close()
    assert running.stderr.read() == b""
    running.stderr.close()
    assert running.wait() == 1


def test_one_bad_table_never_stops_the_repair_of_the_others(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = [stored.path for stored in store.tables()]
    good = tables[0]
    recipe = good.parents[2]
    deep = pq.read_table(good).replace_schema_metadata(
        {**pq.read_schema(good).metadata, b"asd.recipe": b'{"parents": ' + b"[" * 100_000}
    )
    bad = [
        recipe / "fan" / "section_3000000000" / "train.parquet",
        recipe / "--bank=x" / "section_00" / "train.parquet",
        recipe / "fan" / "section_²" / "train.parquet",
        recipe / "\x1b[31mfan" / "section_00" / "train.parquet",
    ]
    for path in bad:
        path.parent.mkdir(parents=True)
        shutil.copy(good, path)
    bad.append(recipe / "fan" / "section_77" / "train.parquet")
    bad[-1].parent.mkdir(parents=True)
    pq.write_table(deep, bad[-1])
    assert main(["verify", "--repair", "--cache-dir", str(store.root)]) == 1
    said = capsys.readouterr().out
    assert f"{len(tables) + 5} tables read in full, 5 faulty" in said
    assert all(line.isprintable() for line in said.splitlines())
    assert not any(path.exists() for path in bad)
    assert [stored.path for stored in store.tables()] == tables
    assert main(["verify", "--cache-dir", str(store.root)]) == 0
