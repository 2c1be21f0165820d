"""Clips that are left out together: copies, windows of one file, clips recorded together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cache.heard import window_id
from cache.store import Store
from cache.table import EmbeddingTable
from eval.run import main as evaluate
from index.groups import originals, without_copies
from index.run import main as build
from tests.conftest import make_recipe, make_table


def table_of(values: np.ndarray, shas: list[str] | None = None) -> EmbeddingTable:
    table = make_table(values)
    if shas is None:
        return table
    keys = tuple(replace(key, content_sha256=sha) for key, sha in zip(table.keys, shas, strict=True))
    return replace(table, keys=keys)


def test_copies_by_content_and_by_embedding() -> None:
    values = np.random.default_rng(0).normal(100, 1, (7, 12)).astype(np.float32)
    values[4] = values[1]  # the same samples in another file format
    values[6] = values[0] * np.float32(1 + 2e-7)  # ... whose sums were rounded in another way
    table = table_of(values, ["a", "b", "c", "c", "d", "", ""])
    assert originals(table).tolist() == [0, 1, 2, 2, 1, 5, 0]
    assert without_copies(table).clip_ids == tuple(table.clip_ids[i] for i in (0, 1, 2, 5))


def test_chains_of_copies_are_one_sound() -> None:
    values = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    values[2] = values[1]
    assert originals(table_of(values, ["a", "a", "b", "b"])).tolist() == [0, 0, 0, 0]


def test_windows_of_one_file_are_no_copies_but_those_of_its_copy_are() -> None:
    values = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    table = table_of(values, ["a"] * 4)
    names = [window_id(f"{file}.wav", span) for file in "xy" for span in ((0, 1), (1, 2))]
    keys = tuple(replace(k, clip_id=name) for k, name in zip(table.keys, names, strict=True))
    assert originals(replace(table, keys=keys)).tolist() == [0, 1, 0, 1]


def test_a_copy_in_the_other_domain_stays() -> None:
    table = make_table([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]], ["source", "source", "target"])
    assert originals(table).tolist() == [0, 1, 0]
    assert without_copies(table) is table


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_equal_embeddings_against_all_pairs(scale: float) -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(size=(40, 16)) * scale
    noise = rng.choice([0.0, 1e-7, 1e-3], size=(40, 1)) * rng.normal(size=(40, 16)) * scale
    values = np.concatenate([base, base + noise]).astype(np.float32)
    found = originals(table_of(values))
    wide = values.astype(np.float64)
    apart = np.linalg.norm(wide[:, None] - wide, axis=-1)
    same = apart <= 1e-5 * np.maximum.outer(*[np.linalg.norm(wide, axis=1)] * 2)
    np.testing.assert_array_equal(found, same.argmax(axis=1))
    assert 5 < (found != np.arange(80)).sum() < 40


def test_a_thousand_silent_clips_are_one_sound() -> None:
    assert set(originals(table_of(np.zeros((1000, 4)))).tolist()) == {0}


def chain(root: Path, training: EmbeddingTable) -> Path:
    """Build and score with the default scorer; the results."""
    store = Store(root / "cache")
    store.write(training, make_recipe())
    test = make_table(np.random.default_rng(9).normal(1, 1, (12, 6)), split="test")
    keys = tuple(replace(key, condition=None, domain=None) for key in test.keys)
    store.write(replace(test, keys=keys), make_recipe())
    assert build(["--cache-dir", str(store.root)]) == 0
    assert evaluate(["--cache-dir", str(store.root), "--out", str(root / "out")]) == 0
    return root / "out"


def test_a_folder_copied_twice_changes_no_score_and_no_decision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.random.default_rng(2).normal(size=(30, 6)).astype(np.float32)
    once = chain(tmp_path / "once", make_table(values))
    said = capsys.readouterr().err
    assert "copies" not in said
    twice = chain(tmp_path / "twice", make_table(np.concatenate([values, values])))
    said = capsys.readouterr().err
    assert "fan/section_00: 30 of 60 training clips are copies of others" in said
    for kind in ("anomaly_score", "decision_result"):
        name = f"{kind}_fan_section_00_test.csv"
        assert (once / name).read_text() == (twice / name).read_text()
    assert "30 of 60 training clips are copies" in (twice / "report.html").read_text()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros((8, 6)), "1 different training clip;"),
        (np.eye(6)[:2], "2 different training clips;"),
        # Six corners of a simplex: every clip left out is as far from the others.
        (np.eye(6), "scores of the 6 training clips that do not vary;"),
    ],
)
def test_a_threshold_that_means_nothing_is_not_applied(
    values: np.ndarray, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = chain(tmp_path, make_table(values))
    said = f"not judged: no threshold can be learnt from {reason}"
    assert capsys.readouterr().err.count(f"fan/section_00: {said}") == 2  # when built, when scored
    rows = (out / "decision_result_fan_section_00_test.csv").read_text().split()
    assert {row.partition(",")[2] for row in rows} == {"0"}
    page = (out / "report.html").read_text()
    assert "12 clips scored, not judged" in page
    assert said.capitalize().partition(":")[0] in page
    assert reason in page
    assert "sound normal" not in page


def test_few_clips_give_a_guess_and_enough_do_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    few = chain(tmp_path / "few", make_table(rng.normal(size=(19, 6))))
    enough = chain(tmp_path / "enough", make_table(rng.normal(size=(20, 6))))
    guess = "The threshold is a guess: 19 different training clips"
    assert guess in (few / "report.html").read_text()
    assert "is a guess" not in (enough / "report.html").read_text()
