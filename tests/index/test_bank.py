"""The bank on disk and the index's command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache.base.errors import AsdError
from cache.recipe import Recipe
from cache.store import Store
from cache.table import Section
from index.bank import Bank, find_bank
from index.run import main
from index.scorer import names
from tests.conftest import make_recipe, make_table

ErrorOf = Callable[..., str]
SECTION = Section("fan", 0)
POINTS = np.random.default_rng(5).normal(size=(30, 6)).astype(np.float32)


@pytest.fixture
def recipe() -> Recipe:
    return make_recipe()


@pytest.fixture
def store(tmp_path: Path, recipe: Recipe) -> Store:
    store = Store(tmp_path / "artifacts")
    values = np.random.default_rng(0).normal(size=(40, 6))
    store.write(make_table(values, ["source"] * 35 + ["target"] * 5), recipe)
    store.write(make_table(values[:4], split="test"), recipe)
    return store


def build(store: Store, *options: str) -> int:
    chosen = [] if "--scorer" in options else ["--scorer", "min-distance"]
    where = ["--backbone", "logmel", "--cache-dir", str(store.root)]
    return main([*where, *chosen, *options])


@pytest.mark.parametrize("name", names())
def test_a_bank_scores_as_before_it_was_saved(store: Store, recipe: Recipe, name: str) -> None:
    assert build(store, "--scorer", name) == 0
    bank = find_bank(store.root, recipe, name)
    one, two = bank.read(SECTION, recipe), Bank(bank.root).read(SECTION, recipe)
    again = type(one.scorer)()
    again.fit(store.read(recipe, SECTION, "train"))
    np.testing.assert_array_equal(two.scorer.score(POINTS), again.score(POINTS))
    assert np.isfinite(one.threshold.value)


def test_the_record_says_what_it_is(store: Store, recipe: Recipe) -> None:
    options = ["--scorer", "min-distance", "--k", "2", "--metric", "cosine"]
    build(store, *options, "--no-standardise")
    bank = find_bank(store.root, recipe, "min-distance")
    record = json.loads((bank.root / str(SECTION) / "record.json").read_text())
    assert record["fingerprint"] == recipe.fingerprint
    assert record["options"] == {
        "standardise": False,
        "blocks": "equal",
        "block_weights": "",
        "search": "auto",
        "recall": 0.99,
        "metric": "cosine",
        "k": 2,
    }
    assert record["recall"] == {"source.faiss": 1.0, "target.faiss": 1.0}
    assert record["clips"] == {"source": 35, "target": 5}
    assert record["transductive"] is False
    assert set(record["versions"]) == {"faiss-cpu", "numpy", "scipy"}
    assert bank.recipe() == recipe
    names_on_disk = {path.name for path in (bank.root / str(SECTION)).iterdir()}
    assert names_on_disk == {"record.json", *(f["file"] for f in record["files"].values())}


def test_rebuilding_with_other_clips_replaces_the_files(store: Store, recipe: Recipe) -> None:
    build(store)
    bank = find_bank(store.root, recipe, "min-distance")
    before = {path.name for path in (bank.root / str(SECTION)).iterdir()}
    store.write(make_table(np.random.default_rng(1).normal(size=(9, 6))), recipe)
    build(store)
    after = {path.name for path in (bank.root / str(SECTION)).iterdir()}
    assert before & after == {"record.json"}
    assert bank.read(SECTION, recipe).clips == {"source": 9}


def test_a_bank_of_another_fingerprint_is_refused(store: Store, recipe: Recipe) -> None:
    build(store)
    bank = find_bank(store.root, recipe, "min-distance")
    with pytest.raises(AsdError, match=f"built from embeddings {recipe.fingerprint}, not"):
        bank.read(SECTION, make_recipe(pooling="max"))


def test_damage_and_absence_are_named(store: Store, recipe: Recipe) -> None:
    build(store)
    bank = find_bank(store.root, recipe, "min-distance")
    folder = bank.root / str(SECTION)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        rng = np.random.default_rng(0)
        for position in rng.choice(len(whole), 20):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            if path.name != "record.json":
                with pytest.raises(AsdError, match="is damaged: its SHA-256"):
                    bank.read(SECTION, recipe)
        path.write_bytes(whole[:-7])
        with pytest.raises(AsdError, match="build it with"):
            bank.read(SECTION, recipe)
        path.unlink()
        with pytest.raises(AsdError, match="build it with"):
            bank.read(SECTION, recipe)
        path.write_bytes(whole)
    with pytest.raises(AsdError, match="no pump/section_00 in the bank .* holds fan/section_00"):
        bank.read(Section("pump", 0), recipe)


def test_two_banks_of_one_scorer_are_listed_with_their_options(store: Store, recipe: Recipe) -> None:
    build(store)
    build(store, "--k", "2")
    with pytest.raises(AsdError, match="2 banks of min-distance") as caught:
        find_bank(store.root, recipe, "min-distance")
    assert "k=2" in str(caught.value)
    with pytest.raises(AsdError, match="no bank of domain-scale"):
        find_bank(store.root, recipe, "domain-scale")


def test_no_training_clips(tmp_path: Path, error_of: ErrorOf) -> None:
    store = Store(tmp_path)
    store.write(make_table([[0.0]], split="test"), make_recipe())
    said = error_of(main, "--backbone", "logmel", "--cache-dir", tmp_path)
    assert "no training clips" in said
    assert "put the normal recordings into <machine>/train" in said


def test_unusual_sections_work_and_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path)
    store.write(make_table([[0.0], [1.0]]), make_recipe())
    store.write(make_table([[0.0]], section=Section("pump", 0)), make_recipe())
    store.write(make_table([[0.0]], section=Section("saw", 0), split="test"), make_recipe())
    assert build(store) == 0
    said = capsys.readouterr().err
    assert "fan/section_00 has no target clips (2 in all)" in said
    assert "pump/section_00: not judged: no threshold can be learnt from 1 different" in said
    assert "fan/section_00: not judged: no threshold can be learnt from 2 different" in said
    assert "saw/section_00 has test clips but no training clips" in said


def test_options_of_a_scorer_stand_in_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--scorer", "domain-scale", "--help"])
    said = capsys.readouterr().out
    assert "options of domain-scale" in said
    assert "--k K" in said
    assert "example: python -m index.run" in said


def test_mistakes_in_the_call(store: Store, error_of: ErrorOf) -> None:
    where = ("--backbone", "logmel", "--scorer", "min-distance", "--cache-dir", store.root)
    said = error_of(main, *where, "--ratio", 1)
    assert "--ratio means nothing to min-distance: it is an option of knn-smote" in said
    assert "unknown option --colour" in error_of(main, *where, "--colour", 1)
    assert "--percentile 100.0 must lie between" in error_of(main, *where, "--percentile", 100)
    assert "--k 0: expected a whole number from 1" in error_of(main, *where, "--k", 0)
