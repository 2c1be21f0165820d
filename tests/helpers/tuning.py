"""A training as small as it can be, of any backbone, for the tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from extractors.backbone import Source
from extractors.clips.listing import list_clips
from finetune.data.waveforms import MemoryRoom, Waveforms, read_waveforms
from finetune.labels.classes import Labelling
from finetune.loop.model_file import Maker, load_tunable
from finetune.request import Course, Portions, Rates, Settings
from tests.helpers.small_models import SMALL

CPU = torch.device("cpu")
TRAINED = sorted(SMALL.keys() - {"logspec"})  # every network; of logmel its small one


def source_of(name: str, folder: Path) -> Source:
    """A backbone in its smallest size."""
    return Source("cnn", seed=0) if name == "logmel" else SMALL[name](folder)


def settings_of(name: str, source: Source, **changes: object) -> Settings:
    """Two short epochs on attributes."""
    hears_waveforms = name == "hf"  # the model of the tests: nothing to mask
    plain = Settings(
        name,
        source,
        Labelling(least=1),
        Rates(warmup=2),
        Portions(batch=4),
        Course(2, watch=1),
        embedding="attentive",
        size=8,
        head="arcface",
        augment=("mixup", "noise", *([] if hears_waveforms else ["specaugment"])),
        crop=1.0,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def waveforms_of(root: Path, settings: Settings, folder: Path) -> Waveforms:
    """The training clips of a root."""
    rate = load_tunable(settings, 0, CPU).spec.sample_rate
    return read_waveforms(list_clips([root]).only([], ["train"]).clips, rate, MemoryRoom(2**30, folder))


def make(root: Path, settings: Settings, path: Path, seed: int = 0) -> Path:
    """Train and write a file."""
    maker = Maker(settings, waveforms_of(root, settings, path.parent), CPU)
    return maker.make(path, seed, lambda _: None).path
