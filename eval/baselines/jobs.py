"""One machine and one seed, from clips to scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from cache.base.errors import AsdError
from cache.table import Section
from eval.baselines.distances import Residuals
from eval.baselines.frames import Frames, clip_frames, read_frames
from eval.baselines.model import Model, ModelRun
from eval.baselines.scoring import BaselineScores, ResidualScoring, by_section, decide, hold_out
from eval.baselines.training import FrameBatches, loss_fault
from extractors.clips.listing import Clip, Fault

Score = Callable[[Residuals], float]


@dataclass(frozen=True)
class JobSettings:
    """How to run.

    Attributes
    ----------
    scorings
        What to make of one training.
    epochs
        How often every vector is used.
    folder
        Where models are kept; one that is there is not trained again.
    device
        Where to train.
    budget
        Bytes of frames held in memory by one process.
    """

    scorings: tuple[ResidualScoring, ...]
    epochs: int
    folder: Path
    device: torch.device
    budget: int


@dataclass(frozen=True)
class Job:
    """One machine and one seed.

    Attributes
    ----------
    machine
        Its type.
    seed
        Of weights, order and the clips held out.
    train, test
        Its clips, of all sections.
    settings
        How to run.
    """

    machine: str
    seed: int
    train: tuple[Clip, ...]
    test: tuple[Clip, ...]
    settings: JobSettings


@dataclass(frozen=True, eq=False)
class JobResult:
    """What a job made.

    Attributes
    ----------
    machine, seed
        Of the job.
    scores
        A list of sections for each scoring of the settings, in their order.
    losses
        Mean loss of each epoch, dB^2.
    faults
        Clips left out, each with the reason.
    warnings, notes
        What makes scores doubtful, and what deserves a look; each names the machine.
    """

    machine: str
    seed: int
    scores: tuple[tuple[BaselineScores, ...], ...]
    losses: tuple[float, ...]
    faults: tuple[Fault, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()


def run_job(job: Job, told: Callable[[int], object]) -> JobResult:
    """Train or load a machine's model and score its test clips.

    Parameters
    ----------
    job
        The machine and the seed.
    told
        Of every number of epochs done.

    Raises
    ------
    AsdError
        If nothing can be trained on or the loss is not finite; the text names the machine.
    """
    settings = job.settings
    if settings.device.type == "cpu":
        torch.set_num_threads(1)  # layers this small are slower shared; benchmarks/baselines.md
    frames = read_frames(job.train, settings.budget, settings.folder)
    held = hold_out(frames.clips, job.seed)
    rows = [i for i in range(len(frames.clips)) if i not in held]
    run = ModelRun(frames, rows, job.seed, settings.epochs)
    batches = FrameBatches(frames, rows, settings.budget, settings.device)
    try:
        model = run.model(settings.folder, batches, told)
    except AsdError as error:
        raise AsdError(f"{job.machine}, seed {job.seed}: {error}") from error
    scores, faults = _Scorer(model, frames, held).scores(settings.scorings, job.test)
    return JobResult(
        job.machine, job.seed, scores, model.losses, (*frames.faults, *faults),
        tuple(_warnings(job, model)), tuple(_notes(job, scores)),
    )  # fmt: skip


@dataclass(frozen=True)
class _Scorer:
    """A machine's model with its training clips, of which `held` were not trained on."""

    model: Model
    frames: Frames
    held: set[int]

    def scores(
        self, scorings: Sequence[ResidualScoring], test: Sequence[Clip]
    ) -> tuple[tuple[tuple[BaselineScores, ...], ...], list[Fault]]:
        """Score test clips in one pass over their files."""
        sections = by_section(self.frames.clips)
        fitted = {s: [self._fit(how, s, sections[s]) for how in scorings] for s in sections}
        faults: list[Fault] = []
        kept: dict[Section, list[Clip]] = defaultdict(list)
        values: dict[Section, list[list[float]]] = defaultdict(list)
        hashes: dict[Section, list[str]] = defaultdict(list)
        for clip, sha, frames in clip_frames(test, faults.append):
            if clip.section not in fitted:
                raise AsdError(f"{clip.section} has test clips but no training clip to learn from")
            residuals = self.model.residuals(frames)
            kept[clip.section].append(clip)
            hashes[clip.section].append(sha)
            values[clip.section].append([score(residuals) for score in fitted[clip.section]])
        known = {s: self._held_scores(fitted[s], sections[s]) for s in kept}
        columns = range(len(scorings))
        return tuple(
            tuple(
                decide(s, (kept[s], hashes[s]), [v[k] for v in values[s]], [h[k] for h in known[s]])
                for s in sorted(kept)
            )
            for k in columns
        ), faults

    def _fit(self, how: ResidualScoring, section: Section, domains: Mapping[str, list[int]]) -> Score:
        trained = {d: [i for i in rows if i not in self.held] for d, rows in domains.items()}
        clips = {d: partial(self._residuals, rows) for d, rows in trained.items() if rows}
        return how.fit(section, clips)

    def _residuals(self, rows: Sequence[int]) -> Iterator[Residuals]:
        return (self.model.residuals(self.frames[i]) for i in rows)

    def _held_scores(self, fitted: Sequence[Score], domains: Mapping[str, list[int]]) -> list[list[float]]:
        rows = [i for rows in domains.values() for i in rows if i in self.held]
        return [[score(residuals) for score in fitted] for residuals in self._residuals(rows)]


def _warnings(job: Job, model: Model) -> Iterator[str]:
    if fault := loss_fault(model.losses):
        yield f"{job.machine}, seed {job.seed}: {fault}"


def _notes(job: Job, scores: Sequence[Sequence[BaselineScores]]) -> Iterator[str]:
    for section in scores[0]:
        if section.threshold.value == float("inf"):
            yield (
                f"{section.section}, seed {job.seed}: too few training clips to spare for the "
                "threshold; no clip is called anomalous"
            )


def jobs_of(clips: Sequence[Clip], seeds: Sequence[int], settings: JobSettings) -> list[Job]:
    """Make a job of every machine and seed.

    Raises
    ------
    AsdError
        If a machine has no training clip or no test clip.
    """
    machines: dict[str, dict[str, list[Clip]]] = defaultdict(lambda: defaultdict(list))
    for clip in clips:
        machines[clip.section.machine_type][clip.split].append(clip)
    for machine, splits in sorted(machines.items()):
        for split in ("train", "test"):
            if not splits[split]:
                raise AsdError(f"{machine} has no {split} clips; leave it out with --machine")
    first = [
        Job(machine, 0, tuple(splits["train"]), tuple(splits["test"]), settings)
        for machine, splits in sorted(machines.items())
    ]
    return [replace(job, seed=seed) for job in first for seed in seeds]
