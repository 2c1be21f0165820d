"""AST on 10 s clips: ours against transformers' own pipeline, same weights and clips, one run.

The peer is what transformers' users run: its feature extractor and ``ASTModel`` with plain
attention, which is what its results are defined by. Parameters are random: times do not depend on
them.

usage: python -m benchmarks.ast_ [ROUNDS [BATCH ...]]
"""

from __future__ import annotations

import copy
import sys
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from benchmarks.timing import in_turn, machine, spread
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
    """Print clips per second and ratios of one batch size."""
    eager, fused = Peer(ours, "eager"), Peer(ours, "sdpa")
    clips = list(batch.numpy())
    actions = {
        "ours, all layers": lambda: ours.features(batch, [12]),
        "transformers, eager": lambda: eager(clips),
        "transformers, sdpa": lambda: fused(clips),
        "ours, up to layer 4": lambda: ours.features(batch, [4]),
    }
    times = in_turn(actions, rounds)
    for name, taken in times.items():
        print(f"batch {len(batch)}, {name:22s} {spread([len(batch) / t for t in taken])} clips/s")
    first, *others = times
    for name in others[:2]:
        ratios = [b / a for a, b in zip(times[first], times[name], strict=True)]
        print(f"batch {len(batch)}, all layers: {spread(ratios)} x {name}")
    print(f"batch {len(batch)}, largest deviation {deviation(ours, eager, batch):.1e}")


def main() -> None:
    """Measure every batch size."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    sizes = [int(text) for text in sys.argv[2:]] or [1, 8]
    print(f"{machine()}, transformers {version('transformers')}")
    with torch.inference_mode():
        ours = load(Source(seed=0), CPU)
        generator = torch.Generator().manual_seed(0)
        for size in sizes:
            batch = torch.randn(size, SECONDS * RATE, generator=generator) / 10
            measure(ours, batch, rounds)


if __name__ == "__main__":
    main()
