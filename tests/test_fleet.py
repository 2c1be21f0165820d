"""Thousands of sections: nothing is done for all of them at each, and none is done twice."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import eval.bank_scores
import index.bank
import index.record
import index.run
from cache.errors import AsdError, listing
from cache.parquet import read_digest
from cache.recipe import Recipe, concatenation
from cache.store import Store
from cache.table import EmbeddingTable, Section
from eval.intervals import Plan, Scores, official
from eval.judge import Judging, read_run
from eval.rules import RULES, Rule
from eval.run import main as evaluate
from eval.scores import Submission, write_submission
from eval.sections import SectionTruth, evaluate_section
from eval.sums import write_sums
from eval.tables import SystemResult, format_table
from eval.tally import Tally, bootstrap, jackknife, uncertainty
from index.bank import Bank
from index.fitted import FittedSection
from index.run import main as build
from tests.conftest import make_recipe, make_table

RECIPE = make_recipe()


def rows_of(section: Section, seed: int = 0, split: str = "train") -> EmbeddingTable:
    rng = np.random.default_rng([seed, section.number, len(section.machine_type)])
    domains = ["source"] * 8 + ["target"] * 4
    table = make_table(rng.normal(size=(12, 4)), domains, section=section, split=split)
    if split == "train":
        return table
    states = ("normal", "anomaly")
    keys = tuple(replace(key, condition=states[i % 2]) for i, key in enumerate(table.keys))
    return replace(table, keys=keys)


def fleet(root: Path, count: int) -> Store:
    store = Store(root)
    for number in range(count):
        for split in ("train", "test"):
            store.write(rows_of(Section("fan", number), split=split), RECIPE)
    return store


def built(store: Store, *options: str) -> int:
    where = ["--cache-dir", str(store.root), "--bank", str(store.root / "bank")]
    return build([*where, "--scorer", "min-distance", *options])


def scored(store: Store, out: Path, *options: str) -> int:
    where = ["--cache-dir", str(store.root), "--bank", str(store.root / "bank")]
    return evaluate([*where, "--out", str(out), *options])


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
        paths: list[Path] = []
        for number in range(count):
            one = Submission(Section("fan", number), names, np.arange(6.0), np.zeros(6, np.int64))
            paths += write_submission(out, one)
        write_sums(paths)
        texts: list[Path] = []

        def noted(path: Path, *rest: str, seen: list[Path] = texts) -> str:
            seen.append(path)
            return read_text(path, *rest)

        with counted_listings(monkeypatch) as entries, monkeypatch.context() as patch:
            patch.setattr(Path, "read_text", noted)
            assert len(read_run(out, "run", Judging()).results) == count
        counts.append(len(entries))
        reads.append([path.name for path in texts].count("SHA256SUMS"))
    assert counts[1] <= 4.5 * counts[0], counts
    assert reads == [1, 1]


def alive_at_once(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, run: Callable[[], int]
) -> int:
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
    assert run() == 0
    assert len(seen) >= 6
    return most


def test_a_build_holds_one_section_and_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fleet(tmp_path, 6)
    assert alive_at_once(monkeypatch, Store, "read", lambda: built(store)) <= 2
    assert alive_at_once(monkeypatch, index.run, "_fit", lambda: built(store, "--rebuild")) <= 2


def test_scoring_holds_one_section_and_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fleet(tmp_path, 6)
    built(store)

    def score() -> int:
        return scored(store, tmp_path / "out", "--no-report")

    for owner, name in (
        (Store, "read"),
        (Bank, "read"),
        (eval.bank_scores, "score_table"),
    ):
        assert alive_at_once(monkeypatch, owner, name, score) <= 2


def test_without_a_report_training_clips_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fleet(tmp_path, 2)
    built(store)
    splits = []
    read = Store.read

    def noted(self: Store, recipe: Recipe, section: Section, split: str) -> EmbeddingTable:
        splits.append(split)
        return read(self, recipe, section, split)

    monkeypatch.setattr(Store, "read", noted)
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


def test_what_changed_or_is_damaged_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_bank_of_before_scores_and_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = fleet(tmp_path, 1)
    built(store)
    path = tmp_path / "bank" / "fan" / "section_00" / "record.json"
    record = json.loads(path.read_text())
    new = ("training", "left_out", "recordings", "sha256")
    told = {name: value for name, value in record.items() if name not in new}
    digest = index.record.digest(told)
    path.write_text(json.dumps({**told, "sha256": digest}))
    assert scored(store, tmp_path / "out", "--no-report") == 0
    assert "other training clips" not in capsys.readouterr().err
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
    built_again = "`python -m index.run` builds them anew"
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
    assert store.digest(RECIPE, section, "train") == read_digest(
        store.path(RECIPE, section, "train")
    )
    store.write(rows_of(section, seed=3), other)
    assert store.digest(both, section, "train") not in (None, first)
    store.path(other, section, "train").write_bytes(b"PAR1")
    with pytest.raises(AsdError, match="is not an embedding table"):
        store.digest(both, section, "train")


REWRITE = """
import sys
from pathlib import Path
import numpy as np
from cache.table import Section
from index.bank import Bank
from tests.conftest import make_recipe
from tests.test_fleet import RECIPE, fitted
bank, ready = Bank(Path(sys.argv[1])), Path(sys.argv[2])
versions = [fitted(seed) for seed in (0, 1)]
while not ready.exists():
    for version in versions:
        bank.write(version)
"""


def fitted(seed: int) -> FittedSection:
    store_less = index.run.find("min-distance")()
    table = rows_of(Section("fan", 0), seed)
    store_less.fit(table)
    threshold = index.run.fit_threshold(store_less.train_scores())
    clips = {"source": 8, "target": 4}
    return FittedSection(table.section, RECIPE, "min-distance", store_less, threshold, clips)


def test_a_section_that_another_process_rewrites_is_read_whole(tmp_path: Path) -> None:
    bank, ready = Bank(tmp_path / "bank"), tmp_path / "ready"
    bank.write(fitted(0))
    command = [sys.executable, "-c", REWRITE, str(bank.root), str(ready)]
    queries = rows_of(Section("fan", 0), split="test").embeddings
    known = {fitted(seed).scorer.score(queries).tobytes() for seed in (0, 1)}
    found = set()
    record = bank.root / "fan" / "section_00" / "record.json"
    first = record.read_bytes()
    with subprocess.Popen(command, cwd=Path(__file__).parents[1]) as writer:
        try:
            while record.read_bytes() == first and writer.poll() is None:
                pass
            for _ in range(300):
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
        if len(calls) == 1:  # another process writes between the record and the data
            bank.write(fitted(1))
        return record

    monkeypatch.setattr(index.bank, "read_record", rewritten)
    queries = rows_of(Section("fan", 0), split="test").embeddings
    found = bank.read(Section("fan", 0), RECIPE).scorer.score(queries)
    np.testing.assert_array_equal(found, fitted(1).scorer.score(queries))
    next(tmp_path.rglob("*.npz")).unlink()
    with pytest.raises(AsdError, match="build it with"):
        bank.read(Section("fan", 0), RECIPE)


def test_notes_of_many_sections_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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


def truth() -> SectionTruth:
    kinds = np.arange(12) % 4
    clips = tuple(f"{i:02d}" for i in range(12))
    return SectionTruth(kinds % 2 == 1, kinds >= 2, clips)


def drawn_sections(count: int) -> dict[Section, Scores]:
    rng = np.random.default_rng(count)
    names = [Section(("fan", "pump", "saw")[i % 3], i) for i in range(count)]
    return {
        name: Scores(rng.normal(size=12) + truth().anomaly * rng.uniform(0, 2), truth())
        for name in sorted(names)
    }


def test_many_sections_print_as_their_lowest() -> None:
    sections = {
        s: evaluate_section(one.scores, None, one.truth) for s, one in drawn_sections(70).items()
    }
    text = format_table(SystemResult("ours", sections, {}))
    assert "the 20 lowest of 70 sections" in text
    height = {s: sum(r.figures[n] for n in RULES[2023].parts) for s, r in sections.items()}
    lowest = sorted(height, key=lambda s: height[s])[:20]
    for section, found in sections.items():
        cells = [f"{100 * found.figures[name]:.2f}" for name in ("auc_source", "auc_target")]
        line = "  ".join([f"{section.machine_type:14}", f"{section.number:02d}"])
        assert (line.split() in [row.split()[:2] for row in text.splitlines()]) == (
            section in lowest
        ), cells
    few = dict(list(sections.items())[:60])
    assert "lowest" not in format_table(SystemResult("ours", few, {}))


@pytest.mark.parametrize("rule", [RULES[2020], RULES[2023]])
def test_intervals_of_many_sections_are_their_definition(rule: Rule) -> None:
    # Clip by clip, all sections stacked each time.
    sections, plan = drawn_sections(5), Plan(resamples=40)
    variance = 0.0
    for name, one in sections.items():
        kinds = 2 * one.truth.target + one.truth.anomaly
        values = np.empty(12)
        for i in range(12):
            keep = np.arange(12) != i
            rest = SectionTruth(one.truth.anomaly[keep], one.truth.target[keep])
            values[i] = official({**sections, name: Scores(one.scores[keep], rest)}, rule)
        for kind in range(4):
            own = values[kinds == kind]
            variance += (len(own) - 1) / len(own) * np.sum((own - own.mean()) ** 2)
    found = jackknife(sections, rule, 0.95)
    assert found is not None
    reach = 1.959964 * np.sqrt(variance)
    assert found.high == pytest.approx(min(1, official(sections, rule) + reach), rel=1e-6)
    whole = uncertainty(sections, rule, plan)
    assert whole is not None
    low, high = np.quantile(bootstrap(sections, rule, plan), [0.025, 0.975])
    assert (whole.bootstrap.low, whole.bootstrap.high) == (low, high)
    assert whole.jackknife == found
    assert set(whole.parts) == set(sections)


def test_a_section_of_no_use_gives_a_score_of_zero_and_an_interval() -> None:
    rule, sections = RULES[2023], drawn_sections(3)
    worst = next(iter(sections))
    sections[worst] = Scores(-1.0 * truth().anomaly, truth())
    assert official(sections, rule) == 0
    found = jackknife(sections, rule, 0.95)
    assert found is not None
    assert (found.low, found.high) == (0, 0)


def test_one_section_without_domains_leaves_no_interval() -> None:
    sections = drawn_sections(3)
    tally = Tally(RULES[2023], Plan(resamples=10))
    for name, one in sections.items():
        tally.add(name, one)
    assert tally.uncertainty() is not None
    tally.add(Section("zoo", 0), Scores(np.arange(12.0), SectionTruth(truth().anomaly)))
    assert tally.uncertainty() is None
