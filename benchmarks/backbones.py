"""Official scores of backbones by layer, pooling and bands on recordings with known truth.

usage: python -m benchmarks.backbones DATA WEIGHTS [CACHE_DIR]

DATA holds dev_data, eval_data and ground_truth; WEIGHTS is an EfficientAT checkpoint. Prints
Markdown: log-mel and EfficientAT alone, then joined.
"""

from __future__ import annotations

import contextlib
import os
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.scorers import evaluate, read_tables
from cache.recipe import Recipe, concatenation
from cache.store import Store
from eval.metrics.sections import official_score
from extractors.run import main as extract
from index.scorer import parse_member

SCORERS = ("min-distance", "fusion")
LOG_MEL = ("mean", "max", "mean+std", "gwrp", "rdp")  # decibels are negative: GeM sees nothing
POOLINGS = ("mean", "max", "gwrp", "gem", "rdp", "rdp+gem")
LAYERS = (4, 6, 8, 10, 12, 14, 16)


def extract_all(data: Path, weights: Path, cache: Path) -> None:
    """Make the tables that are missing, each backbone's from one pass for each choice of bands."""
    roots = [str(data / name) for name in ("dev_data", "eval_data")]
    common = ["--data", *roots, "--cache-dir", str(cache)]
    network = ["--backbone", "efficientat", "--weights", str(weights)]
    network += ["--layers", *map(str, LAYERS), "--pooling", *POOLINGS]
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
        extract([*common, "--pooling", *LOG_MEL])
        for bands in ("merge", "keep"):
            extract([*common, *network, "--bands", bands])


def figures(store: Store, recipe: Recipe, truth: Path) -> list[float]:
    """Official score, %, of each machine and of both, for each scorer."""
    tables = read_tables(store, recipe)
    found: list[float] = []
    for scorer in SCORERS:
        results = {section: evaluate(parse_member(scorer), *pair, truth) for section, pair in tables.items()}
        found += [100 * (official_score({s: result}) or 0) for s, result in results.items()]
        found.append(100 * (official_score(results) or 0))
    return found


def table(title: str, store: Store, recipes: Iterable[Recipe], truth: Path) -> None:
    """Print one table, best first."""
    machines = ("BearingH", "UavCw", "both")
    heads = [f"{machine}, {scorer}" for scorer in SCORERS for machine in machines]
    print(f"\n## {title}\n\n| layer | pooling | bands | {' | '.join(heads)} |")
    print("| ---: | --- | --- " + "| ---: " * len(heads) + "|")
    rows = []
    for recipe in recipes:
        last = recipe.parents[-1] if recipe.parents else recipe
        values = figures(store, recipe, truth)
        cells = " | ".join(f"{value:.1f}" for value in values)
        rows.append((values[-1], f"| {last.layer} | {last.pooling} | {last.bands} | {cells} |"))
    print("\n".join(line for _, line in sorted(rows, reverse=True)))


def of(recipes: Sequence[Recipe], backbone: str) -> list[Recipe]:
    """Those of one backbone."""
    return [recipe for recipe in recipes if recipe.backbone == backbone]


def main() -> None:
    """Print the tables."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("cache", nargs="?", type=Path, default=Path("artifacts"))
    args = parser.parse_args()
    extract_all(args.data, args.weights, args.cache)
    store, truth = Store(args.cache), args.data / "ground_truth"
    known = store.recipes()
    plain, network = of(known, "logmel"), of(known, "efficientat")
    mean = next(recipe for recipe in plain if recipe.pooling == "mean")
    joined = [concatenation([mean, r]) for r in network if r.pooling == "mean"]
    table("Log-mel", store, plain, truth)
    table("EfficientAT", store, network, truth)
    table("Log-mel, mean, and EfficientAT joined", store, joined, truth)


if __name__ == "__main__":
    main()
