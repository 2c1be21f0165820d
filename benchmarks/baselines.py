"""Cost of the task's autoencoder: an epoch of 1,000 clips of 10 s, threads, memory, features.

``python -m benchmarks.baselines``; clips are noise, whose sound does not matter to the time.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch

from benchmarks.timing import machine, seconds
from cache.table import ClipKey, Section
from eval.baselines.frames import FrameBatches, Frames, read_frames
from eval.baselines.model import Autoencoder, train
from extractors.audio.hearing import Hearing
from extractors.clips.listing import Clip

CPU = torch.device("cpu")
FRAMES = 313  # of a clip of 10 s
MIB = 2**20


def noise(clips: int) -> Frames:
    """Frames of clips of 10 s, as loud as machines are."""
    values = np.random.default_rng(0).normal(-30, 5, (clips * FRAMES, 128)).astype(np.float32)
    listed = tuple(Clip(f"fan/train/{i}.wav", Path(), Section("fan", 0), "train") for i in range(clips))
    bounds = np.arange(clips + 1, dtype=np.int64) * FRAMES
    return Frames(values, bounds, listed, tuple(ClipKey(clip.clip_id, "") for clip in listed))


def epoch(clips: int, threads: int) -> float:
    """Seconds an epoch."""
    torch.set_num_threads(threads)
    batches = FrameBatches(noise(clips), range(clips), 2**30, CPU)
    return seconds(lambda: list(train(Autoencoder(0), batches, 0, 1)))


def side_by_side(clips: int) -> float:
    """Wall seconds of an epoch in each of two processes at once, start-up not counted."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(epoch, [(10, 1)] * 2, chunksize=1)
        return max(pool.starmap(epoch, [(clips, 1)] * 2, chunksize=1))


def features(clips: int) -> float:
    """Clips a second from WAV files to frames."""
    with tempfile.TemporaryDirectory() as folder:
        listed = written(Path(folder), clips)
        torch.set_num_threads(1)
        return clips / seconds(lambda: read_frames(listed, Hearing(), 2**30, Path(folder)))


def written(folder: Path, clips: int) -> list[Clip]:
    """One file of 10 s, named several times."""
    wave = np.random.default_rng(0).normal(0, 0.1, 160_000)
    soundfile.write(folder / "clip.wav", wave, 16_000, subtype="PCM_16")
    one = Clip("fan/train/clip.wav", folder / "clip.wav", Section("fan", 0), "train", "source")
    return [one] * clips


def memory(clips: int, budget: int) -> float:
    """Most memory of its own that a process has while it reads clips and goes through them, MiB.

    Pages of a mapped file, which the system takes back at need, are not counted.
    """
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        torch.set_num_threads(1)
        frames = read_frames(written(Path(folder), clips), Hearing(), budget, Path(folder))
        batches = FrameBatches(frames, range(clips), budget, CPU).epoch(torch.Generator())
        return max(_own_memory() for number, _ in enumerate(batches) if number % 50 == 0)


def _own_memory() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


def apart(clips: int, budget: int) -> float:
    """`memory` in a process of its own, whose peak is its own too."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(memory, (clips, budget))


def main() -> None:
    """Measure and print."""
    clips = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print(machine())
    epoch(10, 1)
    for threads in (1, 2):
        print(f"{clips} clips, an epoch, {threads} threads: {epoch(clips, threads):.1f} s")
    print(f"{clips} clips, an epoch in each of two processes: {side_by_side(clips):.1f} s")
    print(f"features: {features(300):.0f} clips/s")
    for count in (250, 1000, 2000):
        print(f"{count} clips, peak memory: {apart(count, 2**31):.0f} MiB without bound, "
              f"{apart(count, 64 * MIB):.0f} MiB with 64 MiB of frames")  # fmt: skip


if __name__ == "__main__":
    main()
