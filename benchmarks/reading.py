"""What reading costs: files a second of one core against `soundfile.read` alone, and beside a network.

    python -m benchmarks.reading [DATA]

Without DATA, made-up clips of 10 s, 16 kHz, 16 bits, as the challenge's. Reading is timed in processor
seconds, so that neighbours do not count; the whole way to a table in wall time, pass next to pass with the
network alone on as many threads, BEATs with random weights. Prints Markdown; five minutes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
import torch

from benchmarks.timing import HEAD, Row, in_turn
from cache.base.processors import model_name
from cache.store import Store
from extractors.audio.decode import decode_file, read_audio, resampled
from extractors.clips.clip import Clip
from extractors.clips.listing import list_clips
from extractors.embedding.embedder import Forward
from extractors.embedding.models import load_forwards
from extractors.embedding.throughput import usual
from extractors.engines.local import Extraction
from extractors.request import ExtractRequest

_FILES, _ROUNDS = 100, 7
_DEEP, _DEEP_ROUNDS = 20, 3  # clips and rounds through the network


def written(folder: Path) -> Path:
    """Write a machine of noise clips, and return its data root."""
    for number in range(_FILES):
        path = folder / "machine" / "normal" / f"{number:03d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).normal(0, 0.1, 160_000)
        soundfile.write(path, noise, 16_000, subtype="PCM_16")
    return folder


def forward_of(backbone: str) -> Forward:
    """Load a backbone with random weights where it has any."""
    weights = () if backbone == "logmel" else ("random",)
    return load_forwards(ExtractRequest(backbone=(backbone,), weights=weights, device="cpu"))[0]


def reading(clips: list[Clip]) -> None:
    """Print the rows of ways to read, in processor seconds."""
    logmel = forward_of("logmel")

    def features(clip: Clip) -> object:
        return logmel(read_audio(clip.path, 16_000).samples[None])

    ways: dict[str, Callable[[Clip], object]] = {
        "`soundfile.read`": lambda clip: soundfile.read(clip.path, dtype="float32"),
        "decoded, with SHA-256 and checks of header and numbers": lambda clip: decode_file(clip.path),
        "and looked at: what its recording is": lambda clip: resampled(decode_file(clip.path), 16_000),
        "and to log-mel": features,
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(_ROUNDS + 1):
        for name, way in ways.items():
            begin = time.process_time()
            for clip in clips:
                way(clip)
            if turn:
                rates[name].append(time.process_time() - begin)
    alone = rates.pop("`soundfile.read`")
    for (name, found), goal in zip(rates.items(), (0.8, None, None), strict=True):
        print(Row(f"a file {name}, of a core", found, "`soundfile.read`", alone, len(clips), goal, "files"))


def beside(clips: list[Clip]) -> None:
    """Print the row of the whole way from files to a table beside the network alone."""
    beats = forward_of("beats")
    read = [read_audio(clip.path, 16_000).samples[None] for clip in clips]

    plan = replace(usual(beats.backbone.spec, beats.device), batch=1)  # what a run without measuring uses

    def alone() -> None:
        with plan.pool() as pool:
            list(pool.map(beats, read))

    def to_a_table() -> None:
        with TemporaryDirectory() as folder:
            Extraction([beats], Store(Path(folder)), batch_size=1).run(clips)

    times = in_turn({"alone": alone, "table": to_a_table}, _DEEP_ROUNDS)
    what = "BEATs, from files to a table"
    print(Row(what, times["table"], "the model alone", times["alone"], len(clips), 1 / 1.05))


def main() -> None:
    """Measure, and print tables."""
    torch.set_num_threads(1)
    print(f"{model_name()}, soundfile {soundfile.__version__}, NumPy {np.__version__}\n{HEAD}")
    with TemporaryDirectory() as folder:
        root = Path(sys.argv[1]) if len(sys.argv) > 1 else written(Path(folder))
        clips = list(list_clips([root]).clips)[:_FILES]
        reading(clips)
        beside(clips[:_DEEP])


if __name__ == "__main__":
    main()
