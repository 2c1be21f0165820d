"""AST on 10 s clips: ours against transformers' own pipeline, same weights and clips, one run.

The peer is what transformers' users run: its feature extractor and ``ASTModel`` with plain
attention, which is what its results are defined by, and with fused attention. In float32 and, where the
processor has instructions for it, in bfloat16. Parameters are random: times do not depend on them.

usage: python -m benchmarks.ast_ [ROUNDS [BATCH ...]]
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from benchmarks.timing import HEAD, Row, has_bfloat16, in_bfloat16, in_turn, machine
from extractors.backbone import Source
from extractors.backbones.ast_ import Ast, load
from extractors.device import transformers

SECONDS, RATE = 10, 16_000
CPU = torch.device("cpu")


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

    def __call__(self, clips: list[np.ndarray]) -> torch.Tensor:
        """Compute the last hidden state, (B, 1214, 768)."""
        inputs = self._extractor(clips, sampling_rate=RATE, return_tensors="pt")
        state: torch.Tensor = self._model(**inputs).last_hidden_state
        return state


def deviation(ours: Ast, peer: Peer, batch: torch.Tensor) -> float:
    """Largest difference of an output value."""
    frames = ours.features(batch, [12])[0].frames
    tokens = peer(list(batch.numpy()))[:, 2:].reshape(len(batch), 12, 101, 768)
    return float((frames - tokens.transpose(1, 2)).abs().max())


def measure(ours: Ast, batch: torch.Tensor, rounds: int) -> None:
    """Print the rows of one batch size, and how far the outputs lie apart."""
    eager, fused = Peer(ours, "eager"), Peer(ours, "sdpa")
    clips, sdpa = list(batch.numpy()), "transformers, sdpa"
    actions: dict[str, Callable[[], object]] = {
        "all layers": partial(ours.features, batch, [12]),
        "transformers, eager": partial(eager, clips),
        sdpa: partial(fused, clips),
        "up to layer 4": partial(ours.features, batch, [4]),
    }
    rows = [
        ("all layers", "transformers, eager", None),
        ("all layers", sdpa, 1.2),
        ("up to layer 4", sdpa, None),
    ]
    if has_bfloat16():
        small = "all layers, bfloat16"
        actions[small] = in_bfloat16(actions["all layers"], ours=True)
        actions[f"{sdpa}, bfloat16"] = in_bfloat16(actions[sdpa], ours=False)
        rows += [(small, sdpa, 1.2), (small, f"{sdpa}, bfloat16", None)]
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
    print(HEAD)
    with torch.inference_mode():
        ours = load(Source(seed=0), CPU)
        generator = torch.Generator().manual_seed(0)
        for size in sizes:
            batch = torch.randn(size, SECONDS * RATE, generator=generator) / 10
            measure(ours, batch, rounds)


if __name__ == "__main__":
    main()
