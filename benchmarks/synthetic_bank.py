"""Official scores with synthetic target clips in the bank, as Markdown.

usage: python -m benchmarks.synthetic_bank DATA WORK_DIR

DATA holds dev_data, eval_data and ground_truth; log-mel means.
"""

from __future__ import annotations

import contextlib
import os
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.scorers import Tables, evaluate, read_tables
from cache.store import Store
from eval.metrics.sections import official_score
from extractors.run import main as extract
from finetune.synthesise import main as synthesise
from index.scorer import parse_member

METHODS = ("mixup", "speed", "pitch", "noise", "equalisation")
SCORERS = ("fusion", "min-distance", "knn-smote", "memmixup", "ldn", "mahalanobis")
PER_SECTION = 50


def tables(roots: Sequence[Path], work: Path) -> dict[str, Tables]:
    """Read the tables of the recordings, and by method with its synthetic clips as well."""
    data, cache = list(map(str, roots)), str(work / "artifacts")
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
        for method in METHODS:
            to = str(work / f"normals-{method}")
            synthesise(
                ["--data", *data, "--to", to, "--as", "normals", "--method", method,
                 "--per-section", str(PER_SECTION)]
            )  # fmt: skip
            data.append(to)
        extract(["--data", *data, "--cache-dir", cache])
    store = Store(Path(cache))
    recipe = next(r for r in store.recipes() if r.backbone == "logmel" and r.pooling == "mean")
    whole = read_tables(store, recipe)
    kinds = {"none": (), **{name: (name,) for name in METHODS}, "all five": METHODS}
    return {name: with_methods(whole, methods) for name, methods in kinds.items()}


def with_methods(whole: Tables, methods: Sequence[str]) -> Tables:
    """Keep recordings and the training clips made by some methods."""
    found = {}
    for section, (train, test) in whole.items():
        made_by = [(key.attributes or {}).get("synthetic") for key in train.keys]
        rows = [row for row, name in enumerate(made_by) if name is None or name in methods]
        found[section] = train.select(rows), test
    return found


def main() -> None:
    """Print one row a scorer: the official score over both machines, then by machine."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    args = parser.parse_args()
    roots = [args.data / name for name in ("dev_data", "eval_data")]
    found, truth = tables(roots, args.work), args.data / "ground_truth"
    print(f"| scorer | {' | '.join(found)} |\n| --- |" + " ---: |" * len(found))
    for scorer in SCORERS:
        cells = []
        for kind in found.values():
            results = {s: evaluate(parse_member(scorer), *pair, truth) for s, pair in kind.items()}
            parts = [official_score({s: r}) for s, r in results.items()]
            values = 100 * np.array([official_score(results) or 0, *(p or 0 for p in parts)])
            cells.append(f"{values[0]:.1f} ({' / '.join(f'{v:.1f}' for v in values[1:])})")
        print(f"| {scorer} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
