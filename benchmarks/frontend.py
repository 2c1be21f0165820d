"""Log-mel of 10 s clips: ours in NumPy, the networks' in torch, librosa's; same clips, one run.

usage: python -m benchmarks.frontend [ROUNDS]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import soundfile
import torch

from benchmarks.timing import HEAD, Row, in_turn, machine
from cache.store import Store
from extractors import pooling
from extractors.audio.decode import read_audio
from extractors.backbone import Source
from extractors.backbones.logmel import SPEC
from extractors.clips.listing import list_clips
from extractors.embedding.embedder import Forward, Output
from extractors.embedding.models import load_model
from extractors.engines.local import Extraction
from extractors.nets.melspectrogram import LogMel

CLIPS, SECONDS, RATE = 200, 10, 16_000


def peer(wave: np.ndarray) -> np.ndarray:
    """Compute the same spectrogram with librosa, (time, 128) dB."""
    power = librosa.feature.melspectrogram(
        y=wave, sr=RATE, n_fft=1024, hop_length=512, n_mels=128, center=False
    )
    return np.asarray(10 * np.log10(np.maximum(power, 1e-10)).T)


def write_clips(root: Path) -> None:
    """Write noise clips in the layout of the task."""
    folder = root / "noise" / "train"
    folder.mkdir(parents=True)
    for i in range(CLIPS):
        wave = np.random.default_rng(i).normal(0, 0.1, SECONDS * RATE)
        soundfile.write(folder / f"section_00_source_train_normal_{i:04d}.wav", wave, RATE)


def main() -> None:
    """Print clips per second and ratios."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    torch.set_num_threads(1)
    backbone: Any
    backbone, device = load_model("logmel", Source(), "cpu")
    network = LogMel(RATE, 1024, 512, 128)
    output = Output(SPEC, 0, pooling.find("mean", {}), "merge")
    size = SPEC.batch["cpu"]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        write_clips(root)
        clips = list_clips([root]).clips
        waves = [read_audio(clip.path, RATE).samples for clip in clips]
        batch = np.stack(waves)
        tensors = torch.from_numpy(batch)
        number = iter(range(10_000))

        def ours(part: np.ndarray) -> object:
            return output.pooling(backbone.features(part, [0])[0], "merge")

        def theirs() -> None:
            with torch.inference_mode():
                for part in torch.split(tensors, size):
                    network(part).mean(1).numpy()

        def whole_ours() -> None:
            store = Store(Path(folder) / str(next(number)))
            Extraction([Forward(backbone, [output], device)], store, size).run(clips)

        def whole_peer() -> list[np.ndarray]:
            return [peer(librosa.load(clip.path, sr=None)[0]).mean(axis=0) for clip in clips]

        actions: dict[str, Callable[[], object]] = {
            "ours, arrays": lambda: [ours(part) for part in np.split(batch, CLIPS // size)],
            "torch, tensors": theirs,
            "librosa, arrays": lambda: [peer(wave).mean(axis=0) for wave in waves],
            "ours, files to Parquet": whole_ours,
            "librosa, files to means": whole_peer,
        }
        times = in_turn(actions, rounds)
    print(machine(), HEAD, sep="\n")
    for name, goal in (("librosa, arrays", 2.0), ("torch, tensors", None)):
        print(Row("log-mel, from arrays", times["ours, arrays"], name, times[name], CLIPS, goal))
    files, means = times["ours, files to Parquet"], times["librosa, files to means"]
    print(Row("log-mel, from files to a table", files, "librosa, files to means", means, CLIPS))


if __name__ == "__main__":
    main()
