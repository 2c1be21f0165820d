"""The training loop: epochs, what the training clips alone tell, and a state on disk."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import nll_loss

from cache.base.progress import Progress, Steps, unseen
from cache.table import ANOMALY, DOMAINS, Section
from extractors.clips.listing import Clip
from finetune.loop.optimising import Optimising
from finetune.loop.state import Row, State, resumed
from finetune.request import Course


def neighbour_statistics(
    embeddings: NDArray[np.float32], clips: Sequence[Clip], classes: NDArray[np.int64]
) -> dict[str, float]:
    """Measure how normal clips lie among each other, each left out in turn.

    Parameters
    ----------
    embeddings
        (N, D) of the clips.
    clips
        The clips.
    classes
        (N,) their classes.

    Returns
    -------
    dict
        ``same_class``: share of clips whose nearest other clip of the same section, by cosine, is
        of their class; ``distance_source``, ``distance_target``: mean cosine distance of a clip to
        the nearest other one of its section, whose score it is when left out. What no clip can
        tell, for want of another one, is missing.
    """
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    sections: dict[Section, list[int]] = defaultdict(list)
    for row, clip in enumerate(clips):
        sections[clip.section].append(row)
    nearest = np.full(len(clips), -1)
    distance = np.full(len(clips), np.nan)
    for rows in sections.values():
        if len(rows) > 1:
            cosine = unit[rows] @ unit[rows].T
            np.fill_diagonal(cosine, -np.inf)
            best = cosine.argmax(1)
            nearest[rows] = np.array(rows)[best]
            distance[rows] = 1 - cosine[np.arange(len(rows)), best]
    found = {}
    known = nearest >= 0
    if known.any():
        found["same_class"] = float((classes[nearest[known]] == classes[known]).mean())
    for domain in DOMAINS:
        of = known & np.array([clip.domain == domain for clip in clips])
        if of.any():
            found[f"distance_{domain}"] = float(distance[of].mean())
    return found


def hold_out(
    classes: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide clips into those trained on and those held out, class by class.

    Parameters
    ----------
    classes
        (N,).
    share
        Of each class, rounded; a class always keeps two clips to train on.
    seed
        Of the choice.

    Returns
    -------
    trained, held
        Rows, ascending.
    """
    random = np.random.default_rng(seed)
    held: list[int] = []
    for number in np.unique(classes):
        rows = np.flatnonzero(classes == number)
        count = min(round(share * len(rows)), len(rows) - 2)
        if count > 0:
            held += random.choice(rows, count, replace=False).tolist()
    chosen = np.zeros(len(classes), bool)
    chosen[held] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


_BETWEEN_SAVES = 300.0  # seconds of an epoch under way that a killed run may lose


@dataclass
class Training:
    """One training.

    Attributes
    ----------
    optimising
        The model, its data and its optimizer.
    course
        How long.
    path, fingerprint
        Where its state is kept, and what it is.
    told
        Of every row of the history as it is made.
    progress
        How many steps are done.
    """

    optimising: Optimising
    course: Course
    path: Path
    fingerprint: str
    told: Callable[[list[Row]], object]
    progress: Progress = unseen

    def run(self) -> list[Row]:
        """Train to the end, going on where a killed run stood.

        Returns
        -------
        list of dict
            A row an epoch: ``epoch``, ``loss``, ``rate`` of the network, ``held_loss`` where clips
            are held out, and at times `finetune.loop.training.neighbour_statistics`.

        Raises
        ------
        AsdError
            If the loss is not finite, or the memory does not hold a batch.
        """
        learner = self.optimising.learner
        state = resumed(self.path, self.fingerprint) or State()
        if state.tensors:
            self._load(state.tensors)
            self.optimising.optimizer.load_state_dict(state.optimizer)
            if self._scaler is not None:
                self._scaler.load_state_dict(state.scaler)
            self._tell(state)  # the kill may have come between saving and telling
        done = state.epoch * self._steps + state.step
        total = self.course.epochs * self._steps
        steps = Steps(total, self.progress, done)
        patience = float("inf") if self.course.patience is None else self.course.patience
        while state.epoch < self.course.epochs and state.epoch - state.best_epoch < patience:
            learner.train()
            self._epoch(state, steps)
        if state.best:
            self._load(state.best)
        learner.eval()
        return state.history

    def forget(self) -> None:
        """Remove the state: the result is safe."""
        if self.optimising.accelerator.is_main_process:
            self.path.unlink(missing_ok=True)

    @property
    def _scaler(self) -> Any:
        """What keeps gradients within float16; ``None`` in other formats."""
        return self.optimising.accelerator.scaler

    @cached_property
    def _steps(self) -> int:
        """Steps an epoch."""
        return -(-len(self.optimising.batches.epoch(0)) // self.optimising.clips_a_step)

    def _epoch(self, state: State, steps: Steps) -> None:
        rates, size = self.optimising.rates, self.optimising.clips_a_step
        order = self.optimising.batches.epoch(state.epoch)
        saved, factor = time.monotonic(), 0.0
        while state.step < self._steps:
            step, total = state.epoch * self._steps + state.step, self.course.epochs * self._steps
            factor = rates.factor(step, total)
            rows = order[state.step * size : (state.step + 1) * size]
            loss = self.optimising.step(rows, (state.epoch, state.step), factor)
            state.losses.append(loss)
            state.step += 1
            steps.update(1)
            if time.monotonic() - saved > _BETWEEN_SAVES and state.step < self._steps:
                self._save(state)
                saved = time.monotonic()
        row = {"epoch": state.epoch + 1.0, "loss": float(np.mean(state.losses)),
               "rate": rates.network * factor, **self._evidence(state.epoch)}  # fmt: skip
        state.history.append(row)
        state.epoch, state.step, state.losses = state.epoch + 1, 0, []
        if row.get("held_loss", float("inf")) < state.best_loss:
            state.best_loss, state.best_epoch = row["held_loss"], state.epoch
            state.best = self._tensors() if self.course.patience is not None else {}
        self._save(state)
        self._tell(state)

    def _tell(self, state: State) -> None:
        if state.history and self.optimising.accelerator.is_main_process:
            self.told(state.history)

    def _evidence(self, epoch: int) -> Row:
        """Look at the training clips as they are, without augmentation."""
        course, learner, batches = self.course, self.optimising.learner, self.optimising.batches
        learner.eval()
        row: Row = {}
        if len(course.held):
            embeddings = self._embedded(course.held)
            classes = torch.from_numpy(batches.classes[course.held]).to(embeddings.device)
            probabilities = learner.head.predict(embeddings).clamp_min(1e-12)
            row["held_loss"] = float(nll_loss(probabilities.log(), classes))
        last = epoch + 1 == course.epochs
        if course.watch and (last or (epoch + 1) % course.watch == 0):
            clips = batches.waveforms.clips
            normal = [i for i, clip in enumerate(clips) if clip.condition != ANOMALY]
            embeddings, classes_ = self._embedded(np.array(normal)), batches.classes[normal]
            known = neighbour_statistics(embeddings.cpu().numpy(), [clips[i] for i in normal], classes_)
            predicted = learner.head.predict(embeddings).argmax(1).cpu().numpy()
            row |= {"accuracy": float((predicted == classes_).mean()), **known}
        return row

    def _embedded(self, rows: NDArray[np.int64]) -> Tensor:
        found = []
        learner, batches = self.optimising.learner, self.optimising.batches
        size = self.optimising.portions.batch
        for start in range(0, len(rows), size):
            inputs = batches.plain(rows[start : start + size].tolist(), learner.backbone)
            with torch.no_grad(), self.optimising.accelerator.autocast(), self.optimising.exact():
                found.append(learner.embed(inputs))
        return torch.cat(found)

    def _tensors(self) -> dict[str, Tensor]:
        """Copy what training changes."""
        learner = self.optimising.learner
        named = [(name, p) for name, p in learner.named_parameters() if p.requires_grad]
        buffers = [(f"head.{name}", buffer) for name, buffer in learner.head.named_buffers()]
        return {name: value.detach().cpu().clone() for name, value in [*named, *buffers]}

    def _load(self, tensors: dict[str, Tensor]) -> None:
        self.optimising.learner.load_state_dict(tensors, strict=False)

    def _save(self, state: State) -> None:
        if self.optimising.accelerator.is_main_process:
            state.tensors = self._tensors()
            state.optimizer = self.optimising.optimizer.state_dict()
            state.scaler = self._scaler.state_dict() if self._scaler is not None else {}
            state.save(self.path, self.fingerprint)
