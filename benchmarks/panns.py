"""Cnn14 on 10 s clips: ours against panns_inference's class, same weights, same input, one run.

Then what the two measures behind the difference bring: Winograd's convolutions against the
definition's, and a block's eight clips one by one against all at once.

usage: python -m benchmarks.panns [ROUNDS]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.ours import CPU, as_extracted, at_once, embedder, formats, measured
from benchmarks.panns_peer import build
from benchmarks.timing import HEAD, Row, in_bfloat16, in_turn, machine, spread
from cache.base.processors import cores
from extractors.backbone import Source
from extractors.backbones.panns import Panns, load
from extractors.embedding.products import multiplied
from extractors.embedding.throughput import use
from extractors.nets.cnn14 import Winograd

SECONDS, FRAMES, MELS = 10, 1001, 64
CHANNELS = (1, 64, 128, 256, 512, 1024, 2048)


def loaded(peer: nn.Module) -> Panns:
    """Give ours the peer's weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save({"model": peer.state_dict()}, path)
        return load(Source(weights=path), CPU)


def compare(rate: int, rounds: int) -> None:
    """Print the rows of one sample rate, batches of 1 and 8."""
    peer = build(rate)
    ours = {dtype: loaded(peer) for dtype in formats()}  # one each: a change of ways makes kernels anew
    layer = ours["float32"].spec.layer
    forwards = {dtype: embedder(each, layer, dtype) for dtype, each in ours.items()}
    plans = {dtype: measured(forward, SECONDS) for dtype, forward in forwards.items()}
    print(HEAD)
    for size in (1, 8):
        noise = torch.randn(size, SECONDS * rate, generator=torch.Generator().manual_seed(0)) / 10
        what = f"Cnn14, {rate // 1000} kHz, batch {size}"
        theirs: dict[str, Callable[[], object]] = {"panns_inference": partial(peer, noise)}
        actions: dict[str, Callable[[], object]] = {}
        for dtype, forward in forwards.items():
            title, plan = what if dtype == "float32" else f"{what}, {dtype}", plans[dtype]
            actions[title] = partial(at_once, forward, plan, noise.numpy())
            if size >= plan.batch * plan.workers:
                actions[f"{title}, as `asd extract`"] = partial(as_extracted, forward, plan, noise.numpy())
        if len(forwards) > 1:
            theirs["panns_inference in bfloat16"] = in_bfloat16(theirs["panns_inference"])
        torch.set_num_threads(cores())
        times = in_turn({**actions, **theirs}, rounds)
        for title in actions:
            for other in theirs if "bfloat16" in title else ["panns_inference"]:
                goal = 2.0 if other == "panns_inference" else None
                print(Row(title, times[title], other, times[other], size, goal), flush=True)
        use(forwards["float32"], plans["float32"])
        expected, found = peer(noise)["embedding"], ours["float32"].features(noise, [layer])[0].native
        deviation = float((found - expected).abs().max() / expected.abs().max())
        print(f"{what}: largest deviation {deviation:.1e}", flush=True)


def random_maps(size: int, channels: int, halvings: int) -> Tensor:
    """Make maps as clips of 10 s have them after some blocks."""
    maps = torch.randn(size, channels, FRAMES >> halvings, MELS >> halvings)
    return maps.contiguous(memory_format=torch.channels_last)


def show(title: str, actions: Mapping[str, Callable[[], object]], rounds: int) -> None:
    """Print milliseconds of each action."""
    times = in_turn(actions, rounds)
    print(title + ", ".join(f"{name} {spread(taken, 1e3)} ms" for name, taken in times.items()))


def convolutions(rounds: int) -> None:
    """Print milliseconds of every convolution of one clip, both ways."""
    for block, (incoming, out) in enumerate(pairwise(CHANNELS)):
        for channels in (incoming, out) if incoming > 1 else (out,):
            direct = nn.Conv2d(channels, out, 3, padding=1)
            direct.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # in place
            maps = random_maps(1, channels, block)
            fast = Winograd(direct)
            ways = {"direct": partial(direct, maps), "Winograd": partial(fast, maps)}
            ways["Winograd by oneDNN"] = partial(by_onednn, fast, maps)
            show(f"block {block + 1}, {channels} to {out} channels: ", ways, rounds)


def by_onednn(step: nn.Module, maps: Tensor) -> Tensor:
    """Run a convolution whose products oneDNN computes."""
    with multiplied(True):
        made: Tensor = step(maps)
    return made


def one_by_one(step: nn.Module, maps: Tensor) -> Tensor:
    """Run a block clip by clip."""
    return torch.cat([step(part) for part in torch.split(maps, 1)])


def blocks(rounds: int) -> None:
    """Print milliseconds of every block for eight clips, together and one by one."""
    network = load(Source(seed=0), CPU).network
    for block, channels in enumerate(CHANNELS[:-1]):
        step = network.get_submodule(f"conv_block{block + 1}")
        maps = random_maps(8, channels, block)
        ways = {"together": partial(step, maps), "one by one": partial(one_by_one, step, maps)}
        show(f"block {block + 1}, 8 clips: ", ways, rounds)


def main() -> None:
    """Compare both sample rates, then the measures."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(machine())
    with torch.inference_mode():
        for rate in (16_000, 32_000):
            compare(rate, rounds)
        convolutions(rounds)
        blocks(rounds)


if __name__ == "__main__":
    main()
