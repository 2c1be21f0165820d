"""One fine-tuned file: from decoded clips and a rule to weights and their record."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch

from cache.base.errors import AsdError
from cache.base.progress import Progress, unseen
from extractors.audio.decode import RESAMPLER
from extractors.backbone import Tunable
from extractors.embedding import finetuned as tuned
from extractors.embedding.finetuned import Embedding, FinetunedBackbone
from finetune.data import augmentation
from finetune.data.batches import Batches
from finetune.data.sampling import SAMPLERS
from finetune.data.waveforms import Waveforms
from finetune.labels.rules import Labels
from finetune.loop.optimising import Optimising
from finetune.loop.state import Row
from finetune.loop.training import Training, hold_out
from finetune.model import head
from finetune.model.learner import build, measured
from finetune.model.scope import SCOPES
from finetune.request import Settings

_PACKAGES = ("machine-asd", "torch", "torchaudio", "accelerate", "peft", "transformers")


@dataclass(frozen=True)
class TrainingRecord:
    """Result of a training: its file and history.

    Attributes
    ----------
    path
        The file.
    history
        A row an epoch.
    classes
        Their names.
    notes
        What was done that the options do not show.
    is_new
        Whether it was trained now; else the file was there already.
    """

    path: Path
    history: list[Row]
    classes: tuple[str, ...]
    notes: list[str]
    is_new: bool


@dataclass(frozen=True)
class Maker:
    """Trains one model a seed on the same clips.

    Attributes
    ----------
    settings
        How.
    waveforms
        The clips.
    device
        Where.
    overwrite
        Whether a file of another training may be replaced.
    progress
        How many steps are done.
    """

    settings: Settings
    waveforms: Waveforms
    device: torch.device
    overwrite: bool = False
    progress: Progress = unseen

    def make(self, path: Path, seed: int, told: Callable[[list[Row]], object]) -> TrainingRecord:
        """Train, or go on with what a killed run left, and write the file.

        Parameters
        ----------
        path
            Of the file; the state of a training under way lies beside it.
        seed
            Of everything random.
        told
            Of the history, whenever it grows.

        Raises
        ------
        AsdError
            If the file holds another training, or training fails.
        """
        backbone = load_tunable(self.settings, seed, self.device)
        labels, notes = self.settings.labelling.apply(self.waveforms, backbone)
        training, record, embedding = self._prepared(backbone, labels, seed, path, told)
        known = self._known(path, record)
        if known is not None:
            training.forget()  # killed after the file was written
            return TrainingRecord(path, known, labels.names, notes, is_new=False)
        history = training.run()
        learner = training.optimising.learner
        if training.optimising.accelerator.is_main_process:
            training.optimising.opened.close()
            whole = {**record, "history": history}
            tuned.write(path, learner.backbone, embedding, learner.pooling, whole)
        training.forget()
        return TrainingRecord(path, history, labels.names, notes, is_new=True)

    def _prepared(
        self,
        backbone: Tunable,
        labels: Labels,
        seed: int,
        path: Path,
        told: Callable[[list[Row]], object],
    ) -> tuple[Training, dict[str, Any], Embedding]:
        settings, spec = self.settings, backbone.spec
        layer = spec.layers[-1] if settings.layer is None else settings.layer
        embedding = measured(backbone, layer, settings.embedding, settings.size)
        augmentations = augmentation.parse(settings.augment)
        classes = len(labels.names) + augmentations.extra_classes
        options = head.parse(settings.head)
        learner = build(backbone, embedding, options, classes, seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            opened = SCOPES.parse(settings.scope).open(backbone.trainable, layer)
        longest = min(round(settings.crop * spec.sample_rate), spec.max_samples)
        samples = max(self.waveforms.usual_length(longest), spec.min_samples)
        trained, held = hold_out(labels.numbers, settings.held, seed)
        sampler = SAMPLERS.parse(settings.sampling)
        batches = Batches(
            self.waveforms, labels.numbers, len(labels.names), trained, sampler, augmentations,
            samples, seed, self.device,
        )  # fmt: skip
        count = sum(p.numel() for p in learner.parameters() if p.requires_grad)
        record = self._record(spec.weights, labels, augmentations.texts, seed) | {
            "embedding": asdict(embedding), "samples": samples, "held": len(held),
            "trained_parameters": count,
        }  # fmt: skip
        optimising = Optimising(learner, opened, batches, settings.rates, settings.portions)
        state = path.with_suffix(".training")
        course = replace(settings.course, held=held)
        digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
        training = Training(optimising, course, state, digest, told, self.progress)
        return training, record, embedding

    def _record(
        self, parent: str | None, labels: Labels, augment: tuple[str, ...], seed: int
    ) -> dict[str, Any]:
        settings = self.settings
        course = settings.course
        return {
            "parent": parent,
            "labels": {"rule": asdict(settings.labelling), "names": list(labels.names)},
            "head": settings.head,
            "train": settings.scope,
            "sampling": settings.sampling,
            "augment": list(augment),
            "rates": asdict(settings.rates),
            "portions": asdict(settings.portions),
            "epochs": course.epochs,
            "patience": course.patience,
            "seed": seed,
            "clips": len(self.waveforms.clips),
            "data": self.waveforms.fingerprint,
            "hearing": settings.hearing.settings,
            "resampler": RESAMPLER,
            "versions": {name: version(name) for name in _PACKAGES},
            "python": platform.python_version(),
        }

    def _known(self, path: Path, record: Mapping[str, Any]) -> list[Row] | None:
        """History of a file that is this training's already."""
        if not path.exists():
            return None
        held = dict(tuned.record_of(path)["training"]) if tuned.is_tuned(path) else {}
        history: list[Row] = held.pop("history", [])
        if held == _plain(record):
            return history
        if not self.overwrite:
            differing = sorted(k for k in {*held, *record} if held.get(k) != _plain(record.get(k)))
            raise AsdError(
                f"{path} holds another training (other {', '.join(differing)}); choose another "
                "--out, or --overwrite it"
            )
        return None


def load_tunable(settings: Settings, seed: int, device: torch.device) -> Tunable:
    """Load the backbone that a training begins with.

    Raises
    ------
    AsdError
        If it is none that can be trained.
    """
    source = settings.source
    from_scratch = (settings.backbone, source.variant, source.weights) == ("logmel", "cnn", None)
    if from_scratch or source.seed is not None:
        source = replace(source, seed=seed)
    backbone: Any = tuned.load_any(settings.backbone, source, device)
    if isinstance(backbone, FinetunedBackbone):
        backbone = backbone.backbone
    if not hasattr(backbone, "trainable"):
        raise AsdError(f"{settings.backbone} has nothing to train; logmel:cnn is a small network on log-mel")
    return cast(Tunable, backbone)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))
