"""Official scores of front ends without weights in other noises and with other faults, as Markdown.

usage: python -m benchmarks.mixtures DATA

DATA holds dev_data, eval_data and ground_truth. The recordings as they are; with noise or another
machine's sound added to training and test clips alike; and their normal test clips against faults
of finetune.synthesise made from them, below and above 2 kHz.
"""

from __future__ import annotations

import zlib
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from benchmarks.scorers import evaluate
from cache.base.options import parse
from cache.table import ClipKey, EmbeddingTable, Section
from eval.metrics.sections import official_score
from eval.results.clips import labels_of
from eval.results.submission import Submission
from eval.results.truth import find_truth
from extractors import pooling
from extractors.audio.decode import read_audio
from extractors.audio.waves import Wave, with_part
from extractors.backbone import ArrayBackbone, Source
from extractors.clips.listing import Clip, list_clips
from extractors.embedding.models import load_model
from finetune.synthesis.method import Material, find, levelled
from index.scorers.fusion import Fusion

RATE = 16_000
EMBEDDINGS = "min-distance@{0},mahalanobis@{0},ldn@{0}"
POOLED, THREE = "pooled@{0}:share=3", "min-distance@{0},mahalanobis@{0},ldn@{0}"
HALVES = f"{POOLED},{THREE}"


def on(parts: dict[str, str]) -> str:
    """Members of a fusion: block to what is fitted to it."""
    return ",".join(members.format(block) for block, members in parts.items())


MEL, LINEAR, ERB = "logmel", "logspec.linear", "logspec.erb"
SYSTEMS = {
    "three on log-mel: the default before": on({MEL: THREE}),
    "pooled on linear": on({LINEAR: POOLED}),
    "pooled on ERB": on({ERB: POOLED}),
    "three on linear": on({LINEAR: THREE}),
    "three on ERB": on({ERB: THREE}),
    "pooled on both": on({LINEAR: POOLED, ERB: POOLED}),
    "three on both": on({LINEAR: THREE, ERB: THREE}),
    "pooled on linear, three on ERB": on({LINEAR: POOLED, ERB: THREE}),
    "pooled on both, three on log-mel": on({LINEAR: POOLED, ERB: POOLED, MEL: THREE}),
    "pooled and three on both: the default": on({LINEAR: HALVES, ERB: HALVES}),
}
Blocks = dict[str, tuple[int, int]]
Change = Callable[[Generator, Wave, list[Wave]], Wave]


def as_is(_rng: Generator, wave: Wave, _others: list[Wave]) -> Wave:
    """Leave a clip alone."""
    return wave


def noise(snr: float, slope: float) -> Change:
    """Add noise of a slope, dB an octave, at an SNR against the recording, dB."""
    return method(f"noise:snr={snr}:slope={slope}")


def other_machine(snr: float) -> Change:
    """Add a training clip of the other machine."""

    def change(rng: Generator, wave: Wave, others: list[Wave]) -> Wave:
        other = others[rng.integers(len(others))]
        return levelled(with_part(wave, np.resize(other, len(wave)), -snr), wave)[0]

    return change


def method(text: str) -> Change:
    """Apply a method of finetune.synthesise, at the clip's own level."""
    made = parse(text, find)

    def change(rng: Generator, wave: Wave, _others: list[Wave]) -> Wave:
        return levelled(made.apply(rng, Material((wave,), RATE)).wave, wave)[0]

    return change


BACKGROUNDS = {
    "as they are": as_is,
    "white noise, 0 dB": noise(0, 0),
    "pink noise, 6 dB": noise(6, -3),
    "pink noise, 0 dB": noise(0, -3),
    "brown noise, 0 dB": noise(0, -6),
    "blue noise, 6 dB": noise(6, 3),
    "the other machine, 0 dB": other_machine(0),
}
FAULTS = {
    "bearing below 2 kHz": method("bearing:resonance=0.06..0.2:level=-20..-10"),
    "bearing above 2 kHz": method("bearing:resonance=0.3..0.9:level=-20..-10"),
    "harmonics": method("harmonics:level=-24..-12"),
    "modulation": method("modulation:depth=0.5..0.9"),
    "rubbing": method("rubbing:level=-24..-12"),
}


def embedded(models: list[ArrayBackbone], waves: list[Wave]) -> NDArray[np.float32]:
    """(N, D) embeddings by all models, side by side."""
    rows = []
    for wave in waves:
        samples = wave.astype(np.float32)[None]
        parts = [
            pooling.find(model.spec.pooling, model.spec.tuned)(model.features(samples, [0])[0], "merge")
            for model in models
        ]
        rows.append(np.concatenate(parts, axis=1)[0])
    return np.array(rows)


class Machine:
    """A section's clips and, of its test clips, their truth."""

    def __init__(self, section: Section, clips: list[Clip], truth: Path) -> None:
        self.section, self.truth = section, truth
        own = [clip for clip in clips if clip.section == section]
        self.clips = {s: [c for c in own if c.split == s] for s in ("train", "test")}
        self.waves = {
            split: [read_audio(c.path, RATE).samples.astype(np.float64) for c in clips]
            for split, clips in self.clips.items()
        }
        names = tuple(Path(clip.clip_id).name for clip in self.clips["test"])
        empty = Submission(section, names, np.zeros(len(names)), np.zeros(len(names), dtype=int))
        known = labels_of(self.table("test", np.zeros((len(names), 1), dtype=np.float32), {"x": (0, 1)}))
        found = find_truth(empty, truth, known)
        if found is None or found.target is None:
            raise SystemExit(f"no truth for {section} in {truth}")
        self.normal = ~np.asarray(found.anomaly)
        self.domains = ["target" if target else "source" for target in found.target]

    def table(self, split: str, values: NDArray[np.float32], blocks: Blocks) -> EmbeddingTable:
        """Table of embeddings of a split's clips."""
        keys = tuple(ClipKey(clip.clip_id, "", clip.domain, clip.condition) for clip in self.clips[split])
        return EmbeddingTable(self.section, split, keys, values, blocks)

    def faulty(
        self, normals: NDArray[np.float32], faults: NDArray[np.float32], blocks: Blocks
    ) -> EmbeddingTable:
        """Table of the normal test clips and, of each, one with a fault."""
        domains = [d for d, normal in zip(self.domains, self.normal, strict=True) if normal]
        keys = tuple(
            ClipKey(f"{kind}_{i:04d}.wav", "", domain, kind)
            for kind in ("normal", "anomaly")
            for i, domain in enumerate(domains)
        )
        return EmbeddingTable(self.section, "test", keys, np.concatenate([normals, faults]), blocks)


def changed(change: Change, name: str, waves: list[Wave], others: list[Wave]) -> list[Wave]:
    """Change every wave, the same for the same name."""
    seed = zlib.crc32(name.encode())
    return [change(np.random.default_rng([seed, i]), w, others) for i, w in enumerate(waves)]


def main() -> None:
    """Print a table: a line a condition, a column a system, each machine's score and their mean."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    clips = list_clips([data / "dev_data", data / "eval_data"]).clips
    machines = [
        Machine(section, list(clips), data / "ground_truth")
        for section in sorted({clip.section for clip in clips})
    ]
    models: Any = [load_model(name, Source(), "cpu")[0] for name in ("logspec", "logmel")]
    blocks = {"logspec.linear": (0, 64), "logspec.erb": (64, 128), "logmel": (128, 256)}
    plain = {
        (m.section, split): embedded(models, waves) for m in machines for split, waves in m.waves.items()
    }
    print(f"| condition | {' | '.join(SYSTEMS)} |")
    print("| --- " + "| ---: " * len(SYSTEMS) + "|")

    def line(condition: str, tables: list[tuple[EmbeddingTable, EmbeddingTable]], truth: Path) -> None:
        cells = []
        for over in SYSTEMS.values():
            results = {test.section: evaluate(Fusion(over), train, test, truth) for train, test in tables}
            each = [100 * (official_score({s: r}) or 0) for s, r in results.items()]
            cells.append(f"{' / '.join(f'{v:.1f}' for v in each)}: {np.mean(each):.1f}")
        print(f"| {condition} | {' | '.join(cells)} |", flush=True)

    for name, change in BACKGROUNDS.items():
        tables = []
        for m, other in zip(machines, reversed(machines), strict=True):
            made = {
                split: embedded(models, changed(change, f"{name} {split}", waves, other.waves["train"]))
                for split, waves in m.waves.items()
            }
            tables.append((m.table("train", made["train"], blocks), m.table("test", made["test"], blocks)))
        line(name, tables, data / "ground_truth")
    for name, change in FAULTS.items():
        tables = []
        for m in machines:
            healthy = [w for w, normal in zip(m.waves["test"], m.normal, strict=True) if normal]
            faults = embedded(models, changed(change, name, healthy, []))
            test = m.faulty(plain[m.section, "test"][m.normal], faults, blocks)
            tables.append((m.table("train", plain[m.section, "train"], blocks), test))
        line(f"fault: {name}", tables, data / "none")


if __name__ == "__main__":
    main()
