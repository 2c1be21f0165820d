"""Our default beside other packages' detectors, on the same clips with the same metric, as Markdown.

usage: python -m benchmarks.peers DATA [CACHE_DIR]

DATA holds dev_data, eval_data and ground_truth. PyOD's detectors, ASDKit's back-ends and our default
get the same vectors, those of the default backbone; PyOD's are standardised by the training clips.
audio-anomaly takes its reference from the first 20 source and 10 target training clips; a clip's
score is that of its largest event, 0 where it finds none, or the largest of its frames.
Needs: pip install --no-deps audio-anomaly pyod
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import audio_anomaly
import numpy as np
import soundfile
from numpy.typing import NDArray
from pyod.models.ecod import ECOD
from pyod.models.iforest import IForest
from pyod.models.lof import LOF
from pyod.models.ocsvm import OCSVM
from sklearn.preprocessing import StandardScaler

from benchmarks.scorers import Tables, read_tables
from cache.store import Store
from cache.table import EmbeddingTable, Section
from eval.metrics.intervals import ResamplingPlan, Scores
from eval.metrics.rules import DEFAULT as RULE
from eval.metrics.sections import SectionTruth, evaluate_section, official_score
from eval.metrics.uncertainty import bootstrap
from eval.results.clips import labels_of
from eval.results.submission import Submission
from eval.results.truth import find_truth
from extractors.run import main as extract
from index.scorer import DEFAULT, parse_member

Floats = NDArray[np.float64]
ROOTS = ("dev_data", "eval_data")
SOURCE, TARGET = 20, 10  # clips of the reference
PYOD = {
    "ECOD": ECOD,
    "LOF": lambda: LOF(novelty=True),
    "OCSVM": OCSVM,
    "IForest": lambda: IForest(random_state=0),
}
ASDKIT = {
    "kNN with SMOTE .2 / 2": "knn-smote",
    "k-means 16": "kmeans",
    "rescaling K = 4": "ldn:metric=chord:density_k=4:standardise=false",
}


def scored(text: str) -> Callable[[EmbeddingTable, EmbeddingTable], Floats]:
    """Make a function that scores test clips by one of our scorers."""

    def score(train: EmbeddingTable, test: EmbeddingTable) -> Floats:
        scorer = parse_member(text)
        scorer.fit(train)
        return scorer.score(test.embeddings)

    return score


def pyod(build: Callable[[], Any]) -> Callable[[EmbeddingTable, EmbeddingTable], Floats]:
    """Make a function that scores test clips by a detector of PyOD."""

    def score(train: EmbeddingTable, test: EmbeddingTable) -> Floats:
        scale = StandardScaler().fit(train.embeddings.astype(np.float64))
        detector = build().fit(scale.transform(train.embeddings.astype(np.float64)))
        return np.asarray(detector.decision_function(scale.transform(test.embeddings)))

    return score


def peer_scores(data: Path, tables: Tables) -> dict[str, dict[Section, Floats]]:
    """Scores of audio-anomaly, by its largest event and by its largest frame."""
    found: dict[str, dict[Section, Floats]] = {"largest event": {}, "largest frame": {}}
    for section, (train, test) in tables.items():
        (root,) = [data / name for name in ROOTS if (data / name / section.machine_type).is_dir()]
        rows = [*train.domain_rows("source")[:SOURCE], *train.domain_rows("target")[:TARGET]]
        clips = [soundfile.read(root / train.clip_ids[row]) for row in rows]
        reference = np.concatenate([samples for samples, _ in clips])
        monitor = audio_anomaly.Monitor(reference, sample_rate=clips[0][1])
        reports = []
        for clip_id in test.clip_ids:
            samples, rate = soundfile.read(root / clip_id)
            reports.append(monitor.check(samples, sample_rate=rate))
        events = [max((e.score for e in r.anomalies), default=0.0) for r in reports]
        found["largest event"][section] = np.array(events)
        found["largest frame"][section] = np.array([r.max_score for r in reports])
    return found


def truths(data: Path, tables: Tables) -> dict[Section, SectionTruth]:
    """Truth of the test clips, in the order of the tables."""
    found = {}
    for section, (_, test) in tables.items():
        files = tuple(Path(clip_id).name for clip_id in test.clip_ids)
        blank = Submission(section, files, np.zeros(len(files)), np.zeros(len(files), int))
        known = find_truth(blank, data / "ground_truth", labels_of(test))
        if known is None:
            raise SystemExit(f"no truth for {section} in {data / 'ground_truth'}")
        found[section] = known
    return found


def main() -> None:
    """Print a line a detector."""
    data, cache = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "artifacts"
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
        extract(["--data", *(str(data / name) for name in ROOTS), "--cache-dir", cache])
    store = Store(Path(cache))
    usual = next(r for r in store.recipes() if r.named == "logspec" and r.pooling == "native")
    tables = read_tables(store, usual)
    known = truths(data, tables)
    systems: dict[str, Mapping[Section, Floats]] = {}
    rows = {f"**ours: {DEFAULT}**": scored(DEFAULT)}
    rows |= {f"ASDKit's {name}": scored(text) for name, text in ASDKIT.items()}
    rows |= {f"PyOD {name}": pyod(build) for name, build in PYOD.items()}
    for name, score in rows.items():
        systems[name] = {section: score(*pair) for section, pair in tables.items()}
    systems |= {f"audio-anomaly, {name}": s for name, s in peer_scores(data, tables).items()}
    print(f"PyOD {version('pyod')}, audio-anomaly {version('audio-anomaly')}; vectors: {usual}\n")
    heads = " | ".join(f"{section} AUC source / target / pAUC" for section in tables)
    print(f"| detector | {heads} | official, both | 95 % | less than ours by, 95 % |")
    print("| --- " + "| --- " * len(tables) + "| ---: | --- | --- |")
    ours = None
    for name, scores in systems.items():
        sections = {s: Scores(values, known[s]) for s, values in scores.items()}
        draws = bootstrap(sections, RULE, ResamplingPlan())
        ours = draws if ours is None else ours
        results = {
            s: evaluate_section(one.scores, (one.scores > 0).astype(int), one.truth)
            for s, one in sections.items()
        }
        cells = [
            f"{100 * (r.auc_source or 0):.1f} / {100 * (r.auc_target or 0):.1f} / {100 * (r.pauc or 0):.1f}"
            for r in results.values()
        ]
        low, high = 100 * np.percentile(draws, [2.5, 97.5])
        least, most = 100 * np.percentile(ours - draws, [2.5, 97.5])
        less = "" if draws is ours else f"{least:.1f} to {most:.1f}"
        official = 100 * (official_score(results) or 0)
        print(f"| {name} | {' | '.join(cells)} | {official:.2f} | {low:.1f} to {high:.1f} | {less} |")


if __name__ == "__main__":
    main()
