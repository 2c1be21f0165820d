"""The scoring stage: test clips are scored a few at a time, with the digits of all at once."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import eval.score
from cache.store import Store
from cache.table import Section
from eval.results.folder import ResultsFolder
from eval.score import ScoreRequest, score
from index.bank import Bank
from index.build import build
from index.request import BuildRequest
from tests.conftest import make_recipe, make_table

FAN = Section("fan", 0)


def bank_of(root: Path, clips: int, width: int, scorer: str = "min-distance") -> ScoreRequest:
    rng = np.random.default_rng(clips)
    store = Store(root)
    for split, count in (("train", 60), ("test", clips)):
        domains = ["target" if i % 10 == 0 else "source" for i in range(count)]
        table = make_table(rng.normal(size=(count, width)), domains, section=FAN, split=split)
        store.write(table, make_recipe())
    build(BuildRequest(cache_dir=root, bank=root / "bank", scorer=scorer))
    return ScoreRequest(ResultsFolder(root / "out"), Bank(root / "bank"), make_recipe(), store)


def peak(request: ScoreRequest) -> int:
    """Most bytes that a scoring holds at a moment: of Python and NumPy, and of Arrow."""
    pool, usual = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        score(request)
        return tracemalloc.get_traced_memory()[1] + pool.max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(usual)


def growth(folder: Path, width: int) -> tuple[int, int]:
    """Peak with few clips, and what four times as many add to it."""
    score(bank_of(folder / "first", 20, width))  # what is imported once
    few, many = (peak(bank_of(folder / str(clips), clips, width)) for clips in (500, 2000))
    return few, many - few


def test_memory_does_not_grow_with_the_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times the clips take more for their rows, as with narrow embeddings, and for nothing else."""
    monkeypatch.setattr(eval.score, "_ROWS", 100)
    _, rows = growth(tmp_path / "narrow", 4)
    few, more = growth(tmp_path / "wide", 4096)
    assert more < rows + few / 10, (rows, few, more)


@pytest.mark.parametrize("scorer", ["fusion", "domain-z-test"])
def test_a_few_at_a_time_score_as_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scorer: str
) -> None:
    found = []
    for rows in (7, 1000):
        monkeypatch.setattr(eval.score, "_ROWS", rows)
        request = bank_of(tmp_path / str(rows), 40, 6, scorer)
        score(request)
        out = request.results.root
        kinds = ("anomaly_score", "decision_result", "neighbours", "clips")
        found.append([path.read_bytes() for kind in kinds for path in sorted(out.glob(f"{kind}_*"))])
    assert len(found[0]) == 4
    assert found[0] == found[1]
