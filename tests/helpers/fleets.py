"""Small fleets: sections of a dozen clips, and the commands that build and score them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from cache.store import Store
from cache.table import EmbeddingTable, Section
from eval.run import main as evaluate
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
