"""What bfloat16 gains on this processor, backbone by backbone, and whether scores rank as in float32.

    python -m benchmarks.formats [DATA]

Clips of 10 s, random weights, one thread, processor time (neighbours do not count), pass next to pass, each
format in what was measured to be its best way to compute.
With a data root, also the verdict of `--dtype auto` on the training clips of its largest section.
Prints Markdown.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import spread
from cache.base.processors import model_name
from extractors.clips.listing import list_clips
from extractors.embedding import formats
from extractors.embedding.embedder import Forward, least_cosine
from extractors.embedding.models import load_forwards
from extractors.embedding.throughput import Plan, fastest, use
from extractors.request import ExtractRequest

_BACKBONES = ("beats", "ast", "panns", "efficientat")
_ROUNDS = 5


def in_format(forward: Forward, dtype: str) -> Forward:
    """Return the same in another number format."""
    return replace(forward, outputs=[replace(output, dtype=dtype) for output in forward.outputs])


def passes(forwards: dict[str, Forward], plans: dict[str, Plan], clip: np.ndarray) -> dict[str, list[float]]:
    """Processor seconds of passes in turn, by format."""
    times: dict[str, list[float]] = {dtype: [] for dtype in forwards}
    for number in range(_ROUNDS + 1):
        for dtype, forward in forwards.items():
            use(forward, plans[dtype])
            begin = time.process_time()
            forward(clip)
            times[dtype] += [time.process_time() - begin] if number else []
    return times


def main() -> None:
    """Measure, and print a table."""
    torch.set_num_threads(1)
    print(f"{model_name()}, torch {torch.__version__}, processor seconds a clip of 10 s\n")
    print("| backbone | float32 | bfloat16 | ratio | least cosine | verdict |")
    print("| --- | ---: | ---: | ---: | ---: | --- |")
    for name in _BACKBONES:
        exact = load_forwards(ExtractRequest(backbone=(name,), weights=("random",), device="cpu"))[0]
        both = {dtype: in_format(exact, dtype) for dtype in ("float32", "bfloat16")}
        length = 10 * exact.backbone.spec.sample_rate
        clip = np.random.default_rng(0).normal(0, 0.1, (1, length)).astype(np.float32)
        plans = {dtype: fastest(forward, [Plan(1, 1, 1)], clip[0]) for dtype, forward in both.items()}
        times = passes(both, plans, clip)
        ratios = [a / b for a, b in zip(times["float32"], times["bfloat16"], strict=True)]
        verdict = ""
        if sys.argv[1:] and np.median(ratios) >= 1.3:
            samples = formats.training_samples(exact, list_clips([Path(sys.argv[1])]).clips)
            verdict = str(formats.judged(exact, both["bfloat16"], samples))
        columns = [spread(times[dtype]) for dtype in both]
        cosine = f"{least_cosine(both['bfloat16'], clip):.6f}"
        print(f"| {name} |", " | ".join(columns), f"| {spread(ratios)} | {cosine} | {verdict} |", flush=True)


if __name__ == "__main__":
    main()
