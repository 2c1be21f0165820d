"""BEATs on 10 s clips: ours against SpeechBrain's, numerically the published code, in one run.

Same weights, same clips, float32, one process on all cores. Parameters are random: times do not
depend on them.

usage: python benchmarks/beats.py [ROUNDS]
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

import beats_peer
import numpy as np
import torch
from timing import in_turn, machine, spread

from extractors import pooling, registry
from extractors.backbone import Backbone, Source
from extractors.forward import Forward
from extractors.output import Output
from extractors.tuning import Plan, candidates, cores, rate

SECONDS, RATE = 10, 16_000
CPU = torch.device("cpu")
TOKENS, WIDTH, INNER, LAYERS, EMBED = 496, 768, 3072, 12, 512


def operations() -> float:
    """Multiplications and additions of one clip's products, counted from the paper's sizes."""
    layer = TOKENS * (4 * WIDTH * WIDTH + 2 * WIDTH * INNER) + 2 * TOKENS * TOKENS * WIDTH
    positions = TOKENS * WIDTH * (WIDTH // 16) * 128
    patches = TOKENS * EMBED * (256 + WIDTH)
    return 2.0 * (LAYERS * layer + positions + patches)


def product_rate(rounds: int) -> list[float]:
    """Operations a second of the encoder's largest products, the machine's own pace."""
    tokens, up, down = (
        torch.randn(*shape) for shape in ((TOKENS, WIDTH), (INNER, WIDTH), (WIDTH, INNER))
    )

    def both() -> torch.Tensor:
        inner = torch.nn.functional.linear(tokens, up)
        return torch.nn.functional.linear(inner, down)

    work = 2.0 * 2 * TOKENS * WIDTH * INNER * 10
    times = in_turn({"": lambda: [both() for _ in range(10)]}, 3 * rounds)
    return [work / taken for taken in times[""]]


def loaded(peer: Any) -> Backbone:
    """Give ours the peer's weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = beats_peer.save(peer, Path(folder) / "beats.pt")
        return registry.find("beats").load(Source(weights=path), CPU)


def planned(ours: Backbone, layer: int, plan: Plan) -> Callable[[np.ndarray], object]:
    """Embed clips as `extractors.run` does under a plan."""
    output = Output(ours.spec, layer, pooling.find("mean", {}), "merge")
    forward = Forward(ours, [output], CPU)

    def run(clips: np.ndarray) -> object:
        parts = [clips[i : i + plan.batch] for i in range(0, len(clips), plan.batch)]
        with plan.pool() as pool:
            return list(pool.map(forward, parts))

    return run


def best_plan(ours: Backbone, clip: np.ndarray) -> Plan:
    """Measure every plan, without a limit of time."""
    output = Output(ours.spec, LAYERS, pooling.find("mean", {}), "merge")
    forward = Forward(ours, [output], CPU)
    rates = {plan: rate(forward, plan, clip) for plan in candidates(ours.spec, CPU)}
    for plan, found in rates.items():
        print(f"  {plan}: {found:.2f} clips/s")
    return max(rates, key=lambda plan: rates[plan])


def compare(peer: Any, ours: Backbone, plan: Plan, size: int, rounds: int) -> dict[str, float]:
    """Print clips per second and ratios at one batch size; return seconds a clip."""
    waves = torch.randn(size, SECONDS * RATE, generator=torch.Generator().manual_seed(0)) / 10
    clips = waves.numpy()
    full = torch.ones(size)
    actions: dict[str, Callable[[], object]] = {
        "ours, all layers": partial(ours.features, waves, [LAYERS]),
        "SpeechBrain": partial(peer.extract_features, waves, full),
        "ours, up to layer 4": partial(ours.features, waves, [4]),
    }
    if size >= plan.workers:
        actions["ours, as extractors.run"] = partial(planned(ours, LAYERS, plan), clips)
        actions["ours, layer 4, as extractors.run"] = partial(planned(ours, 4, plan), clips)
    torch.set_num_threads(cores())
    times = in_turn(actions, rounds)
    for name, taken in times.items():
        print(f"batch {size}, {name:33s} {spread([size / t for t in taken])} clips/s")
        if name != "SpeechBrain":
            ratios = [b / a for a, b in zip(taken, times["SpeechBrain"], strict=True)]
            print(f"batch {size}, {name:33s} {spread(ratios)} x SpeechBrain, all layers")
    return {name: float(np.median(taken)) / size for name, taken in times.items()}


def main() -> None:
    """Print everything."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print(f"{machine()}, speechbrain {version('speechbrain')}")
    with torch.inference_mode():
        peer = beats_peer.build(beats_peer.PUBLISHED)
        ours = loaded(peer)
        plan = best_plan(ours, np.random.default_rng(0).normal(0, 0.1, SECONDS * RATE).astype("f4"))
        seconds = {size: compare(peer, ours, plan, size, rounds) for size in (1, 2, 8)}
        best = {n: min(s[n] for s in seconds.values() if n in s) for n in seconds[8]}
        for name, least in best.items():
            print(f"best batch, {name:33s} {best['SpeechBrain'] / least:.2f} x SpeechBrain's best")
        pace = product_rate(rounds)
        achieved = operations() / best["ours, all layers"]
        print(f"products: {spread(pace, 1e-9)} GFLOP/s on {cores()} cores")
        print(f"BEATs: {achieved / 1e9:.3g} GFLOP/s, {achieved / np.median(pace):.0%} of it")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.2f} GiB, both models")


if __name__ == "__main__":
    main()
