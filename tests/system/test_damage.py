"""Damaged artefacts are told from whole ones, and moved out of the way."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cache.run import main
from cache.store import Store
from extractors.run import main as extract
from tests.helpers.damage import DETECTED, HARMLESS, artefacts, outcome
from tests.helpers.mutation import damage

_EACH = 8  # of a file; `make chaos` tries many more


def test_no_damaged_artefact_is_used(tmp_path: Path) -> None:
    rng, seen = np.random.default_rng(0), Counter[str]()
    for artefact in artefacts(tmp_path):
        for _ in range(_EACH):
            damaged = damage(artefact.path.read_bytes(), rng)
            found = outcome(artefact, damaged)
            assert found in {DETECTED, HARMLESS}, (artefact, found)
            seen[found] += 1
    assert seen[DETECTED] > 0.8 * seen.total()


def test_a_damaged_table_is_moved_aside_and_made_anew(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    run = ["--backbone", "logmel", "--data", str(root), "--cache-dir", str(cache)]
    assert extract(run) == 0
    path = next(cache.rglob("train.parquet"))
    for aside in ("train.parquet", "train-1.parquet"):
        whole = path.read_bytes()
        path.write_bytes(whole[:-30])
        assert main(["verify", "--repair", "--cache-dir", str(cache)]) == 1
        moved = cache / "damaged" / path.relative_to(cache).with_name(aside)
        assert f"moved {path} to {moved}" in capsys.readouterr().out
        assert moved.read_bytes() == whole[:-30]
        assert not path.exists()
        assert extract(run) == 0
        assert path.read_bytes() == whole
    assert main(["verify", "--repair", "--cache-dir", str(cache)]) == 0
    assert len(Store(cache).recipes()) == 1
