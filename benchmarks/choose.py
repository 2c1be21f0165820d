"""Rank correlation of asd choose with the truth on labelled recordings, as Markdown.

usage: python -m benchmarks.choose DATA [CACHE_DIR [WEIGHTS]] [--machine NAME]

DATA holds dev_data, eval_data and ground_truth; WEIGHTS, an EfficientAT checkpoint, adds some of its
layers to the candidates.
"""

from __future__ import annotations

import contextlib
import os
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from benchmarks.scorers import evaluate, read_tables
from cache.store import Store
from eval.choice import choose
from eval.metrics.sections import official_score
from eval.request import ChoiceRequest
from extractors.run import main as extract
from index.scorer import parse_member

SPECTRA = ("logspec", "logspec:linear", "logspec:erb", "logmel")
LAYERS = ("8", "16")


def main() -> None:
    """Print the correlation a machine and kind of pseudo-outlier, and what was chosen."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("cache", nargs="?", default="artifacts")
    parser.add_argument("weights", nargs="?")
    parser.add_argument("--machine", default="", help="only this one (default: all)")
    args = parser.parse_args()
    roots = [str(args.data / name) for name in ("dev_data", "eval_data")]
    common = ["--data", *roots, "--cache-dir", args.cache]
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
        for name in SPECTRA:
            extract([*common, "--backbone", name])
        if args.weights:
            network = ["--backbone", "efficientat", "--weights", args.weights]
            extract([*common, *network, "--layers", *LAYERS, "--bands", "keep"])
    store = Store(Path(args.cache))
    tables = {recipe: read_tables(store, recipe) for recipe in store.recipes()}
    every = sorted(next(iter(tables.values())))
    sections = [s for s in every if args.machine in ("", s.machine_type)]
    truth: dict[tuple[str, str, str], float] = {}
    print("| machine | pseudo-outliers | candidates | rank correlation | chosen | official | best |")
    print("| --- | --- | ---: | ---: | --- | ---: | ---: |")
    for section in sections:
        request = ChoiceRequest(cache_dir=Path(args.cache), machine=(section.machine_type,))
        choice = choose(request)
        usable = [one for one in choice.candidates if not one.veto]
        official = []
        for one in usable:
            key = (str(section), one.recipe.fingerprint, one.scorer)
            if key not in truth:
                pair = tables[one.recipe][section]
                result = evaluate(parse_member(one.scorer), *pair, args.data / "ground_truth")
                truth[key] = 100 * (official_score({section: result}) or 0.0)
            official.append(truth[key])
        for kind in (*choice.kinds, "diverse"):
            guess = [one.area if kind == "diverse" else one.known[kind].mean() for one in usable]
            first = int(np.argmax(guess))
            print(
                f"| {section} | {kind} | {len(usable)} | {spearmanr(guess, official)[0]:.2f} | "
                f"{usable[first].scorer}, {usable[first].recipe} | {official[first]:.1f} | "
                f"{max(official):.1f} |"
            )
        level = [i for i, one in enumerate(usable) if not one.behind]
        print(
            f"| {section} | not shown to be behind | {len(level)} | | | "
            f"{np.mean([official[i] for i in level]):.1f} (mean) | {max(official):.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
