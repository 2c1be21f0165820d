"""Official scores of fine-tuned backbones beside frozen ones, as Markdown; stopped, it goes on.

usage: python -m benchmarks.finetuning DATA WEIGHTS WORK_DIR [--part PART ...]

PART is models, pseudo, scopes or ablation. DATA holds dev_data, eval_data and ground_truth; WEIGHTS
is an EfficientAT checkpoint. Every row is trained with each seed on all training clips together;
the truth is read after scoring.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.scorers import Tables, evaluate, read_tables
from cache.files.atomic import file_sha256
from cache.recipe import Recipe
from cache.store import Store
from eval.metrics.sections import official_score
from extractors.embedding.finetuned import record_of
from extractors.run import main as extract
from finetune.run import main as finetune
from finetune.synthesise import main as synthesise
from index.scorer import parse_member

SCORERS = ("min-distance:metric=cosine:standardise=false", "min-distance", "fusion")
LAYER = 8
ABLATION = ("--epochs", "5", "--crop", "2", "--watch", "0")
SMALL = ("--epochs", "15", "--watch", "0")
NETWORK = ("--layer", str(LAYER), "--epochs", "6", "--crop", "3", "--watch", "0")


@dataclass(frozen=True)
class Row:
    """A model to train, or a frozen one."""

    name: str
    backbone: str
    options: tuple[str, ...] = ()
    frozen: bool = False


@dataclass(frozen=True)
class Bench:
    """Where everything is."""

    data: Path
    weights: Path
    work: Path
    seeds: tuple[int, ...]

    @property
    def roots(self) -> list[str]:
        """Data roots."""
        return [str(self.data / name) for name in ("dev_data", "eval_data")]

    def start(self, row: Row) -> list[str]:
        """Weights that a row begins with."""
        return ["--weights", str(self.weights)] if row.backbone == "efficientat" else []


def quietly(main: object, arguments: Sequence[str]) -> None:
    """Run a command line without its summary."""
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
        code = main(list(arguments))  # type: ignore[operator]
    if code:
        raise SystemExit(f"stopped by the fault above: {' '.join(arguments)}")


def trained(bench: Bench, row: Row, seed: int) -> tuple[Path, float]:
    """Train a row, or take it as it lies there: its file, and the seconds it took."""
    name = f"{row.name}_seed_{seed}".replace(" ", "_").replace(":", "-").replace("=", "-")
    out, took = bench.work / f"{name}.safetensors", bench.work / f"{name}.seconds"
    begin = time.perf_counter()
    quietly(
        finetune,
        ["--data", *bench.roots, "--backbone", row.backbone, *bench.start(row), "--out", str(out),
         "--seeds", str(seed), "--cache-dir", str(bench.work), *row.options],
    )  # fmt: skip
    if not took.exists():
        took.write_text(f"{time.perf_counter() - begin:.1f}")
    return out, float(took.read_text())


def recipes(bench: Bench, row: Row, weights: Path | None) -> Iterator[tuple[str, Recipe, Store]]:
    """Extract what a model makes of the clips: the trained embedding, and its layer's mean."""
    store = Store(bench.work / f"tables_{os.getpid()}")
    backbone = row.backbone.partition(":")[0]
    given = ["--weights", str(weights)] if weights else bench.start(row)
    layer = [] if weights or row.backbone == "logmel" else ["--layers", str(LAYER)]
    poolings = ["mean", "native"] if weights else ["mean"]
    quietly(
        extract,
        ["--data", *bench.roots, "--backbone", backbone, *given, *layer, "--pooling", *poolings,
         "--bands", "merge", "keep", "--cache-dir", str(store.root), "--batch-size", "1"],
    )  # fmt: skip
    sha256 = file_sha256(Path(given[1])) if given else None
    for recipe in store.recipes():
        name = f"layer, bands {recipe.bands}" if recipe.pooling == "mean" else "trained"
        doubled = recipe.pooling == "native" and recipe.bands == "keep"
        if recipe.weights == sha256 and recipe.backbone == backbone and not doubled:
            yield name, recipe, store
    shutil.rmtree(store.root)


def figures(bench: Bench, tables: Tables) -> list[float]:
    """Official score, %, of every scorer."""
    truth = bench.data / "ground_truth"
    scores = []
    for scorer in SCORERS:
        results = {s: evaluate(parse_member(scorer), *pair, truth) for s, pair in tables.items()}
        scores.append(100 * (official_score(results) or 0.0))
    return scores


def measured(bench: Bench, row: Row) -> tuple[dict[str, np.ndarray], str]:
    """Figures of a row by embedding, (seeds, scorers), and what training took."""
    if row.frozen:
        found = {n: [figures(bench, read_tables(s, r))] for n, r, s in recipes(bench, row, None)}
        return {name: np.array(values) for name, values in found.items()}, ""
    every: dict[str, list[list[float]]] = {}
    seconds, parameters = [], 0
    for seed in bench.seeds:
        path, took = trained(bench, row, seed)
        seconds.append(took)
        parameters = record_of(path)["training"]["trained_parameters"]
        for name, recipe, store in recipes(bench, row, path):
            every.setdefault(name, []).append(figures(bench, read_tables(store, recipe)))
    told = f"{parameters:,} | {np.median(seconds) / 60:.1f}"
    return {name: np.array(values) for name, values in every.items()}, told


def cell(values: np.ndarray) -> str:
    """Mean and sample standard deviation."""
    deviation = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{deviation}"


def models() -> list[Row]:
    """List frozen and fine-tuned models."""
    return [
        Row("log-mel frozen", "logmel", frozen=True),
        Row("efficientat frozen", "efficientat", frozen=True),
        Row("log-mel cnn", "logmel:cnn", SMALL),
        Row("efficientat full", "efficientat", NETWORK),
    ]


def scopes() -> list[Row]:
    """List what else of EfficientAT may be trained."""
    return [
        Row(f"efficientat {text}", "efficientat", (*NETWORK, "--train", text))
        for text in ("last:blocks=2", "lora:rank=8")
    ]


def ablation() -> list[Row]:
    """List sampling x mixup x head, on the small network."""
    mixups = {"none": (), "soft": ("mixup:p=0.5",), "extra": ("mixup:p=0.5:labels=extra:alpha=1",)}
    heads = ("subcluster-adacos", "arcface", "linear", "adacos")
    return [
        Row(f"{sampling}, mixup {mixup}, {head}", "logmel:cnn",
            (*ABLATION, "--sampling", sampling, "--head", head, "--augment", *mixups[mixup]))
        for head, sampling, mixup in product(heads, ("plain", "balanced"), mixups)
    ]  # fmt: skip


def pseudo(bench: Bench) -> list[Row]:
    """Make pseudo-anomalies of the training clips, and list models that learn them as classes."""
    faults = ("bearing", "modulation", "harmonics", "rubbing", "clipping", "dropouts")
    root = str(bench.work / "pseudo")
    quietly(synthesise, ["--data", *bench.roots, "--to", root, "--as", "anomalies",
                         "--per-section", "60", "--method", *faults])  # fmt: skip
    given = ("--pseudo-anomalies", root)
    by_machine = (*given, "--pseudo-classes", "machine")
    return [
        Row("efficientat full", "efficientat", NETWORK),
        Row("efficientat, pseudo one", "efficientat", (*NETWORK, *given)),
        Row("efficientat, pseudo machine", "efficientat", (*NETWORK, *by_machine)),
    ]


def main() -> None:
    """Print a table a part."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--part", nargs="+", default=["models", "pseudo", "scopes", "ablation"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    bench = Bench(args.data, args.weights, args.work, tuple(args.seeds))
    bench.work.mkdir(parents=True, exist_ok=True)
    parts = {
        "models": models,
        "pseudo": lambda: pseudo(bench),
        "scopes": scopes,
        "ablation": ablation,
    }
    for part in args.part:
        print(f"\n## {part}\n")
        heads = " | ".join(SCORERS)
        print(f"| model | embedding | {heads} | trained parameters | minutes a seed |")
        print("| --- | --- | " + "---: | " * (len(SCORERS) + 2))
        for row in parts[part]():
            found, told = measured(bench, row)
            for name, values in found.items():
                cells = " | ".join(cell(column) for column in values.T)
                print(f"| {row.name} | {name} | {cells} | {told or ' | '} |", flush=True)


if __name__ == "__main__":
    main()
