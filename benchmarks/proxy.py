"""Does a score on made-up faults say which system is better on real ones? Rank correlations.

usage: python -m benchmarks.proxy DATA WORK_DIR WEIGHTS

DATA holds dev_data, eval_data and ground_truth; WEIGHTS is an EfficientAT checkpoint. Proxy roots
are made of training clips alone, scored by every scorer on three tables, and only then is the truth
read.
"""

from __future__ import annotations

import contextlib
import os
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from tqdm import tqdm

from benchmarks.scorers import VARIANTS, Tables, read_tables
from cache.recipe import Recipe, concatenation
from cache.store import Store
from cache.table import SYNTHETIC, ClipKey, EmbeddingTable, Section
from eval.metrics.sections import evaluate_section, official_score
from eval.results.clips import labels_of
from eval.results.submission import Submission
from eval.results.truth import find_truth
from extractors.run import main as extract
from finetune.synthesise import main as synthesise
from index.scorer import names, parse_member

SEEDS = (0, 1, 2)
FAULTS = ("bearing", "modulation", "harmonics", "rubbing", "clipping", "dropouts")
OTHERS = ("mixup", "speed", "pitch", "noise", "equalisation")
LAYER = 8
RESAMPLES = 10_000
LEVEL = 95  # %

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class System:
    """What is chosen between: a table and a scorer."""

    table: str
    scorer: str


def tables(roots: Sequence[Path], cache: Path, weights: str) -> dict[str, Tables]:
    """Extract three tables of data roots and read them: log-mel, EfficientAT, both joined."""
    common = ["--data", *map(str, roots), "--cache-dir", str(cache)]
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
        extract(common)
        network = ["--backbone", "efficientat", "--weights", weights, "--layers", str(LAYER)]
        extract([*common, *network])
    store = Store(cache)
    mel = next(r for r in store.recipes() if r.backbone == "logmel" and r.pooling == "mean")
    net = next(r for r in store.recipes() if r.backbone == "efficientat" and r.layer == LAYER)
    recipes: dict[str, Recipe] = {
        "logmel": mel, f"efficientat {LAYER}": net, "joined": concatenation([mel, net])
    }  # fmt: skip
    return {name: read_tables(store, recipe) for name, recipe in recipes.items()}


def proxy_root(roots: Sequence[Path], to: Path, seed: int) -> Path:
    """Make a proxy of the training clips of data roots."""
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
        code = synthesise(
            ["--data", *map(str, roots), "--to", str(to), "--as", "proxy", "--seed", str(seed),
             "--per-section", "165", "--method", *FAULTS, *OTHERS]
        )  # fmt: skip
    if code:
        raise SystemExit("the proxy is not whole; see above")
    return to


def scored(found: Tables, scorer: str) -> dict[Section, tuple[EmbeddingTable, Scores]]:
    """Fit a scorer to each section's training clips and score its test clips."""
    results = {}
    for section, (train, test) in found.items():
        fitted = parse_member(scorer)
        fitted.fit(train)
        results[section] = test, fitted.score(test.embeddings)
    return results


def official(
    results: Mapping[Section, tuple[EmbeddingTable, Scores]],
    truth: Path | None,
    methods: Sequence[str] = (),
) -> Scores:
    """Official score, %, of each section, then over all; of anomalies made by some methods only."""
    figures = {}
    for section, (test, scores) in results.items():
        rows = [row for row, key in enumerate(test.keys) if is_meant(key, methods)]
        kept = test.select(rows)
        files = tuple(Path(clip_id).name for clip_id in kept.clip_ids)
        submission = Submission(section, files, scores[rows], np.zeros(len(rows), dtype=int))
        known = find_truth(submission, truth, labels_of(kept))
        if known is None:
            raise SystemExit(f"no truth for {section}")
        figures[section] = evaluate_section(submission.scores, None, known)
    parts = [official_score({s: found}) for s, found in figures.items()]
    return 100 * np.array([value or 0.0 for value in [*parts, official_score(figures)]])


def is_meant(key: ClipKey, methods: Sequence[str]) -> bool:
    """Whether a clip is normal, or made by one of the methods, or no method is named."""
    made_by = (key.attributes or {}).get(SYNTHETIC)
    return not methods or key.condition == "normal" or made_by in methods


def correlation(proxy: Scores, true: Scores) -> tuple[float, float, float, float]:
    """Spearman's rho of (S,) scores, its bootstrap interval over systems, its permutation p."""
    rng = np.random.default_rng(0)
    rho = float(spearmanr(proxy, true).statistic)
    rows = rng.integers(len(proxy), size=(RESAMPLES, len(proxy)))
    drawn = [_rho(proxy[r], true[r]) for r in rows]
    low, high = np.nanpercentile(drawn, [50 - LEVEL / 2, 50 + LEVEL / 2])
    shuffled = [_rho(rng.permutation(proxy), true) for _ in range(RESAMPLES)]
    extreme = np.count_nonzero(np.abs(shuffled) >= abs(rho) - 1e-12)
    return rho, float(low), float(high), (1 + extreme) / (1 + RESAMPLES)


def small(p: float) -> str:
    """Write a p-value; 10,000 draws show none below 0.0001."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _rho(first: Scores, second: Scores) -> float:
    """Spearman's rho, NaN where one side is constant."""
    ranks = [np.argsort(np.argsort(v)) if len(set(v)) == len(v) else _ranked(v)
             for v in (first, second)]  # fmt: skip
    if any(np.ptp(rank) == 0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranked(values: Scores) -> Scores:
    """Mean ranks of (S,) values with ties."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def correlation_rows(
    proxy: Mapping[System, Scores], true: Mapping[System, Scores], places: Sequence[str]
) -> list[str]:
    """Rows of the correlations: for all systems and for each table's, by machine and over all."""
    lines = []
    kinds = ["all", *dict.fromkeys(system.table for system in proxy)]
    for kind in kinds:
        systems = [s for s in proxy if kind in ("all", s.table)]
        for place, name in enumerate(places):
            pair = [np.array([values[s][place] for s in systems]) for values in (proxy, true)]
            rho, low, high, p = correlation(*pair)
            chosen = systems[int(pair[0].argmax())]
            got, best = true[chosen][place], pair[1].max()
            lines.append(
                f"| {kind} | {len(systems)} | {name} | {rho:+.2f} | {low:+.2f} to {high:+.2f} | "
                f"{small(p)} | {got:.1f} | {np.median(pair[1]):.1f} | {best:.1f} |"
            )
    return lines


def main() -> None:
    """Print the tables as Markdown."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("weights")
    args = parser.parse_args()
    roots = [args.data / name for name in ("dev_data", "eval_data")]
    scorers = (*names(), *VARIANTS)
    made: list[dict[str, Tables]] = []
    for seed in SEEDS:
        root = proxy_root(roots, args.work / f"proxy-{seed}", seed)
        made.append(tables([root], args.work / f"proxy-{seed}-artifacts", args.weights))
    kinds = {"all faults": FAULTS, **{name: (name,) for name in (*FAULTS, *OTHERS)}}
    systems = [System(table, scorer) for table in made[0] for scorer in scorers]
    by_kind: dict[str, dict[System, Scores]] = {kind: {} for kind in kinds}
    for system in tqdm(systems, unit="system", disable=None):
        found = [scored(each[system.table], system.scorer) for each in made]
        for kind, methods in kinds.items():
            runs = [official(results, None, methods) for results in found]
            by_kind[kind][system] = np.mean(runs, axis=0)
    # The truth is read from here on.
    real = tables(roots, args.work / "artifacts", args.weights)
    truth = args.data / "ground_truth"
    true = {s: official(scored(real[s.table], s.scorer), truth) for s in systems}
    sections: list[Section] = list(real["logmel"])
    places = [*(s.machine_type for s in sections), "both"]
    head = "| systems | n | machine | rho | bootstrap 95 % | p | chosen | median | best |"
    print(f"{head}\n| --- | ---: | --- | ---: | --- | ---: | ---: | ---: | ---: |")
    print("\n".join(correlation_rows(by_kind["all faults"], true, places)))
    print(f"\n| made by | {' | '.join(places)} | proxy score, median |")
    print("| --- |" + " ---: |" * (len(places) + 1))
    for kind, proxy in by_kind.items():
        rhos = [
            _rho(np.array([proxy[s][i] for s in true]), np.array([true[s][i] for s in true]))
            for i in range(len(places))
        ]
        middle = np.median([values[-1] for values in proxy.values()])
        print(f"| {kind} | {' | '.join(f'{rho:+.2f}' for rho in rhos)} | {middle:.1f} |")
    print(f"\n| table | scorer | proxy | {' | '.join(places)} |")
    print("| --- | --- | ---: |" + " ---: |" * len(places))
    ordered = sorted(true, key=lambda s: -by_kind["all faults"][s][-1])
    for system in ordered:
        cells = " | ".join(f"{value:.1f}" for value in true[system])
        name = f"{system.table} | {system.scorer}"
        print(f"| {name} | {by_kind['all faults'][system][-1]:.1f} | {cells} |")


if __name__ == "__main__":
    main()
