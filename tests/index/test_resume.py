"""A bank that is built again: what is kept, what is made anew, and who reads it meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import index.bank
import index.fitted
from cache.base.errors import AsdError
from cache.parquet import read_digest
from cache.recipe import concatenation
from cache.table import EmbeddingTable, Section
from index.bank import Bank
from index.fitted import FittedSection
from index.scorer import find
from index.threshold import fit_threshold
from tests.conftest import make_recipe
from tests.helpers.fleets import RECIPE, built, fleet, rows_of, scored


def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the sections that a bank writes from now on."""
    numbers: list[int] = []
    write = Bank.write

    def noted(self: Bank, fitted: FittedSection) -> Path:
        numbers.append(fitted.section.number)
        return write(self, fitted)

    monkeypatch.setattr(Bank, "write", noted)
    return numbers


def test_a_stopped_build_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, write = fleet(tmp_path, 5), Bank.write

    def stopped(self: Bank, fitted: FittedSection) -> Path:
        if fitted.section.number == 2:
            raise KeyboardInterrupt
        return write(self, fitted)

    with monkeypatch.context() as patch:
        patch.setattr(Bank, "write", stopped)
        assert built(store) == 130
    numbers = written(monkeypatch)
    assert built(store) == 0
    assert numbers == [2, 3, 4]
    assert "2 of them were there already" in capsys.readouterr().out


def test_what_changed_or_is_damaged_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = fleet(tmp_path, 7)
    built(store)
    bank = tmp_path / "bank" / "fan"
    store.write(rows_of(Section("fan", 1), seed=9), RECIPE)
    next((bank / "section_02").glob("source-*.faiss")).write_bytes(b"damaged")
    (bank / "section_03" / "record.json").unlink()
    next((bank / "section_04").glob("state-*.npz")).unlink()
    shifted = rows_of(Section("fan", 5), split="test")
    store.write(replace(shifted, embeddings=shifted.embeddings + 1), RECIPE)
    numbers = written(monkeypatch)
    assert built(store) == 0
    assert numbers == [1, 2, 3, 4]
    assert built(store) == 0
    assert numbers == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "options", [["--k", "2"], ["--percentile", "80"], ["--threshold", "quantile"], ["--rebuild"]]
)
def test_another_way_of_fitting_fits_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    store = fleet(tmp_path, 2)
    built(store)
    numbers = written(monkeypatch)
    assert built(store, *options) == 0
    assert numbers == [0, 1]


def with_synthetic(section: Section) -> EmbeddingTable:
    table = rows_of(section)
    made = {"synthetic": "noise"}
    keys = tuple(replace(k, attributes=made) if i < 3 else k for i, k in enumerate(table.keys))
    return replace(table, keys=keys)


def test_synthetic_clips_asked_for_fit_the_sections_that_have_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = fleet(tmp_path, 2)
    store.write(with_synthetic(Section("fan", 1)), RECIPE)
    built(store)
    numbers = written(monkeypatch)
    built(store)
    assert "3 synthetic training clips left out" in capsys.readouterr().err
    built(store, "--synthetic")
    built(store, "--synthetic")
    built(store)
    assert numbers == [1, 1]


def test_a_bank_of_another_version_is_refused_and_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = fleet(tmp_path, 1)
    built(store)
    path = tmp_path / "bank" / "fan" / "section_00" / "record.json"
    record = json.loads(path.read_text())
    told = {name: value for name, value in record.items() if name != "sha256"} | {"format": 1}
    path.write_text(json.dumps(told | {"sha256": index.fitted.digest(told)}))
    assert scored(store, tmp_path / "out", "--no-report") == 2
    assert "made by another version (format 1, known is 2): build it with" in capsys.readouterr().err
    numbers = written(monkeypatch)
    built(store)
    assert numbers == [0]


def test_scoring_says_whose_training_clips_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = fleet(tmp_path, 3)
    built(store)
    store.write(rows_of(Section("fan", 1), seed=9), RECIPE)
    store.path(RECIPE, Section("fan", 2), "train").write_bytes(b"damaged")
    assert scored(store, tmp_path / "out", "--no-report") == 0
    said = capsys.readouterr().err
    assert "fan/section_01 has other training clips now" in said
    assert said.count("has other training clips now") == 1
    built_again = "`python -m index.run` builds it anew"
    assert built_again in said


def test_the_digest_of_a_concatenation_is_that_of_its_parents(tmp_path: Path) -> None:
    store, other, section = fleet(tmp_path, 1), make_recipe(pooling="max"), Section("fan", 0)
    both = concatenation([RECIPE, other])
    assert store.digest(both, section, "train") is None
    assert not store.holds(both, section, "train")
    store.write(rows_of(section), other)
    first = store.digest(both, section, "train")
    assert first is not None
    assert store.holds(both, section, "train")
    assert store.digest(RECIPE, section, "train") == read_digest(store.path(RECIPE, section, "train"))
    store.write(rows_of(section, seed=3), other)
    assert store.digest(both, section, "train") not in (None, first)
    store.path(other, section, "train").write_bytes(b"PAR1")
    with pytest.raises(AsdError, match="is not an embedding table"):
        store.digest(both, section, "train")


REWRITE = """
import sys
from dataclasses import replace
from pathlib import Path
from cache.table import Section
from index.bank import Bank
from tests.conftest import make_recipe
from tests.helpers.fleets import RECIPE
from tests.index.test_resume import fitted
bank, ready = Bank(Path(sys.argv[1])), Path(sys.argv[2])
versions, number = [fitted(seed) for seed in (0, 1)], 0
while not ready.exists():
    number += 1  # no two records are the same
    bank.write(replace(versions[number % 2], clips={"source": number}))
"""


def fitted(seed: int) -> FittedSection:
    store_less = find("min-distance")()
    table = rows_of(Section("fan", 0), seed)
    store_less.fit(table)
    threshold = fit_threshold(store_less.train_scores())
    clips = {"source": 8, "target": 4}
    return FittedSection(
        section=table.section, recipe=RECIPE, scorer_name="min-distance", scorer=store_less,
        threshold=threshold, clips=clips,
    )  # fmt: skip


def test_a_section_that_another_process_rewrites_is_read_whole(tmp_path: Path) -> None:
    bank, ready = Bank(tmp_path / "bank"), tmp_path / "ready"
    bank.write(fitted(0))
    command = [sys.executable, "-c", REWRITE, str(bank.root), str(ready)]
    queries = rows_of(Section("fan", 0), split="test").embeddings
    known = {fitted(seed).scorer.score(queries).tobytes() for seed in (0, 1)}
    found = set()
    record = bank.root / "fan" / "section_00" / "record.json"
    first = record.read_bytes()
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as writer:
        try:
            while record.read_bytes() == first and writer.poll() is None:
                time.sleep(0.01)
            for _ in range(100):
                found.add(bank.read(Section("fan", 0), RECIPE).scorer.score(queries).tobytes())
        finally:
            ready.touch()
    assert writer.returncode == 0
    assert found <= known
    assert found


def test_a_vanished_file_is_looked_for_in_the_new_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = Bank(tmp_path)
    bank.write(fitted(0))
    read, calls = index.bank.read_record, []

    def rewritten(path: Path) -> dict[str, object]:
        record = read(path)
        calls.append(path)
        if len(calls) <= 9:  # another process writes between the record and the data
            with monkeypatch.context() as patch:
                patch.setattr(index.bank, "read_record", read)
                bank.write(fitted(1 if len(calls) == 9 else 2 + len(calls) % 2))
        return record

    monkeypatch.setattr(index.bank, "read_record", rewritten)
    queries = rows_of(Section("fan", 0), split="test").embeddings
    found = bank.read(Section("fan", 0), RECIPE).scorer.score(queries)
    np.testing.assert_array_equal(found, fitted(1).scorer.score(queries))
    next(tmp_path.rglob("*.npz")).unlink()
    with pytest.raises(AsdError, match="build it with"):
        bank.read(Section("fan", 0), RECIPE)
