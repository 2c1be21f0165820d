"""What a GPU gives: the CPU's digits, clips a second by format and batch, from files, and in training.

    python -m benchmarks.gpu [--device cuda] [--few]

Random weights, clips of 10 s. Prints Markdown. `--few` is the smallest network, two batches and a handful of
clips: enough to see that this command itself works, with `--device cpu` too.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch

from benchmarks.beats import operations
from benchmarks.timing import in_turn, machine, spread
from cache.base.errors import AsdError
from cache.store import Store
from extractors import backbones, pooling
from extractors.clips.listing import list_clips
from extractors.device import find_device
from extractors.embedding.embedder import Forward, Output
from extractors.embedding.models import load_forwards
from extractors.engines.local import Extraction
from extractors.request import DTYPES, ExtractRequest
from tests.helpers.small_models import SMALL

SECONDS = 10
FULL = ("beats", "ast", "panns", "efficientat")
BATCHES = (1, 4, 16, 64, 256)
NEAR = 1e-4  # of the largest value: what float32 may differ from the CPU's
ROUNDS = 3


def forwards(name: str, device: str) -> dict[str, Forward]:
    """Load a backbone of full size: one network, a pass for each format."""
    request = ExtractRequest(backbone=(name,), weights=("random",), device=device)
    exact = load_forwards(request)[0]
    return {d: replace(exact, outputs=[replace(o, dtype=d) for o in exact.outputs]) for d in DTYPES}


def noise(count: int, rate: int, seconds: float = SECONDS) -> np.ndarray:
    """(count, T) of noise."""
    return np.random.default_rng(0).normal(0, 0.1, (count, int(seconds * rate))).astype(np.float32)


def differences(name: str, device: torch.device, folder: Path) -> list[float]:
    """How far each format's vectors lie from the CPU's in float32, of the largest value."""
    found, exact, source = list[float](), np.empty(0, np.float32), SMALL[name](folder)
    for place, dtypes in ((torch.device("cpu"), DTYPES[:1]), (device, DTYPES)):
        model = backbones.find(name).load(source, place)
        for dtype in dtypes:
            output = Output(model.spec, model.spec.layer, pooling.find("mean", {}), "merge", dtype)
            seconds = max(1.0, model.spec.min_samples / model.spec.sample_rate)
            vectors = Forward(model, [output], place)(noise(3, model.spec.sample_rate, seconds)).values[0]
            exact = vectors if place.type == "cpu" and not len(exact) else exact
            found.append(float(abs(vectors - exact).max() / abs(exact).max()))
    return found[1:]


def parity(device: torch.device) -> bool:
    """Print how far each backbone lies from the CPU; tell whether float32 is near everywhere."""
    print(f"\n| backbone, smallest size | {' | '.join(DTYPES)} |\n| --- |{' ---: |' * len(DTYPES)}")
    near = True
    with tempfile.TemporaryDirectory() as folder:
        for name in backbones.names():
            found = differences(name, device, Path(folder))
            near &= found[0] <= NEAR
            print(f"| {name} | {' | '.join(f'{value:.1e}' for value in found)} |", flush=True)
    return near


def products(device: torch.device, dtype: str, size: int) -> float:
    """Operations a second of square products, which is what a chip can do at best."""
    one = torch.randn(size, size, device=device).to(getattr(torch, dtype))

    def several() -> None:
        for _ in range(10):
            one @ one
        if device.type == "cuda":
            torch.cuda.synchronize()

    return 10 * 2 * size**3 / min(in_turn({"": several}, ROUNDS)[""])


def speeds(name: str, device: torch.device, batches: Sequence[int], peaks: dict[str, float]) -> None:
    """Print clips a second of one backbone, with the transfer of samples and vectors."""
    for dtype, forward in forwards(name, str(device)).items():
        cells, best = [], 0.0
        for size in batches:
            clips = noise(size, forward.backbone.spec.sample_rate)
            taken = in_turn({"": partial(forward, clips)}, ROUNDS)[""]
            if forward.limit is not None:  # the device's memory does not hold that many
                break
            cells.append(spread([size / t for t in taken]))
            best = max(best, size / float(np.median(taken)))
        share = f"{100 * best * operations() / peaks[dtype]:.0f} %" if name == "beats" else ""
        row = cells + ["no memory"] * (len(batches) - len(cells))
        print(f"| {name} | {dtype} | {' | '.join(row)} | {share} |", flush=True)


def write_clips(root: Path, count: int) -> Path:
    """Write noise as the task's files."""
    folder = root / "fan" / "train"
    folder.mkdir(parents=True)
    for number, samples in enumerate(noise(count, 16_000)):
        soundfile.write(folder / f"section_00_source_train_normal_{number:04d}.wav", samples, 16_000)
    return root


def from_files(names: Sequence[str], device: torch.device, folder: Path, count: int) -> None:
    """Print whether reading keeps up: files to a table beside the network alone."""
    clips = list_clips([write_clips(folder / "data", count)]).clips
    numbers = iter(range(100))
    for name in names:
        forward = list(forwards(name, str(device)).values())[1]
        batch = min(count, forward.backbone.spec.batch.get(device.type, 32))
        samples = noise(batch, forward.backbone.spec.sample_rate)

        def whole(forward: Forward = forward, batch: int = batch) -> object:
            return Extraction([forward], Store(folder / str(next(numbers))), batch).run(clips)

        times = in_turn({"files": whole, "network": partial(forward, samples)}, ROUNDS)
        rates = [
            spread([len(clips) / t for t in times["files"]]),
            spread([batch / t for t in times["network"]]),
        ]
        print(
            f"{name} in {DTYPES[1]}: from files {rates[0]} clips/s, the network alone {rates[1]}", flush=True
        )


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--few", action="store_true")
    args = parser.parse_args()
    try:
        device = find_device(args.device)
    except AsdError as error:
        sys.exit(f"nothing was measured: {error}")
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"
    print(f"{machine()}, {named}")
    near = parity(device)
    names, batches = (("efficientat",), (1, 2)) if args.few else (FULL, BATCHES)
    peaks = {dtype: products(device, dtype, 256 if args.few else 8192) for dtype in DTYPES}
    print("\nproducts at best, TFLOP/s:", ", ".join(f"{d} {p / 1e12:.3g}" for d, p in peaks.items()))
    print(f"\n| backbone | format | {' | '.join(f'batch {b}, clips/s' for b in batches)} | of the best |")
    print(f"| --- | --- |{' ---: |' * (len(batches) + 1)}")
    for name in names:
        speeds(name, device, batches, peaks)
    print()
    with tempfile.TemporaryDirectory() as folder:
        from_files(names, device, Path(folder), 4 if args.few else 512)
    if not args.few:
        for dtype in DTYPES[:2]:
            step = [
                "benchmarks.finetune_cost",
                "--device",
                str(device),
                "--dtype",
                dtype,
                "--batch-size",
                "32",
            ]
            subprocess.run([sys.executable, "-m", *step], check=True)
    if not near:
        sys.exit(f"float32 on {device} is further than {NEAR:g} from the CPU's")


if __name__ == "__main__":
    main()
