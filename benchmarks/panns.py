"""Cnn14 on 10 s clips: ours against panns_inference's class, same weights, same input, one run.

usage: python benchmarks/panns.py [ROUNDS]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from panns_peer import build
from timing import in_turn, machine, spread

from extractors import registry
from extractors.backbone import Source

CPU = torch.device("cpu")
SECONDS = 10


def compare(rate: int, size: int, rounds: int) -> None:
    """Print clips per second of both and their ratio."""
    peer = build(rate)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save({"model": peer.state_dict()}, path)
        ours = registry.find("panns").load(Source(weights=path), CPU)
    layer = ours.spec.layer
    noise = torch.randn(size, SECONDS * rate, generator=torch.Generator().manual_seed(0)) / 10
    with torch.inference_mode():
        expected = peer(noise)["embedding"]
        (features,) = ours.features(noise, [layer])
        times = in_turn(
            {"ours": lambda: ours.features(noise, [layer]), "theirs": lambda: peer(noise)}, rounds
        )
    assert features.native is not None
    deviation = float((features.native - expected).abs().max() / expected.abs().max())
    ratios = [b / a for a, b in zip(times["ours"], times["theirs"], strict=True)]
    rates = {name: spread([size / t for t in taken]) for name, taken in times.items()}
    print(
        f"{rate // 1000} kHz, batch {size}: {rates['ours']} against {rates['theirs']} clips/s, "
        f"ratio {spread(ratios)}, deviation {deviation:.1e}"
    )


def main() -> None:
    """Compare both sample rates at batch 1 and 8."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(machine())
    for rate in (16_000, 32_000):
        for size in (1, 8):
            compare(rate, size, rounds)


if __name__ == "__main__":
    main()
