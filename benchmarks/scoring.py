"""Score seven synthetic sections, 990 + 10 training and 200 test clips of 3584 values, from cache.

usage: python -m benchmarks.scoring [ROUNDS [SCORER ...]]
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.timing import HEAD, Row, machine, seconds
from cache.recipe import Recipe
from cache.store import Store
from cache.table import ClipKey, EmbeddingTable, Section
from eval.run import main as evaluate
from index.run import main as build

MACHINES, WIDTH = 7, 3584


def table(section: Section, split: str, source: int, target: int) -> EmbeddingTable:
    """Make a table of Gaussian embeddings; half of the test clips are anomalies."""
    rng = np.random.default_rng([section.number, source])
    count = source + target
    domains = ["source"] * source + ["target"] * target
    keys = tuple(
        ClipKey(
            f"{section.machine_type}/{split}/{i:04d}.wav",
            "",
            domain,
            "anomaly" if split == "test" and i % 2 else "normal",
        )
        for i, domain in enumerate(domains)
    )
    values = rng.normal(size=(count, WIDTH)).astype(np.float32)
    return EmbeddingTable(section, split, keys, values, {"synthetic": (0, WIDTH)})


def main() -> None:
    """Print seconds of the index build and of the scoring."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print(machine(), HEAD, sep="\n")
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for i in range(MACHINES):
            section = Section(f"machine{i}", 0)
            store.write(table(section, "train", 990, 10), Recipe("synthetic"))
            store.write(table(section, "test", 100, 100), Recipe("synthetic"))
        for scorer in sys.argv[2:] or ("min-distance", "pooled", "fusion"):
            chain = ["--backbone", "synthetic", "--cache-dir", folder, "--scorer", scorer]
            score = [*chain, "--out", str(Path(folder) / "results"), "--no-report"]
            measure(chain, score, rounds)


def measure(chain: list[str], score: list[str], rounds: int) -> None:
    """Print the rows of one scorer."""
    with contextlib.redirect_stdout(io.StringIO()):
        begin = time.process_time()
        build(chain)
        built, begin = time.process_time() - begin, time.process_time()
        scored = [seconds(lambda: evaluate(score)) for _ in range(rounds)]
        busy = (time.process_time() - begin) / rounds
    command = [sys.executable, "-m", "eval.run", *score]
    process = [
        seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)) for _ in range(rounds)
    ]
    told = f"fit and save 7 sections {built:.1f} s, scoring them takes {busy:.2f} s of processor time"
    print(f"{chain[-1]}: {told}", flush=True)
    for how, taken in (("a call", scored), ("a process", process)):
        what = f"{MACHINES} x 200 clips against 1,000 x {WIDTH:,}, {chain[-1]}, {how}"
        print(
            Row(what, taken, "2 s", [2.0] * rounds, MACHINES * 200, 1.0 if how == "a call" else None),
            flush=True,
        )


if __name__ == "__main__":
    main()
