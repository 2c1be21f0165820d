"""How long commands take to answer: processes of their own, in turn, the least and the median of the rounds.

usage: python -m benchmarks.startup [ROUNDS]

Processor seconds hardly depend on what else the machine does; seconds do.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import soundfile

from benchmarks.timing import machine

REPOSITORY = Path(__file__).parents[1]
RATE, SECONDS = 16_000, 10


def clips(folder: Path, count: int) -> None:
    """Write noise."""
    folder.mkdir(parents=True)
    for i in range(count):
        noise = np.random.default_rng(i).normal(0, 0.1, SECONDS * RATE)
        soundfile.write(folder / f"{i:02d}.wav", noise, RATE)


def call(place: Path, arguments: str) -> tuple[float, float]:
    """Run a command; seconds and processor seconds."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "cache.asd", *arguments.split()], cwd=place, capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    taken, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print a table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        clips(place / "data" / "pump" / "normal", 24)
        clips(place / "data" / "pump" / "new", 3)
        call(place, "extract --data data --backbone logmel")
        call(place, "build --scorer min-distance --bank bank")
        commands = [
            "--help", "extract --help", "build --help", "score --help", "train --help", "extract --no-such",
            "extract --data nowhere", "check bank data/pump/new",
            "score --bank bank --data data --cache-dir ROUND --out ROUND/out --no-report",
            "score --bank bank --data data --cache-dir ROUND --out ROUND/out",
        ]  # fmt: skip
        found: dict[str, list[tuple[float, float]]] = {command: [] for command in commands}
        for number in range(rounds):
            for place_in_list, command in enumerate(commands):
                asked = command.replace("ROUND", f"r{number}-{place_in_list}")
                found[command].append(call(place, asked))
    print("| `asd ...` | s, least | s, median | processor s, least |\n| --- | --- | --- | --- |")
    for command, pairs in found.items():
        walls, processors = zip(*pairs, strict=True)
        print(f"| `{command}` | {min(walls):.2f} | {median(walls):.2f} | {min(processors):.2f} |")


if __name__ == "__main__":
    main()
