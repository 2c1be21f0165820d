"""What a step of fine-tuning costs at full size: parameters, seconds, memory, as Markdown.

usage: python -m benchmarks.finetune_cost [--batch-size 8] [--device cpu] [--dtype float32]

Random weights: BEATs, AST and Cnn14_16k, all of it, the last two blocks, and low-rank adapters.
Every figure comes from a process of its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import machine
from cache.table import Section
from extractors.audio.batches import RaggedArray
from extractors.backbone import Source
from extractors.clips.listing import Clip
from extractors.embedding.finetuned import load_any
from finetune.data import augmentation
from finetune.data.batches import Batches
from finetune.data.sampling import SAMPLERS
from finetune.data.waveforms import Waveforms
from finetune.loop.optimising import Optimising
from finetune.model import head
from finetune.model.learner import build, measured
from finetune.model.scope import SCOPES as KINDS
from finetune.request import Portions, Rates

BACKBONES = ("beats", "ast", "panns")
SCOPES = ("full", "last:blocks=2", "lora:rank=64")
SECONDS, CLASSES, STEPS = 10, 16, 2


def noise(count: int, rate: int) -> Waveforms:
    """Clips of noise of as many classes."""
    values = np.random.default_rng(0).normal(0, 0.1, count * SECONDS * rate).astype(np.float32)
    bounds = np.arange(count + 1) * SECONDS * rate
    section = Section("fan", 0)
    clips = tuple(Clip(str(i), Path(str(i)), section, "train", "source") for i in range(count))
    return Waveforms(RaggedArray(values, bounds), clips, ("",) * count, (), rate)


def measure(name: str, text: str, args: Namespace) -> dict[str, Any]:
    """Take steps in this process."""
    device = torch.device(args.device)
    backbone: Any = load_any(name, Source(seed=0), device)
    layer = backbone.spec.layers[-1]
    embedding = measured(backbone, layer, "attentive", 256)
    learner = build(backbone, embedding, head.parse("subcluster-adacos"), CLASSES, 0).train()
    opened = KINDS.parse(text).open(backbone.trainable, layer)
    clips = noise(args.batch_size, backbone.spec.sample_rate)
    rows = np.arange(args.batch_size)
    batches = Batches(
        clips, rows % CLASSES, CLASSES, rows, SAMPLERS.parse("plain"),
        augmentation.parse(["mixup"]), SECONDS * backbone.spec.sample_rate, 0, device,
    )  # fmt: skip
    portions = Portions(args.batch_size, 1, args.dtype)
    optimising = Optimising(learner, opened, batches, Rates(warmup=0), portions)
    times = []
    for step in range(STEPS):
        begin = time.perf_counter()
        optimising.step(batches.epoch(step), (0, step), 1.0)
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated()
    parameters = sum(p.numel() for block in opened.parameters for p in block)
    return {"parameters": parameters, "seconds": times[-1], "peak": peak / 2**30}


def main() -> None:
    """Print the table, a process a line."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--one", nargs=2, help="one backbone and scope, as JSON")
    args = parser.parse_args()
    if args.one:
        name, text = args.one
        print(json.dumps(measure(name, text, args)))
        return
    print(machine(), f"{args.device} {args.dtype}, {args.batch_size} clips of {SECONDS} s a step\n")
    print("| backbone | trained | parameters | seconds a step | clips a second | peak GiB |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name in BACKBONES:
        for text in SCOPES:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.finetune_cost", *sys.argv[1:], "--one", name, text],
                stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            found = json.loads(done.stdout.splitlines()[-1])
            rate = args.batch_size / found["seconds"]
            print(f"| {name} | {text} | {found['parameters']:,} | {found['seconds']:.1f} "
                  f"| {rate:.2f} | {found['peak']:.1f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
