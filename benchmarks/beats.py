"""BEATs on 10 s clips: ours against SpeechBrain's, numerically the published code, in one run.

Same weights, same clips, one process on all cores, in float32 and, where the processor has instructions
for it, in bfloat16. Parameters are random: times do not depend on them.

usage: python -m benchmarks.beats [ROUNDS]
"""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import beats_peer
from benchmarks.ours import CPU, as_extracted, at_once, embedder, formats, measured
from benchmarks.timing import HEAD, Row, has_bfloat16, in_bfloat16, in_turn, machine, spread
from cache.base.processors import cores
from extractors.backbone import Backbone, Source
from extractors.backbones.beats import load
from extractors.embedding.embedder import Forward
from extractors.embedding.products import multiplied
from extractors.embedding.throughput import Plan

SECONDS, RATE = 10, 16_000
FILES = 12
GOALS = {  # times SpeechBrain's all layers in float32
    (1, "all layers"): 2.0, (8, "all layers"): 2.5, (1, "up to layer 4"): 6.0, (8, "up to layer 4"): 6.0,
    (1, "all layers, bfloat16"): 3.0, (8, "all layers, bfloat16"): 3.0,
}  # fmt: skip
TOKENS, WIDTH, INNER, LAYERS, EMBED = 496, 768, 3072, 12, 512


def operations() -> float:
    """Multiplications and additions of one clip's products, counted from the paper's sizes."""
    layer = TOKENS * (4 * WIDTH * WIDTH + 2 * WIDTH * INNER) + 2 * TOKENS * TOKENS * WIDTH
    positions = TOKENS * WIDTH * (WIDTH // 16) * 128
    patches = TOKENS * EMBED * (256 + WIDTH)
    return 2.0 * (LAYERS * layer + positions + patches)


def against_products(ours: Forward, rounds: int) -> None:
    """Print the encoder's operations a second beside those of its own largest products."""
    wave = np.random.default_rng(0).normal(0, 0.1, (1, SECONDS * RATE)).astype(np.float32)
    tokens, up, down = (torch.randn(*shape) for shape in ((TOKENS, WIDTH), (INNER, WIDTH), (WIDTH, INNER)))

    def products() -> None:
        with multiplied(ours.onednn):
            for _ in range(10):
                inner = torch.nn.functional.linear(tokens, up)
                torch.nn.functional.linear(inner, down)

    actions: dict[str, Callable[[], object]] = {"BEATs": partial(ours, wave), "products": products}
    work = {"BEATs": operations(), "products": 2.0 * 2 * TOKENS * WIDTH * INNER * 10}
    times = in_turn(actions, 3 * rounds)
    paces = {name: [work[name] / taken for taken in times[name]] for name in actions}
    for name, pace in paces.items():
        print(f"{name}: {spread(pace, 1e-9)} GFLOP/s on {cores()} cores")
    shares = [a / b for a, b in zip(paces["BEATs"], paces["products"], strict=True)]
    print(f"BEATs at {spread(shares, 100)} % of the pace of its products")


def loaded(peer: Any) -> Backbone:
    """Give ours the peer's weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = beats_peer.save(peer, Path(folder) / "beats.pt")
        return load(Source(weights=path), CPU)


def compare(peer: Any, ours: Backbone, plan: Plan, size: int, rounds: int) -> None:
    """Print the rows of one batch size."""
    waves = torch.randn(size, SECONDS * RATE, generator=torch.Generator().manual_seed(0)) / 10
    clips = waves.numpy()
    theirs: dict[str, Callable[[], object]] = {
        "SpeechBrain": partial(peer.extract_features, waves, torch.ones(size))
    }
    if has_bfloat16():
        theirs["SpeechBrain in bfloat16"] = in_bfloat16(theirs["SpeechBrain"])
    actions: dict[str, tuple[Callable[[], object], float | None]] = {}
    for name, layer in {"all layers": LAYERS, "up to layer 4": 4}.items():
        for dtype in formats():
            forward = embedder(ours, layer, dtype)
            title = name if dtype == "float32" else f"{name}, {dtype}"
            goal = GOALS.get((size, title))
            actions[title] = partial(at_once, forward, plan, clips), goal
            if size >= plan.batch * plan.workers:
                actions[f"{title}, as `asd extract`"] = partial(as_extracted, forward, plan, clips), goal
    torch.set_num_threads(cores())
    times = in_turn({**theirs, **{title: action for title, (action, _) in actions.items()}}, rounds)
    for title, (_, goal) in actions.items():
        for other in theirs if "bfloat16" in title else ["SpeechBrain"]:
            hoped = goal if other == "SpeechBrain" else None
            what = f"BEATs, batch {size}, {title}"
            print(Row(what, times[title], f"{other}, all layers", times[other], size, hoped), flush=True)


def peak_memory() -> float:
    """GiB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Print everything."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print(f"{machine()}, speechbrain {version('speechbrain')}")
    with torch.inference_mode():
        alone = load(Source(seed=0), CPU)
        alone.features(torch.randn(8, SECONDS * RATE) / 10, [LAYERS])
        print(f"peak memory of a process with ours alone, batch 8: {peak_memory():.2f} GiB")
        del alone
        peer = beats_peer.build(beats_peer.PUBLISHED)
        ours = loaded(peer)
        forward = embedder(ours, LAYERS)
        plan = measured(forward, SECONDS)
        print(HEAD)
        for size in (1, 2, 8):
            compare(peer, ours, plan, size, rounds)
        against_products(forward, rounds)


if __name__ == "__main__":
    main()
