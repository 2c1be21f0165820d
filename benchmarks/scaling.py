"""What a cluster costs and gains: start, throughput by actors, and what binds a million clips.

usage: python -m benchmarks.scaling [WEIGHTS]

WEIGHTS is an EfficientAT checkpoint (default: random weights, which cost the same). Prints
Markdown. Everything runs on this machine: several actors share its cores, its disk is the network.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import ray
import soundfile
import torch

from benchmarks.timing import machine, seconds, spread
from cache.store import Store
from extractors.audio.decode import read_audio
from extractors.clips.listing import list_clips
from extractors.embedding.models import load_forwards
from extractors.engines import cluster
from extractors.engines.cluster import Pool, Share
from extractors.engines.local import extraction
from extractors.engines.ray_ import Round, token_in
from extractors.engines.tables import Table, manifest, tables_of
from extractors.engines.worker import Orders, TableWorker
from extractors.request import ExtractRequest

CPU = torch.device("cpu")
SECONDS, RATE = 10, 16_000
TABLES = 8
CLIPS = {"logmel": 240, "efficientat": 48}  # a table
NODES = (1, 4, 16, 64, 256)
NODE_CORES = 16
LINK = 1.25e9  # bytes/s of a node, 10 Gbit/s
STORAGE = 5e9  # bytes/s of the storage that all nodes read
MILLION, TABLE = 1_000_000, 1000  # clips, and clips a table


@dataclass(frozen=True)
class Inputs:
    """What of one clip was measured: seconds of one core, and bytes that travel."""

    decode: float
    model: float
    heard: float
    stored: float
    told: float


def write_clips(root: Path, count: int) -> Path:
    """Write noise as 16-bit WAV, the tables all of one size."""
    rng = np.random.default_rng(0)
    for table in range(TABLES):
        folder = root / f"machine{table}" / "train"
        folder.mkdir(parents=True)
        for i in range(count):
            noise = rng.normal(0, 0.1, SECONDS * RATE).astype(np.float32)
            name = f"section_00_source_train_normal_{i:04d}.wav"
            soundfile.write(folder / name, noise, RATE, subtype="PCM_16")
    return root


def call(data: Path, cache: Path, backbone: str, weights: str) -> ExtractRequest:
    """Make the request of an extraction on this machine's CPU."""
    files = () if backbone == "logmel" else (weights,)
    return ExtractRequest(data=(data,), cache_dir=cache, backbone=(backbone,), weights=files, device="cpu")


@contextmanager
def cache_folder(args: ExtractRequest) -> Iterator[ExtractRequest]:
    """Give the same request with an empty cache folder."""
    with TemporaryDirectory(dir=args.cache_dir.parent) as name:
        yield replace(args, cache_dir=Path(name))


def steady(times: Sequence[float], at_once: int, clips: int) -> float:
    """Clips a second once all work: of tables of one size, from the first answers to the last."""
    return clips * (len(times) - at_once) / (times[-1] - times[at_once - 1])


def local_rate(args: ExtractRequest, tables: Sequence[Table]) -> float:
    """Clips a second of one process."""
    times = []
    with cache_folder(args) as own:
        work = extraction(own, load_forwards(own))
        for table in tables:
            work.run(table.clips)
            times.append(time.perf_counter())
    return steady(times, 1, len(tables[0].clips))


def ray_rate(args: ExtractRequest, tables: Sequence[Table], actors: int) -> tuple[float, float]:
    """Seconds until all actors had answered less one table's time; clips a second from then on."""
    recipes = tuple(o.recipe for f in load_forwards(args) for o in f.outputs)
    begin = time.perf_counter()
    with cache_folder(args) as own, token_in(Store(own.cache_dir)) as token:
        orders = Orders(own, Path.cwd(), recipes, token, 1)
        answers = Round(TableWorker, orders, Pool(Share(actors, 1, 0))).answers(tables)
        times = [time.perf_counter() for _ in answers]
    rate = steady(times, actors, len(tables[0].clips))
    return times[actors - 1] - begin - len(tables[0].clips) * actors / rate, rate


@contextmanager
def processors(count: int) -> Iterator[None]:
    """Start a cluster of this machine that takes it for one of so many cores."""
    with patch.object(cluster, "cores", lambda: count), cluster.connected():
        yield


def starts(data: Path, folder: Path, rounds: int) -> dict[str, list[float]]:
    """Wall time of whole commands on a table of one clip, in turn."""
    found: dict[str, list[float]] = {"local": [], "ray": []}
    one = data / "machine0"
    for number in range(rounds):
        for engine, times in found.items():
            command = [sys.executable, "-m", "extractors.run", "--data", one, "--engine", engine,
                       "--cache-dir", folder / f"{engine}{number}"]  # fmt: skip
            times.append(seconds(partial(subprocess.run, command, check=True, capture_output=True)))
    return found


def inputs(args: ExtractRequest, table: Table) -> Inputs:
    """Measure one clip's costs on one core, and its bytes."""
    torch.set_num_threads(1)
    (forward,) = load_forwards(args)
    rate = forward.backbone.spec.sample_rate
    clips = table.clips[:16]
    decoded = [read_audio(clip.path, rate).samples for clip in clips]
    decode = median(lambda: [read_audio(clip.path, rate) for clip in clips]) / len(clips)
    model = median(lambda: [forward(samples[None]) for samples in decoded]) / len(clips)
    rows = len(table.clips)
    with cache_folder(args) as own:
        extraction(own, [forward]).run(table.clips)
        path = Store(own.cache_dir).path(forward.outputs[0].recipe, *table.key)
        stored = path.stat().st_size / rows
    heard = float(np.mean([clip.path.stat().st_size for clip in clips]))
    return Inputs(decode, model, heard, stored, manifest(table).nbytes / rows)


def median(action: Callable[[], object], rounds: int = 5) -> float:
    """Seconds of an action after one warm-up."""
    action()
    return float(np.median([seconds(action) for _ in range(rounds)]))


def predicted(one: Inputs, nodes: int) -> dict[str, float]:
    """Seconds that each resource alone needs for a million clips."""
    travels = MILLION * (one.heard + one.stored + one.told)
    work = one.decode + one.model  # take turns on the cores, all else runs beside them
    return {
        "cores": work * MILLION / (nodes * NODE_CORES),
        "link": travels / (nodes * LINK),
        "storage": travels / STORAGE,
        "largest table": work * TABLE,
    }


def show_rates(rates: dict[str, dict[str, list[float]]]) -> None:
    """Print clips a second by engine."""
    print("\n| engine | " + " | ".join(f"{name}, clips/s" for name in rates) + " |")
    print("| --- |" + " ---: |" * len(rates))
    for engine in next(iter(rates.values())):
        print(f"| {engine} | " + " | ".join(spread(r[engine]) for r in rates.values()) + " |")


def show_inputs(measured: dict[str, Inputs]) -> None:
    """Print what a clip costs, and what follows for a million."""
    print("\n| of a clip | decode, ms | model, ms | read, B | table row, B | manifest, B |")
    print("| --- |" + " ---: |" * 5)
    for name, one in measured.items():
        print(f"| {name} | {1e3 * one.decode:.2f} | {1e3 * one.model:.2f} | {one.heard:.0f} "
              f"| {one.stored:.0f} | {one.told:.0f} |")  # fmt: skip
    print("\n| nodes |" + "".join(f" {name}, minutes | binds |" for name in measured))
    print("| ---: |" + " ---: | --- |" * len(measured))
    for nodes in NODES:
        cells = ""
        for one in measured.values():
            parts = predicted(one, nodes)
            most = max(parts, key=lambda name: parts[name])
            cells += f" {parts[most] / 60:.3g} | {most} |"
        print(f"| {nodes} |{cells}", flush=True)


def by_actors(actors: int, folder: Path, told: Namespace) -> dict[str, list[tuple[float, float]]]:
    """Give starts and rates of each backbone on a cluster of so many actors of one core."""
    found = {}
    with processors(actors):
        for backbone in CLIPS:
            tables = tables_of(list_clips([folder / backbone]).clips)
            args = call(folder / backbone, folder / "cache", backbone, told.weights)
            found[backbone] = [ray_rate(args, tables, actors) for _ in range(told.rounds)]
    return found


def main() -> None:
    """Print the tables."""
    options = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument("weights", nargs="?", default="random")
    options.add_argument("--actors", nargs="+", type=int, default=(1, 2, 4), metavar="N")
    options.add_argument("--rounds", type=int, default=3, help="of everything on a cluster")
    told = options.parse_args()
    print(f"{machine()}, ray {ray.__version__}, load {os.getloadavg()[0]:.1f}")
    rates: dict[str, dict[str, list[float]]] = {}
    measured: dict[str, Inputs] = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        for backbone, count in CLIPS.items():
            tables = tables_of(list_clips([write_clips(folder / backbone, count)]).clips)
            args = call(folder / backbone, folder / "cache", backbone, told.weights)
            rates[backbone] = {"local": [local_rate(args, tables) for _ in range(told.rounds)]}
            measured[backbone] = inputs(args, tables[0])
        show_inputs(measured)
        whole = starts(folder / "efficientat", folder, told.rounds)
        each = ", ".join(f"{engine} {spread(times)} s" for engine, times in whole.items())
        print(f"\nwhole command, {CLIPS['efficientat']} clips: {each}", flush=True)
        for actors in told.actors:
            for backbone, found in by_actors(actors, folder, told).items():
                begun, rate = (list(each) for each in zip(*found, strict=True))
                print(f"{backbone}, {actors} actors: at work after {spread(begun)} s", flush=True)
                rates[backbone][f"ray, {actors} actors"] = rate
    show_rates(rates)
    print(f"\nload {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
