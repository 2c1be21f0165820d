"""A network by torch, ONNX Runtime and OpenVINO, in float32 and 8-bit integers: pace, and ranks of scores.

    python -m benchmarks.engines [BACKBONE ...]

Clips of 10 s one by one on all cores, seeded random weights, pass next to pass; made-up sounds, half of them
to calibrate on. Prints Markdown; exports go to a folder that is removed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib.metadata import version

import numpy as np
import torch

from benchmarks.timing import HEAD, Row, in_turn, machine, seconds
from cache.base.processors import cores
from cache.files.atomic import scratch_folder
from extractors.embedding import formats, graphs
from extractors.embedding.embedder import Forward, Samples
from extractors.embedding.models import load_forwards
from extractors.embedding.runners import LIBRARIES
from extractors.embedding.throughput import Plan, fastest, use
from extractors.request import GRAPHS, INT8, LOCAL, ExtractRequest

SECONDS, ROUNDS, CLIPS = 10, 7, 24


def sounds(rate: int, count: int) -> list[Samples]:
    """Make up one machine: a hum whose speed and load vary from clip to clip, in noise."""
    found = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        phase = 2 * np.pi * rng.uniform(48, 52) * np.arange(SECONDS * rate) / rate
        hum = sum(rng.uniform(0.5, 1.5) / n * np.sin(n * phase) for n in range(1, 12))
        found.append((0.05 * hum + rng.normal(0, rng.uniform(0.02, 0.05), len(phase))).astype(np.float32))
    return found


def variants(exact: Forward, samples: list[Samples]) -> Iterator[tuple[str, Forward]]:
    """Give the same network by every engine, in both formats."""
    layers = [output.layer for output in exact.outputs]
    for engine in GRAPHS:
        network = graphs.GraphBackbone(exact.backbone, engine)
        outputs = [replace(output, engine=engine) for output in exact.outputs]
        forward = replace(exact, backbone=network, outputs=outputs)
        took = seconds(partial(forward, samples[0][None]))
        print(f"{engine}: exported and loaded in {took:.0f} s")
        yield engine, forward
        calibration = network.calibrated(samples[: len(samples) // 2], layers)
        smaller = [replace(output, dtype=INT8, calibration=calibration) for output in outputs]
        integers = graphs.GraphBackbone(exact.backbone, engine, calibration)
        yield f"{engine}, {INT8}", replace(exact, backbone=integers, outputs=smaller)


def compare(name: str) -> list[Row]:
    """Measure one network; return its rows."""
    exact = load_forwards(ExtractRequest(backbone=(name,), weights=("random",), device="cpu"))[0]
    samples = sounds(exact.backbone.spec.sample_rate, CLIPS)
    forwards = {LOCAL: exact, **dict(variants(exact, samples))}
    clip = samples[0][None]
    verdicts = {each: formats.judged(exact, forwards[each], samples, 0.0) for each in list(forwards)[1:]}
    torch.set_num_threads(cores())  # `judged` computes with as many workers as pay
    plan = fastest(exact, [Plan(1, 1, cores())], samples[0])
    use(exact, plan)
    print(f"torch, measured as `asd extract` does it: {plan}")
    times = in_turn({each: partial(forward, clip) for each, forward in forwards.items()}, ROUNDS)
    rows = []
    for each, verdict in verdicts.items():
        told = f"ranks {verdict.rho:.5f}, AUC moved {verdict.points:.2f}"
        what = f"{name} by {each} ({told}{'' if verdict.alike else ': refused'})"
        rows.append(Row(what, times[each], "ours by torch, float32", times[LOCAL], 1, 2.0))
    return rows


def main() -> None:
    """Measure, and print a table."""
    torch.set_num_threads(cores())
    libraries = ", ".join(f"{library} {version(library)}" for library in LIBRARIES.values())
    print(f"{machine()}, {libraries}\n")
    with scratch_folder() as folder:
        os.environ["ASD_HOME"] = str(folder)  # where exports are kept
        rows = [row for name in sys.argv[1:] or ["beats"] for row in compare(name)]
    print(HEAD, *rows, sep="\n")


if __name__ == "__main__":
    main()
