"""The options of a training, declared once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.base.options import REQUIRED, Options, documented, option, option_group
from cache.files.places import here, place
from cache.heard import RESIDUAL, Heard
from cache.select import cache_dir_option
from extractors import backbones
from extractors.audio.hearing import Hearing
from extractors.backbone import EMBEDDINGS, Source
from extractors.fetching.offline import offline_option
from extractors.request import device_option
from finetune.data import AUGMENTATIONS
from finetune.data.sampling import SAMPLERS
from finetune.labels.classes import Labelling
from finetune.model import HEADS
from finetune.model.scope import SCOPES

SCHEDULES = ("cosine", "constant")
PRECISIONS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


@documented
@dataclass(frozen=True)
class Rates(Options):
    """Learning rates and weight decay of AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101)."""

    network: float = option(
        1e-4, "of the topmost block and its adapters", least=0, flag="--learning-rate",
        metavar="RATE",
    )  # fmt: skip
    head: float = option(1e-3, "of embedding and head", least=0, flag="--head-learning-rate", metavar="RATE")
    decay: float = option(
        1.0, "of the rate from each block to the one below", least=0, most=1, flag="--layer-decay",
        metavar="FACTOR",
    )  # fmt: skip
    weight_decay: float = option(0.01, "of the weights a step", least=0, metavar="X")
    warmup: int = option(100, "steps of linear rise", least=0, metavar="STEPS")
    schedule: str = option(SCHEDULES[0], "after that, down to 0 at the end or not", choices=SCHEDULES)
    clip: float = option(1.0, "largest norm of the gradients", least=1e-6, flag="--clip-norm", metavar="NORM")

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of the learning rates at a step, from 0, of `steps`."""
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        if self.schedule == "constant":
            return rise
        done = min(1.0, max(0, step - self.warmup) / max(1, steps - self.warmup))
        return rise * 0.5 * (1 + math.cos(math.pi * done))


@documented
@dataclass(frozen=True)
class Portions(Options):
    """Clips of a forward pass and of a step, and the number format."""

    batch: int = option(8, "clips a forward pass and device", least=1, flag="--batch-size", metavar="N")
    accumulate: int = option(1, "forward passes a step", least=1, metavar="N")
    precision: str = option("float32", "of the arithmetic", choices=tuple(PRECISIONS), flag="--dtype")


@documented
@dataclass(frozen=True)
class Course(Options):
    """How long a training goes on; `held` are the rows of the clips held out."""

    epochs: int = option(25, "at most", least=1, metavar="N")
    patience: int | None = option(
        None, "stop when the held-out loss falls no more, and take its best epoch", least=1,
        metavar="EPOCHS",
    )  # fmt: skip
    watch: int = option(
        5, "how often the training clips' neighbours are looked at; 0 for never", least=0,
        metavar="EPOCHS",
    )  # fmt: skip
    held: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


@documented
@dataclass(frozen=True)
class Settings(Options):
    """How a model is trained, everything but its data and its seed.

    `source` is where the backbone's weights come from, `hearing` how recordings are heard.
    """

    backbone: str = option(
        "logmel:cnn", "{choices} (default: logmel:cnn, from scratch)", choices=backbones.names,
        named=True, metavar="NAME[:VARIANT]",
    )  # fmt: skip
    source: Source = field(default_factory=Source)
    labelling: Labelling = option_group(Labelling, "labels")
    rates: Rates = option_group(Rates, "learning rates")
    portions: Portions = option_group(Portions)
    course: Course = option_group(Course, "training")
    layer: int | None = option(
        None, "where the embedding stands (default: the highest)", least=0, metavar="N"
    )
    embedding: str = option(
        "attentive",
        "statistics of the layer's frames, projected; or the backbone's own embedding",
        choices=EMBEDDINGS,
    )
    size: int = option(256, "values of the embedding", least=1, metavar="D")
    head: str = option(
        "subcluster-adacos", "{choices}", choices=HEADS.names, named=True,
        metavar="NAME[:KEY=VALUE...]",
    )  # fmt: skip
    scope: str = option(
        "full", "{choices}", choices=SCOPES.names, named=True, flag="--train",
        metavar="NAME[:KEY=VALUE...]",
    )  # fmt: skip
    sampling: str = option(
        "balanced", "{choices}", choices=SAMPLERS.names, named=True, metavar="NAME[:KEY=VALUE]"
    )
    augment: tuple[str, ...] = option(
        ("mixup",), "{choices}, in this order; nothing for none", choices=AUGMENTATIONS.names,
        named=True, nargs="*", metavar="NAME[:KEY=VALUE...]",
    )  # fmt: skip
    crop: float = option(10.0, "longest part of a clip that is shown", least=0.01, metavar="SECONDS")
    held: float = option(
        0.0, "of each class, to watch the loss of", least=0, most=0.5, flag="--hold-out",
        metavar="SHARE",
    )  # fmt: skip
    hearing: Hearing = field(default_factory=Hearing)


def read_weights_file(text: str) -> Path:
    """Read the name of a safetensors file of this machine."""
    if not text.endswith(".safetensors"):
        raise AsdError(f"--out {text}: must end in .safetensors")
    return here(text)


@documented
@dataclass(frozen=True, kw_only=True)
class TrainRequest(Options):
    """Training clips, the backbone to train on them, and where the weights go."""

    data: tuple[Path, ...] = option(
        REQUIRED, "data roots; all their machines are learnt together", read=place, metavar="ROOT"
    )
    out: Path = option(
        REQUIRED, "the file; of several seeds, FILE_seed_<n>.safetensors", read=read_weights_file,
        metavar="FILE.safetensors",
    )  # fmt: skip
    machine: tuple[str, ...] = option((), "only these (default: all)", metavar="NAME")
    pseudo_anomalies: tuple[Path, ...] = option(
        (), "synthetic anomalies of finetune.synthesise, as further classes", read=here,
        metavar="ROOT",
    )  # fmt: skip
    weights: str | None = option(
        None, "the checkpoint to begin with: a file or a name of extractors.weights list, or "
        "random (default: the published one, fetched at first use)", metavar="FILE",
    )  # fmt: skip
    accept_weights: tuple[str, ...] = option(
        (), "use a file of this hash though another is published under its name", metavar="SHA256"
    )
    seeds: tuple[int, ...] = option((0,), "one training each", least=0, metavar="N")
    overwrite: bool = option(False, "replace a file of another training")
    device: str = device_option()
    offline: bool = offline_option()
    tensorboard: Path | None = option(None, "write curves there as well", read=here, metavar="FOLDER")
    memory: float = option(4.0, "of decoded clips; more go to a file in --cache-dir", least=0, metavar="GIB")
    cache_dir: Path = cache_dir_option()
    heard: Heard = option_group(Heard)
    settings: Settings = option_group(Settings, "model")

    def __post_init__(self) -> None:
        super().__post_init__()
        labelling = self.settings.labelling
        if self.settings.course.patience is not None and not self.settings.held:
            raise AsdError("--patience watches held-out clips: give --hold-out 0.1, say")
        if labelling.kind != "attributes" and (labelling.attributes or labelling.pseudo):
            raise AsdError("--attributes and --pseudo-labels belong to --labels attributes")
        if labelling.pseudo_by != "section" and not labelling.pseudo:
            raise AsdError("--pseudo-by says what --pseudo-labels N clusters: give N too")
        if labelling.groups and labelling.kind != "groups":
            raise AsdError("--groups belongs to --labels groups")
        if len(set(self.seeds)) < len(self.seeds):
            raise AsdError(f"--seeds {' '.join(map(str, self.seeds))}: give each once")
        if self.heard.channel in ("both", "all") or "," in self.heard.channel:
            raise AsdError(f"--channel {self.heard.channel}: one model hears one channel; train one of each")
        if self.heard.channel.startswith(RESIDUAL):
            raise AsdError(
                f"--channel {self.heard.channel} subtracts embeddings: train with --channel near, and "
                "extract with these weights and that channel"
            )

    def path(self, seed: int) -> Path:
        """Name the file of a seed."""
        if len(self.seeds) == 1:
            return self.out
        return self.out.with_name(f"{self.out.stem}_seed_{seed}{self.out.suffix}")
