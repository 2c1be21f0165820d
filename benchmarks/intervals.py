"""How often intervals hold the true official score, by simulation, and what they cost.

Scores of normal clips are drawn from N(0, 1) and of anomalies from N(d, 1), so that the official
score of endless clips is known. Run: ``python -m benchmarks.intervals``; ``python -m
benchmarks.intervals cost`` for CPU time and memory by the number of labelled clips.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.stats import norm

from benchmarks.timing import spread
from cache.table import Section
from eval.metrics.intervals import Floats, ResamplingPlan, Scores
from eval.metrics.rules import DEFAULT
from eval.metrics.sections import SectionTruth
from eval.metrics.uncertainty import bootstrap, jackknife, uncertainty

ROUNDS = 1000
CASES = ((1, 15, 1.2), (1, 50, 0.5), (1, 50, 1.2), (1, 50, 2.5), (7, 50, 0.5))
FLEETS = ((100, 50, 0.5), (1000, 50, 0.5))
CLIPS = (200, 5_000, 20_000)
SECTIONS = 4_000  # drawn in all for each of these


def population(shift: float) -> float:
    """Official score of endless clips: the ROC of the two distributions is Phi(z(x) + d)."""
    area = norm.cdf(shift / np.sqrt(2))
    rates = (np.arange(200_000) + 0.5) / 200_000 * 0.1
    partial = (1 + (np.mean(norm.cdf(norm.ppf(rates) + shift)) * 0.1 - 0.005) / 0.095) / 2
    return float(3 / (2 / area + 1 / partial))


def draw(rng: np.random.Generator, each: int, shift: float) -> Scores:
    """Draw one section of `each` clips a domain and condition."""
    kinds = np.repeat(np.arange(4), each)  # target, then anomaly
    values = rng.normal(0, 1, 4 * each) + shift * (kinds % 2)
    clips = tuple(f"{i:04d}" for i in range(4 * each))
    return Scores(values, SectionTruth(kinds % 2 == 1, kinds >= 2, clips))


def measure(machines: int, each: int, shift: float, rounds: int) -> Floats:
    """Coverage and mean width of the bootstrap and the jackknife interval, (2, 2)."""
    rng, true, found = np.random.default_rng(0), population(shift), np.zeros((2, 2))
    for _ in range(rounds):
        sections = {Section("m", i): draw(rng, each, shift) for i in range(machines)}
        made = uncertainty(sections, DEFAULT, ResamplingPlan(resamples=500))
        if made is not None:
            spans = (made.bootstrap, made.jackknife)
            found += [[span.low <= true <= span.high, span.high - span.low] for span in spans]
    return found / rounds


def cost(action: Callable[[], object], rounds: int = 5) -> str:
    """CPU seconds of a call, median with minimum and maximum, and the most memory it held beyond before."""
    seconds = []
    for _ in range(rounds):
        begin = time.process_time()
        action()
        seconds.append(time.process_time() - begin)
    tracemalloc.start()
    action()
    held = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return f"{spread(seconds)} s, {held:.0f} MiB"


def costs() -> None:
    """Print one line a number of labelled clips of one section."""
    print("| labelled clips | bootstrap | jackknife |")
    print("| ---: | ---: | ---: |")
    for each in CLIPS:
        sections = {Section("m", 0): draw(np.random.default_rng(0), each // 4, 1.2)}
        calls: list[Callable[[], object]] = [
            partial(bootstrap, sections, DEFAULT, ResamplingPlan()),
            partial(jackknife, sections, DEFAULT, 0.95),
        ]
        print(f"| {each} | {' | '.join(cost(call) for call in calls)} |", flush=True)


def main() -> None:
    """Print one line a case."""
    print("| machines | clips a kind | true score | bootstrap: held, width | jackknife |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for case in (*CASES, *FLEETS):
        machines, each, shift = case
        rounds = SECTIONS // machines if case in FLEETS else ROUNDS
        cells = [f"{100 * held:.1f} %, {100 * wide:.1f}" for held, wide in measure(*case, rounds)]
        told = f"| {machines} | {each} | {100 * population(shift):.1f} | {' | '.join(cells)} |"
        print(told, flush=True)


if __name__ == "__main__":
    costs() if sys.argv[1:] == ["cost"] else main()
