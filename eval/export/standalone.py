"""Score clips by a bank that `asd export` wrote; copied into its folder as ``score.py``.

There it needs NumPy, and onnxruntime where a network listens; no torch, no FAISS, no network. It
reads WAV by itself, and what soundfile reads where that is installed::

    python score.py [--section MACHINE/section_00] CLIP.wav ...

A line a clip: ``clip,score,decision``; the decision is 1 where the score is above the threshold.
The modules beside it are those that scored on the machine which wrote the bank.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import wave
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
_WIDTHS = {1: "u1", 2: "<i2", 4: "<i4"}  # bytes a sample


class ClipError(Exception):
    """A clip that cannot be scored, or a folder that is damaged, with the reason."""


def read_wav(path: Path) -> tuple[NDArray[np.float32], int]:
    """Read a file: (T, C) in [-1, 1], and its rate in Hz."""
    try:
        import soundfile  # noqa: PLC0415 (only where it is installed)
    except ImportError:
        soundfile = None
    if soundfile is not None:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return samples, int(rate)
    with wave.open(str(path)) as file:
        width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
        data = file.readframes(file.getnframes())
    if width == 3:  # 24 bits: as the upper three bytes of 32
        padded = np.zeros((len(data) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        values = padded.view("<i4")[:, 0] / 2.0**31
    else:
        values = np.frombuffer(data, _WIDTHS[width]) / 2.0 ** (8 * width - 1) - (width == 1)
    return values.astype(np.float32).reshape(-1, channels), rate


class Part:
    """What of a bank's vectors one model makes.

    Parameters
    ----------
    told
        Its entry in ``bank.json``.
    files
        Name of a file of the folder to its bytes.
    """

    def __init__(self, told: dict[str, Any], files: Callable[[str], bytes]) -> None:
        from cache.heard import read_length  # noqa: PLC0415 (beside this file, in the folder)

        self.rate, self.channel = int(told["rate"]), str(told["channel"])
        self.length = read_length(told["length"])
        self.least, self.most = int(told["least"]), int(told["most"])
        self.vector: Callable[[Samples], Samples]
        if "network" in told:
            import onnxruntime  # noqa: PLC0415 (only where a network listens)

            quiet = onnxruntime.SessionOptions()
            quiet.log_severity_level = 3
            graph, where = files(told["network"]), ["CPUExecutionProvider"]
            session = onnxruntime.InferenceSession(graph, quiet, providers=where)
            self.vector = lambda waveforms: np.asarray(session.run(None, {"input": waveforms})[0], np.float32)
        else:
            from extractors import backbones, pooling  # noqa: PLC0415 (beside this file)
            from extractors.backbone import Source  # noqa: PLC0415

            front: Any = backbones.find(told["backbone"]).load(Source(told["variant"]), "cpu")  # type: ignore[arg-type]
            how, layer, bands = pooling.find(told["pooling"], front.spec.tuned), told["layer"], told["bands"]
            self.vector = lambda waveforms: how(front.features(waveforms, [layer])[0], bands)

    def __call__(self, samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
        """Compute the (1, D) vector of a clip (T, C)."""
        mono = samples.mean(axis=1, dtype=np.float32) if self.channel == "average" else None
        if mono is None:
            number = {"near": 0, "far": 1}.get(self.channel, self.channel)
            if int(number) >= samples.shape[1]:
                raise ClipError(f"no channel {self.channel}: it has {samples.shape[1]}")
            mono = samples[:, int(number)]
        if rate != self.rate:
            try:
                import soxr  # noqa: PLC0415 (only where it is installed)
            except ImportError:
                raise ClipError(f"{rate} Hz; record at {self.rate} Hz, or pip install soxr") from None
            mono = soxr.resample(mono, rate, self.rate, quality="HQ")
        mono = np.ascontiguousarray(mono if self.length is None else self.length.fit(mono, self.rate))
        if not self.least <= len(mono) <= self.most:
            ends = f"{self.least / self.rate:g} to {self.most / self.rate:g} s"
            if self.least == self.most:
                ends = f"{self.most / self.rate:g} s, the length that the bank was exported for"
            raise ClipError(f"{len(mono) / self.rate:g} s long; expected {ends}")
        return self.vector(mono[None])


class ExportedBank:
    """A section of an exported bank.

    Parameters
    ----------
    folder
        That `asd export` wrote.
    section
        ``MACHINE/section_<nn>``; may be left out of a bank of one.
    """

    def __init__(self, folder: Path, section: str = "") -> None:
        from cache.base.options import make  # noqa: PLC0415 (beside this file)
        from index.knn import NearestNeighbours  # noqa: PLC0415
        from index.scorer import find  # noqa: PLC0415

        self._folder, self._told = folder, json.loads((folder / "bank.json").read_text("utf-8"))
        sections = self._told["sections"]
        if (not section and len(sections) > 1) or (section and section not in sections):
            raise ClipError(f"the bank holds {', '.join(sections)}: say which with --section")
        told = sections[section or next(iter(sections))]
        with np.load(io.BytesIO(self._file(told["file"])), allow_pickle=False) as arrays:
            state: dict[str, Any] = {name: arrays[name] for name in arrays.files}
        for name in told["neighbours"]:
            state[name] = NearestNeighbours.of_vectors(state[name])
        self._scorer = make(find(told["scorer"]), told["options"])
        self._scorer.restore(state)
        self.threshold = float("inf") if told["threshold"] is None else float(told["threshold"])
        self._parts = [Part(each, self._file) for each in self._told["parts"]]

    def _file(self, name: str) -> bytes:
        data = (self._folder / name).read_bytes()
        if hashlib.sha256(data).hexdigest() != self._told["files"][name]:
            raise ClipError(f"{name} is damaged: its SHA-256 is another; export the bank again")
        return data

    def score(self, path: Path) -> float:
        """Score a clip; higher is more anomalous."""
        samples, rate = read_wav(path)
        if not len(samples) or not np.isfinite(samples).all():
            raise ClipError("it is empty, or holds values that are no numbers")
        vectors = np.concatenate([part(samples, rate) for part in self._parts], axis=1)
        return float(self._scorer.score(vectors)[0])


def main(argv: Sequence[str]) -> int:
    """Score clips: exit code 0, or 1 where one could not be scored, or 2 for a mistake in the call."""
    clips, section = list(argv), ""
    if clips[:1] == ["--section"] and len(clips) > 1:
        section, clips = clips[1], clips[2:]
    asks = clips[:1] in (["-h"], ["--help"])
    if asks or not clips:
        (sys.stdout if asks else sys.stderr).write(
            "usage: python score.py [--section MACHINE/section_00] CLIP.wav ...\n"
        )
        return 0 if asks else 2
    try:
        bank = ExportedBank(Path(__file__).parent, section)
    except (ClipError, OSError, ImportError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    code = 0
    sys.stdout.write("clip,score,decision\n")
    for name in clips:
        try:
            score = bank.score(Path(name))
        except Exception as error:  # noqa: BLE001 -- whatever a file does, the others are scored
            sys.stderr.write(f"error: {name}: {error}\n")
            code = 1
            continue
        sys.stdout.write(f"{name},{score:.9g},{int(score > bank.threshold)}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
