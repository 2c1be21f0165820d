"""Time and memory of every scorer, and how they grow with the training set.

usage: python -m benchmarks.scorer_cost [PLOT.png | small]

Each case runs in a process of its own, `python -m benchmarks.scorer_cost case TEXT ROWS WIDTH`; `small`
leaves out those of 10,000 clips and more. Seconds are of processor time, which neighbours change little: with
OMP_NUM_THREADS=1, what a quiet machine takes. Memory is the peak of that process less what it held before the
scorer was made.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.timing import machine
from cache.table import ClipKey, EmbeddingTable, Section
from index.scorer import names, parse_member

WIDTHS = (768, 3584, 6144)
LARGE = (
    *(("min-distance:search=exact", rows) for rows in (10_000, 100_000)),
    ("ldn:search=exact", 10_000),
    *(("mahalanobis:search=exact", rows) for rows in (10_000, 100_000)),
    *(("min-distance:search=inverted:recall=0.9", rows) for rows in (100_000, 1_000_000)),
    ("min-distance:search=exact", 1_000_000),
)
QUERIES, TARGET, BANDS = 200, 10, 8


def resident() -> float:
    """Memory this process holds now, MiB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def section(rows: int, width: int) -> EmbeddingTable:
    """Training clips in 100 clusters, 10 of them target, in eight bands."""
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 2, (100, width)).astype(np.float32)
    values = rng.standard_normal((rows, width), dtype=np.float32)
    for start in range(0, rows, 100):
        values[start : start + 100] += centres[: min(100, rows - start)]
    domains = ["target" if i < TARGET else "source" for i in range(rows)]
    keys = tuple(ClipKey(f"{i:08d}", "", domain) for i, domain in enumerate(domains))
    step = width // BANDS
    blocks = {f"x/band{i}": (i * step, (i + 1) * step) for i in range(BANDS)}
    return EmbeddingTable(Section("synthetic", 0), "train", keys, values, blocks)


def run_case(text: str, rows: int, width: int) -> dict[str, float]:
    """Fit once, score three times; processor seconds and MiB."""
    table = section(rows, width)
    queries = np.random.default_rng(1).normal(0, 2, (QUERIES, width)).astype(np.float32)
    before, peak, done = resident(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    scorer = parse_member(text)
    fit = busy(lambda: scorer.fit(table)) + busy(scorer.train_scores)
    fit_peak, peak[0] = peak[0] - before, 0.0
    score = sorted(busy(lambda: scorer.score(queries)) for _ in range(3))[1]
    time.sleep(0.02)
    done.set()
    watcher.join()
    return {"fit": fit, "score": score, "memory": max(0.0, fit_peak)}


def busy(action: Callable[[], object]) -> float:
    """Processor time of a call, s."""
    begin = time.process_time()
    action()
    return time.process_time() - begin


def measured(text: str, rows: int, width: int) -> dict[str, float]:
    """Run a case in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.scorer_cost", "case", text, str(rows), str(width)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def plot(path: Path, growth: dict[str, list[tuple[int, dict[str, float]]]]) -> None:
    """Draw fit and score time against the number of training clips."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharex=True, layout="constrained")
    for axis, what in zip(axes, ("fit", "score"), strict=True):
        for text, points in growth.items():
            counts = [rows for rows, _ in points]
            name = text.replace(":search=inverted:recall=0.9", ", inverted file")
            axis.loglog(counts, [r[what] for _, r in points], marker="o", label=name)
        axis.set(xlabel="training clips x 768", ylabel="seconds", title=f"{what}, 200 test clips")
        axis.grid(visible=True, which="major", alpha=0.3)
    axes[0].set_title("fit, leave-one-out included")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=90)


def main() -> None:
    """Print the table and, where a path is given, draw the growth."""
    if sys.argv[1:2] == ["case"]:
        print(json.dumps(run_case(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
        return
    print(f"{machine()}\n\n| scorer | training clips | values | fit, s | score 200, s | MiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    growth: dict[str, list[tuple[int, dict[str, float]]]] = {}
    small = [(text, 1000, width) for text in names() for width in WIDTHS]
    large = [] if sys.argv[1:] == ["small"] else [(text, rows, 768) for text, rows in LARGE]
    for text, rows, width in [*small, *large]:
        result = measured(text, rows, width)
        figures = f"{result['fit']:.2f} | {result['score']:.3f} | {result['memory']:.0f}"
        print(f"| {text} | {rows:,} | {width} | {figures} |", flush=True)
        if width == 768:
            growth.setdefault(text.replace(":search=exact", ""), []).append((rows, result))
    if large and len(sys.argv) > 1:
        plot(Path(sys.argv[1]), {t: points for t, points in growth.items() if len(points) > 1})


if __name__ == "__main__":
    main()
