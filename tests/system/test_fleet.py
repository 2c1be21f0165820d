"""Thousands of sections: nothing is done for all of them at each, and none is done twice."""

from __future__ import annotations

import gc
import json
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import eval.score
import index.bank
import index.build
import index.fitted
from cache.base.errors import listing
from cache.recipe import Recipe
from cache.store import Store
from cache.table import EmbeddingTable, Section
from eval.judge import JudgeRequest, judge
from eval.results.folder import ResultsFolder
from eval.results.submission import Submission, write_submission
from index.bank import Bank
from tests.conftest import make_table
from tests.helpers.fleets import RECIPE, built, fleet, scored

pytestmark = pytest.mark.slow


@contextmanager
def counted_listings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every entry that listing a folder gives."""
    entries: list[str] = []
    scan, names = os.scandir, os.listdir

    def listed(path: str | Path = ".") -> list[str]:
        entries.extend(found := names(path))
        return found

    @contextmanager
    def scanned(path: str | Path = ".") -> Iterator[Iterator[os.DirEntry[str]]]:
        with scan(path) as found:
            every = list(found)
        entries.extend(entry.name for entry in every)
        yield iter(every)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", scanned)
        patch.setattr(os, "listdir", listed)
        yield entries


def test_listing_grows_as_the_sections_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    for count in (4, 16):
        store = fleet(tmp_path / str(count), count)
        with counted_listings(monkeypatch) as entries:
            assert built(store) == 0
            assert built(store) == 0
            assert scored(store, tmp_path / f"out{count}", "--no-report") == 0
        counts.append(len(entries))
    assert counts[0] > 0
    assert counts[1] <= 4.5 * counts[0], counts


def test_reading_a_submission_lists_and_sums_its_folder_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = tuple(f"section_00_source_test_{c}_{i:04d}.wav" for c in ("normal", "anomaly")
                  for i in range(3))  # fmt: skip
    counts, reads, read_text = [], [], Path.read_text
    for count in (4, 16):
        out = tmp_path / str(count)
        results = ResultsFolder(out)
        with results.run():
            for number in range(count):
                section = Section("fan", number)
                one = Submission(section, names, np.arange(6.0), np.zeros(6, np.int64))
                write_submission(results, one)
        texts: list[Path] = []

        def noted(path: Path, *rest: str, seen: list[Path] = texts) -> str:
            seen.append(path)
            return read_text(path, *rest)

        with counted_listings(monkeypatch) as entries, monkeypatch.context() as patch:
            patch.setattr(Path, "read_text", noted)
            assert len(judge(JudgeRequest(out)).results) == count
        counts.append(len(entries))
        reads.append([path.name for path in texts].count("SHA256SUMS"))
    assert counts[1] <= 4.5 * counts[0], counts
    assert reads == [1, 1]


def alive_at_once(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, run: Callable[[], int]) -> int:
    """How many of the first arguments, or their results, of a function live at once at most."""
    function = getattr(owner, name)
    seen: list[weakref.ref[object]] = []
    most = 0

    def watched(*arguments: object, **named: object) -> object:
        nonlocal most
        made = function(*arguments, **named)
        seen.append(weakref.ref(made))
        gc.collect()
        most = max(most, sum(ref() is not None for ref in seen))
        return made

    monkeypatch.setattr(owner, name, watched)
    gc.freeze()  # what other tests left is not looked through each time
    try:
        assert run() == 0
    finally:
        gc.unfreeze()
    assert len(seen) >= 6
    return most


def test_a_build_holds_one_section_and_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fleet(tmp_path, 6)
    assert alive_at_once(monkeypatch, Store, "read", lambda: built(store)) <= 2
    assert alive_at_once(monkeypatch, index.build, "_fit", lambda: built(store, "--rebuild")) <= 2


def test_scoring_holds_one_section_and_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fleet(tmp_path, 6)
    built(store)

    def score() -> int:
        return scored(store, tmp_path / "out", "--no-report")

    for owner, name in (
        (Store, "read_blocks"),
        (Bank, "read"),
        (eval.score, "score_blocks"),
    ):
        assert alive_at_once(monkeypatch, owner, name, score) <= 2


def test_without_a_report_training_clips_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fleet(tmp_path, 2)
    built(store)
    splits = []
    read, read_blocks = Store.read, Store.read_blocks

    def noted(self: Store, recipe: Recipe, section: Section, split: str) -> EmbeddingTable:
        splits.append(split)
        return read(self, recipe, section, split)

    def noted_blocks(
        self: Store, recipe: Recipe, section: Section, split: str, rows: int
    ) -> Iterator[EmbeddingTable]:
        splits.append(split)
        return read_blocks(self, recipe, section, split, rows)

    monkeypatch.setattr(Store, "read", noted)
    monkeypatch.setattr(Store, "read_blocks", noted_blocks)
    scored(store, tmp_path / "out", "--no-report")
    assert splits == ["test", "test"]
    scored(store, tmp_path / "told", "--report")
    assert splits.count("train") == 2


def test_tables_are_the_same_with_and_without_a_report(tmp_path: Path) -> None:
    store = fleet(tmp_path, 5)
    built(store)
    for option in ("--report", "--no-report"):
        assert scored(store, tmp_path / option, option) == 0
    texts = [tmp_path / option / "results.csv" for option in ("--report", "--no-report")]
    assert texts[0].read_bytes() == texts[1].read_bytes()
    records = [json.loads(path.with_suffix(".json").read_text()) for path in texts]
    for record in records:
        del record["facts"]["command"]
    assert records[0] == records[1]
    assert records[0]["interval"] is not None


def test_notes_of_many_sections_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path)
    for number in range(15):
        store.write(make_table([[0.0], [1.0], [3.0]], section=Section("fan", number)), RECIPE)
    built(store)
    said = capsys.readouterr().err
    assert said.count("has no target clips") == 10
    assert "note: and 5 more" in said
    built(store)  # said again though nothing is built
    assert capsys.readouterr().err == said


def test_a_bank_of_many_sections_does_not_list_them_all() -> None:
    many = [Section("fan", number) for number in range(12)]
    assert listing(many).endswith("fan/section_09 and 2 more")
    assert listing(many[:2]) == "fan/section_00, fan/section_01"
    assert listing([]) == "nothing"
