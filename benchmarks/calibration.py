"""How often unseen normal clips are flagged, by how training clips were grouped, as Markdown.

usage: python -m benchmarks.calibration DATA [CACHE_DIR [WEIGHTS]]
       python -m benchmarks.calibration --simulation

DATA holds dev_data, eval_data, ground_truth and groups_<machine>.csv, whose further columns tell which
training clips were recorded together. With WEIGHTS, an EfficientAT checkpoint, its layer 8 as well. The
simulation draws groups of known effect.
"""

from __future__ import annotations

import contextlib
import csv
import os
import tempfile
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.scorers import read_tables
from cache.recipe import Recipe
from cache.store import Store
from cache.table import ClipKey, EmbeddingTable, Section
from eval.metrics.sections import SectionTruth
from eval.results.clips import labels_of
from eval.results.submission import Submission
from eval.results.truth import find_truth
from extractors.run import main as extract
from index.bank import Bank
from index.build import build
from index.request import BuildRequest
from index.threshold import fit_threshold

SCORERS = ("fusion", "pooled", "min-distance")
GROUPINGS = ("none", "attribute:recording", "attribute:noise", "auto")
SHARES = (10, 1)
EFFECTS = (0.0, 0.5, 1.0, 2.0)  # deviation of a group's mean, in deviations inside a group
DRAWS, GROUPS, EACH, WIDTH, UNSEEN = 20, 30, 4, 64, 200


def recorded(table: EmbeddingTable, data: Path) -> EmbeddingTable:
    """Training clips with the columns of ``groups_<machine>.csv`` among their attributes."""
    with (data / f"groups_{table.section.machine_type}.csv").open(encoding="utf-8") as file:
        known = {row.pop("file_name"): row for row in csv.DictReader(file)}
    keys = [replace(k, attributes={**(k.attributes or {}), **known[k.clip_id]}) for k in table.keys]
    return replace(table, keys=tuple(keys))


def truth_of(table: EmbeddingTable, data: Path) -> SectionTruth:
    """Which test clips are anomalies, and which of the target domain."""
    files = tuple(Path(clip_id).name for clip_id in table.clip_ids)
    zeros = np.zeros(len(files))
    submission = Submission(table.section, files, zeros, zeros.astype(np.int64))
    known = find_truth(submission, data / "ground_truth", labels_of(table))
    if known is None or known.target is None:
        raise SystemExit(f"no truth for {table.section} in {data}")
    return known


def cells(decided: NDArray[np.int64], truth: SectionTruth) -> str:
    """Write false alarms and hits, source / target, %."""
    texts = []
    for anomaly in (False, True):
        rates = [
            decided[(truth.anomaly == anomaly) & (truth.target == target)].mean() for target in (False, True)
        ]
        texts.append(" / ".join(f"{100 * rate:.0f}" for rate in rates))
    return " | ".join(texts)


def measure(store: Store, recipe: Recipe, data: Path, work: Path) -> None:
    """Print one row a machine, scorer and grouping."""
    for section, (train, test) in read_tables(store, recipe).items():
        cache = work / recipe.fingerprint  # one recipe a cache: nothing to choose from
        Store(cache).write(recorded(train, data), recipe)
        truth = truth_of(test, data)
        for scorer in SCORERS:
            for grouping in GROUPINGS:
                build(BuildRequest(
                    scorer=scorer, group=grouping, bank=work / "bank", cache_dir=cache,
                    sections=[section], rebuild=True,
                ))  # fmt: skip
                fitted = Bank(work / "bank").read(section, recipe)
                scores, known = fitted.scorer.score(test.embeddings), fitted.train_scores()
                row = [
                    cells(
                        fit_threshold(known, "gamma", 100.0 - share, fitted.groups()).decide(scores),
                        truth,
                    )
                    for share in SHARES
                ]
                usual = float(np.median(fitted.p_values(scores)[~truth.anomaly]))
                print(
                    f"| {recipe.backbone}, {scorer} | {section.machine_type} | {grouping} | "
                    f"{fitted.calibration.count} | {' | '.join(row)} | {usual:.2f} |",
                    flush=True,
                )


def drawn(effect: float, rng: np.random.Generator) -> tuple[EmbeddingTable, NDArray[np.float32]]:
    """Training clips in groups and unseen clips, each of a group of its own."""
    group = np.repeat(np.arange(GROUPS), EACH)
    train = effect * rng.normal(size=(GROUPS, WIDTH))[group] + rng.normal(size=(len(group), WIDTH))
    unseen = effect * rng.normal(size=(UNSEEN, WIDTH)) + rng.normal(size=(UNSEEN, WIDTH))
    keys = tuple(
        ClipKey(f"{i:04d}.wav", f"{i:064x}", "source", "normal", {"day": str(day)})
        for i, day in enumerate(group.tolist())
    )
    values = train.astype(np.float32)
    blocks = {"drawn": (0, WIDTH)}
    return EmbeddingTable(Section("drawn", 0), "train", keys, values, blocks), unseen.astype(np.float32)


def simulate(work: Path) -> None:
    """Print the share of unseen normal clips flagged at 10 %, by effect and grouping."""
    recipe = Recipe("drawn")
    print("| effect | threshold | none | the right groups | auto |\n| ---: | --- | ---: | ---: | ---: |")
    for effect in EFFECTS:
        for method in ("gamma", "conformal"):
            row = []
            for grouping in ("none", "attribute:day", "auto"):
                shares = []
                for seed in range(DRAWS):
                    table, unseen = drawn(effect, np.random.default_rng(seed))
                    Store(work / "cache").write(table, recipe)
                    build(BuildRequest(
                        scorer="min-distance", threshold=method, group=grouping, rebuild=True,
                        bank=work / "bank", cache_dir=work / "cache",
                    ))  # fmt: skip
                    fitted = Bank(work / "bank").read(table.section, recipe)
                    shares.append(fitted.threshold.decide(fitted.scorer.score(unseen)).mean())
                error = 1.96 * float(np.std(shares, ddof=1)) / DRAWS**0.5
                row.append(f"{100 * np.mean(shares):.1f} ± {100 * error:.1f}")
            print(f"| {effect:g} | {method} | {' | '.join(row)} |", flush=True)


def extracted(data: Path, cache: str, weights: str | None) -> Sequence[Recipe]:
    """Extract what is missing and list the tables."""
    roots = [str(data / name) for name in ("dev_data", "eval_data")]
    common = ["--data", *roots, "--cache-dir", cache]
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
        for backbone in ("logspec", "logmel"):
            extract([*common, "--backbone", backbone])
        if weights:
            network = ["--backbone", "efficientat", "--weights", f"efficientat={weights}"]
            extract([*common, *network, "--layers", "efficientat=8", "--bands", "efficientat=keep"])
    return sorted(Store(Path(cache)).recipes(), key=lambda r: r.backbone != "logspec")  # the default


def main() -> None:
    """Print a table of recordings, or of the simulation."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("cache", nargs="?", default="artifacts")
    parser.add_argument("weights", nargs="?")
    parser.add_argument("--simulation", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.simulation:
            simulate(Path(folder))
            return
        if args.data is None:
            parser.error("name DATA, or --simulation")
        print(
            "| system | machine | --group | groups | flagged at 10 %, source / target | hits | "
            "flagged at 1 % | hits | median p of normals |\n| --- | --- | --- | ---: | ---: | ---: "
            "| ---: | ---: | ---: |"
        )
        for recipe in extracted(args.data, args.cache, args.weights):
            measure(Store(Path(args.cache)), recipe, args.data, Path(folder))


if __name__ == "__main__":
    main()
