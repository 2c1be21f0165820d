"""Peak memory of scoring by the number of a section's test clips, each in a process of its own.

usage: python -m benchmarks.scoring_memory [CLIPS ...]

Vectors of 512 random values, 1,000 training clips, `min-distance`. Prints Markdown.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.timing import machine
from cache.recipe import Recipe
from cache.store import Store
from cache.table import ClipKey, EmbeddingTable, Section
from eval.results.folder import ResultsFolder
from eval.score import ScoreRequest, score
from index.bank import Bank
from index.build import build
from index.request import BuildRequest

WIDTH, TRAINING = 512, 1000
RECIPE = Recipe(backbone="beats", layer=0, pooling="mean", bands="merge", sample_rate=16_000)


def prepare(root: Path, clips: int) -> None:
    """Write tables of one section and its bank."""
    rng = np.random.default_rng(0)
    for split, count in (("train", TRAINING), ("test", clips)):
        names = [f"fan/{split}/section_00_{i:06d}.wav" for i in range(count)]
        keys = tuple(ClipKey(name, f"{i:064x}", "source") for i, name in enumerate(names))
        values = rng.normal(size=(count, WIDTH)).astype(np.float32)
        Store(root).write(
            EmbeddingTable(Section("fan", 0), split, keys, values, {"beats": (0, WIDTH)}), RECIPE
        )
    build(BuildRequest(cache_dir=root, bank=root / "bank", scorer="min-distance"))


def peak(root: Path, layout: str | None) -> float:
    """Score, and give the most memory that this process has had, MB."""
    bank = Bank(root / "bank")
    score(ScoreRequest(ResultsFolder(root / "out"), bank, RECIPE, Store(root), layout=layout))
    # Not `ru_maxrss`, in which a process begins with what its parent had.
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6


def main() -> None:
    """Print the table."""
    if sys.argv[1:2] == ["--one"]:
        print(f"{peak(Path(sys.argv[2]), sys.argv[3] or None):.0f}")
        return
    print(machine())
    print("\n| test clips | vectors, MB | scored, MB | with a map, MB |")
    print("| ---: " * 4 + "|")
    for clips in [int(text) for text in sys.argv[1:]] or [5000, 20_000]:
        with TemporaryDirectory() as name:
            prepare(Path(name), clips)
            command = [sys.executable, "-m", "benchmarks.scoring_memory", "--one", name]
            peaks = [
                subprocess.run([*command, layout], check=True, capture_output=True, text=True).stdout.strip()
                for layout in ("", "pca")
            ]
        print(f"| {clips:,} | {4e-6 * WIDTH * clips:.0f} | {peaks[0]} | {peaks[1]} |", flush=True)


if __name__ == "__main__":
    main()
