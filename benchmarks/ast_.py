"""AST on 10 s clips: ours against transformers' own pipeline, same weights and clips, one run.

The peer is what transformers' users run: its feature extractor and ``ASTModel`` with plain
attention, which is what its results are defined by, and with fused attention. In float32 and, where the
processor has instructions for it, in bfloat16. Parameters are random: times do not depend on them.

usage: python -m benchmarks.ast_ [ROUNDS [BATCH ...]]
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from benchmarks.ours import CPU, as_extracted, at_once, embedder, formats, measured
from benchmarks.timing import HEAD, Row, in_turn, machine
from cache.base.processors import cores
from extractors.backbone import Source
from extractors.backbones.ast_ import Ast, load
from extractors.device import transformers
from extractors.embedding.throughput import Plan

SECONDS, RATE = 10, 16_000


class Peer:
    """Transformers' feature extractor and model.

    Parameters
    ----------
    ours
        Whose weights to take.
    attention
        ``eager`` or ``sdpa``.
    """

    def __init__(self, ours: Ast, attention: str) -> None:
        self._extractor = transformers().ASTFeatureExtractor()
        self._model: Any = copy.deepcopy(ours.network)
        self._model.set_attn_implementation(attention)

    def __call__(self, clips: list[np.ndarray], dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Compute the last hidden state, (B, 1214, 768)."""
        inputs = self._extractor(clips, sampling_rate=RATE, return_tensors="pt")
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            state: torch.Tensor = self._model(**inputs).last_hidden_state
        return state


def deviation(ours: Ast, peer: Peer, batch: torch.Tensor) -> float:
    """Largest difference of an output value."""
    frames = ours.features(batch, [12])[0].frames
    tokens = peer(list(batch.numpy()))[:, 2:].reshape(len(batch), 12, 101, 768)
    return float((frames - tokens.transpose(1, 2)).abs().max())


def measure(ours: Ast, plans: Mapping[str, Plan], batch: torch.Tensor, rounds: int) -> None:
    """Print the rows of one batch size, and how far the outputs lie apart."""
    eager, fused = Peer(ours, "eager"), Peer(ours, "sdpa")
    clips, sdpa = list(batch.numpy()), "transformers, sdpa"
    actions: dict[str, Callable[[], object]] = {
        "transformers, eager": partial(eager, clips),
        sdpa: partial(fused, clips),
    }
    rows = [
        ("all layers", "transformers, eager", None),
        ("all layers", sdpa, 1.2),
        ("up to layer 4", sdpa, None),
    ]
    for dtype, plan in plans.items():
        mark = "" if dtype == "float32" else f", {dtype}"
        for name, layer in {"all layers": 12, "up to layer 4": 4}.items():
            actions[name + mark] = partial(at_once, embedder(ours, layer, dtype), plan, batch.numpy())
        if len(batch) >= plan.batch * plan.workers:
            title = f"all layers{mark}, as `asd extract`"
            actions[title] = partial(as_extracted, embedder(ours, 12, dtype), plan, batch.numpy())
            rows.append((title, sdpa, 1.2))
        if mark:
            actions[sdpa + mark] = partial(fused, clips, torch.bfloat16)
            rows += [("all layers" + mark, sdpa, 1.2), ("all layers" + mark, sdpa + mark, None)]
    torch.set_num_threads(cores())
    times = in_turn(actions, rounds)
    for name, peer, goal in rows:
        what = f"AST, batch {len(batch)}, {name}"
        print(Row(what, times[name], f"{peer}, all layers", times[peer], len(batch), goal), flush=True)
    print(f"batch {len(batch)}, largest deviation {deviation(ours, eager, batch):.1e}")


def main() -> None:
    """Measure every batch size."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    sizes = [int(text) for text in sys.argv[2:]] or [1, 8]
    print(f"{machine()}, transformers {version('transformers')}")
    with torch.inference_mode():
        ours = load(Source(seed=0), CPU)
        plans = {dtype: measured(embedder(ours, 12, dtype), SECONDS) for dtype in formats()}
        print(HEAD)
        generator = torch.Generator().manual_seed(0)
        for size in sizes:
            batch = torch.randn(size, SECONDS * RATE, generator=generator) / 10
            measure(ours, plans, batch, rounds)


if __name__ == "__main__":
    main()
