"""Official scores of every scorer and pooling on recordings with known truth, as Markdown.

usage: python -m benchmarks.scorers DATA [CACHE_DIR [WEIGHTS]] [--only TEXT]

DATA holds dev_data, eval_data and ground_truth. With WEIGHTS, an EfficientAT checkpoint, the tables
are of some of its layers, of their concatenation with log-mel, and with bands kept with log spectra.
"""

from __future__ import annotations

import contextlib
import os
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Mapping
from pathlib import Path

from cache.recipe import Recipe, concatenation
from cache.store import Store
from cache.table import EmbeddingTable, Section
from eval.metrics.sections import SectionResult, evaluate_section, official_score
from eval.results.clips import labels_of
from eval.results.submission import Submission
from eval.results.truth import find_truth
from extractors.run import main as extract
from index.scorer import Scorer, names, parse_member

POOLINGS = ("mean", "max", "mean+std", "gwrp:0.97", "gwrp:0.7")
LAYERS = (4, 8, 12, 16)
SPACINGS = ("linear", "erb", "mel", "log", "bands=32", "bands=128")
VARIANTS = (
    "fusion:merging=min",
    "kmeans:metric=euclidean:standardise=true",
    "knn-smote:metric=euclidean:standardise=true",
    "ldn:density_k=16",
    "mahalanobis:standardise=false",
    "min-distance:metric=cosine:standardise=false",
    "min-distance:standardise=false",
    "varmin:density_k=4",
)

Tables = Mapping[Section, tuple[EmbeddingTable, EmbeddingTable]]


def read_tables(store: Store, recipe: Recipe) -> Tables:
    """Training and test table of every section."""
    sections = {stored.section for stored in store.tables(recipe)}
    return {
        section: (store.read(recipe, section, "train"), store.read(recipe, section, "test"))
        for section in sorted(sections)
    }


def evaluate(scorer: Scorer, train: EmbeddingTable, test: EmbeddingTable, truth: Path) -> SectionResult:
    """Fit, score and evaluate one section."""
    scorer.fit(train)
    scores = scorer.score(test.embeddings)
    files = tuple(Path(clip_id).name for clip_id in test.clip_ids)
    submission = Submission(test.section, files, scores, (scores > 0).astype(int))
    known = find_truth(submission, truth, labels_of(test))
    if known is None:
        raise SystemExit(f"no truth for {test.section} in {truth}")
    return evaluate_section(submission.scores, submission.decisions, known)


def row(text: str, results: dict[Section, SectionResult]) -> str:
    """One line of the table: figures a machine, then the official score over machines."""
    cells = [
        f"{100 * (r.auc_source or 0):.1f} / {100 * (r.auc_target or 0):.1f} / "
        f"{100 * (r.pauc or 0):.1f} | {100 * (official_score({s: r}) or 0):.2f}"
        for s, r in results.items()
    ]
    mark = " (transductive)" if parse_member(text).transductive else ""
    return f"| {text}{mark} | {' | '.join(cells)} | {100 * (official_score(results) or 0):.2f} |"


def recipes(data: Path, cache: str, weights: str | None, only: str) -> list[Recipe]:
    """Extract what is missing and list the tables to compare."""
    roots = [str(data / name) for name in ("dev_data", "eval_data")]
    common = ["--data", *roots, "--cache-dir", cache]
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
        extract([*common, "--backbone", "logspec"])
        extract([*common, "--backbone", *(f"logspec:{name}" for name in SPACINGS)])
        extract([*common, "--backbone", "logmel", "--pooling", *POOLINGS])
        if weights:
            network = ["--backbone", "efficientat", "--weights", weights]
            extract([*common, *network, "--layers", *map(str, LAYERS), "--bands", "merge", "keep"])
    known = Store(Path(cache)).recipes()
    usual = next(r for r in known if r.named == "logspec" and r.pooling == "native")
    spectra = [r for r in known if r.backbone == "logspec" and r.pooling == "native"]
    plain = [r for r in known if r.backbone == "logmel" and r.pooling in POOLINGS]
    layers = [r for r in known if r.backbone == "efficientat" and r.layer in LAYERS]
    mean = next(r for r in plain if r.pooling == "mean")
    joined = [concatenation([usual if layer.bands == "keep" else mean, layer]) for layer in layers]
    found = [*layers, *joined] if weights else [*spectra, *plain]
    return [recipe for recipe in found if only in str(recipe)]


def main() -> None:
    """Print one table a recipe, best scorer first."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("cache", nargs="?", default="artifacts")
    parser.add_argument("weights", nargs="?")
    parser.add_argument("--only", default="", help="tables whose recipe holds this text")
    args = parser.parse_args()
    store = Store(Path(args.cache))
    for recipe in recipes(args.data, args.cache, args.weights, args.only):
        tables = read_tables(store, recipe)
        heads = [f"{s} AUC source / target / pAUC | official" for s in tables]
        print(f"\n### {recipe}\n")
        print(f"| scorer | {' | '.join(heads)} | official, both |")
        print("| --- " + "| --- | ---: " * len(tables) + "| ---: |")
        rows = []
        for text in (*names(), *VARIANTS):
            truth = args.data / "ground_truth"
            found = {s: evaluate(parse_member(text), *pair, truth) for s, pair in tables.items()}
            rows.append((official_score(found) or 0.0, row(text, found)))
        print("\n".join(line for _, line in sorted(rows, reverse=True)))


if __name__ == "__main__":
    main()
