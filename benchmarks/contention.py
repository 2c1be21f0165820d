"""What busy neighbours cost FAISS, OpenBLAS and torch: as the libraries come, and as the commands set them.

    python -m benchmarks.contention [ROUNDS]

Beside no, one and two programs that do nothing but compute; each measurement in a process of its own, the
ways in turn within a round, so that what else the machine does meets all of them. Prints Markdown.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from benchmarks.timing import machine, spread
from cache.base import processors

_ROUNDS = 5
_SECONDS = 1.0  # of each call, repeated
NAMES = (processors.THREADS, "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY")
AS_THEY_COME, SHARED, ONE = "as they come", "as the commands set them", "one thread each"


def environments() -> dict[str, dict[str, str]]:
    """Return what each way sets: nothing, what `cache.base.processors.share` does, one thread everywhere."""
    return {
        AS_THEY_COME: {},
        SHARED: dict(zip(NAMES, (str(processors.cores()), "1", "PASSIVE"), strict=True)),
        ONE: dict(zip(NAMES, ("1", "1", "PASSIVE"), strict=True)),
    }


def calls() -> dict[str, float]:
    """Time the calls in this process: name to milliseconds, the median of a second."""
    import faiss  # noqa: PLC0415 -- only in a process whose environment is set
    import torch  # noqa: PLC0415

    rng = np.random.default_rng(0)
    bank, queries = rng.normal(size=(2, 1000, 768)).astype(np.float32)
    index = faiss.IndexFlatL2(768)
    index.add(bank)
    square = rng.normal(size=(300, 1000))
    weight, tokens = torch.from_numpy(bank[:768]), torch.from_numpy(queries[:496])
    work: dict[str, Callable[[], object]] = {
        "FAISS: 200 queries to 1000 x 768": lambda: index.search(queries[:200], 4),
        "OpenBLAS: covariance of 300 x 1000": lambda: square.T @ square,
        "OpenBLAS: eigenvalues of 300 x 300": lambda: np.linalg.eigvalsh(square @ square.T),
        "torch: 496 tokens through 768 x 768": lambda: tokens @ weight,
    }
    found = {}
    for name, call in work.items():
        call()
        times, end = list[float](), time.perf_counter() + _SECONDS
        while time.perf_counter() < end or len(times) < 3:
            begin = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin)
        found[name] = 1e3 * float(np.median(times))
    return found


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Keep as many programs busy for a while."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def measured(environment: dict[str, str]) -> dict[str, float]:
    """Run `calls` in a process of its own."""
    own = {name: value for name, value in os.environ.items() if name not in NAMES} | environment
    command = [sys.executable, "-m", "benchmarks.contention", "--calls"]
    done = subprocess.run(command, env=own, check=True, text=True, capture_output=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure, and print a table."""
    if sys.argv[1:] == ["--calls"]:
        print(json.dumps(calls()))
        return
    rounds = int(sys.argv[1]) if sys.argv[1:] else _ROUNDS
    print(f"{machine()}; load before: {os.getloadavg()[0]:.1f}; milliseconds\n")
    ways = environments()
    print(
        "| call | busy neighbours |",
        " | ".join(ways),
        "| gain |\n| --- | ---: |" + " ---: |" * (len(ways) + 1),
    )
    for count in (0, 1, 2):
        with neighbours(count):
            found = [{way: measured(values) for way, values in ways.items()} for _ in range(rounds)]
        for call in found[0][SHARED]:
            columns = [spread([each[way][call] for each in found]) for way in ways]
            gains = spread([each[AS_THEY_COME][call] / each[SHARED][call] for each in found])
            print(f"| {call} | {count} |", " | ".join(columns), f"| {gains} |", flush=True)


if __name__ == "__main__":
    main()
