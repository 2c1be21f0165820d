"""One machine and one seed, from clips to scores and how they are judged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.table import ClipKey, EmbeddingTable, Section
from eval.baselines.frames import (
    FrameBatches,
    Frames,
    clip_frames,
    frame_table,
    mean_frame,
    read_frames,
)
from eval.baselines.model import Model, Training, loss_fault
from eval.baselines.scoring import (
    MAIN,
    Residuals,
    ResidualScorer,
    ResidualScoring,
    ThresholdPlan,
    by_section,
    hold_out,
    plan_threshold,
)
from extractors.audio.hearing import Hearing
from extractors.clips.listing import Clip, Fault
from index.fitted import JudgedSection
from index.request import ThresholdOptions


@dataclass(frozen=True)
class JobSettings:
    """How to run.

    Attributes
    ----------
    scorings
        What to make of one training.
    hearing
        How recordings are heard.
    limits
        How the threshold is learnt.
    folds
        In how many folds, each a training of its own, where the clips not trained on do not serve.
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
    hearing: Hearing
    limits: ThresholdOptions
    folds: int
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
        Of weights, order and the clips not trained on.
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
class SectionOutcome:
    """What a job says of one section's test clips, by each of the settings' scorings.

    Attributes
    ----------
    train, test
        (M, 128), (N, 128) mean frames of its clips.
    scores
        (N, S) float64, a column a scoring, higher is more anomalous.
    decided
        (N, S) the domain that gave each score; empty where none did.
    judged
        How the scores of each scoring are judged.
    """

    train: EmbeddingTable
    test: EmbeddingTable
    scores: NDArray[np.float64]
    decided: NDArray[np.str_]
    judged: tuple[JudgedSection, ...]


@dataclass(frozen=True, eq=False)
class JobResult:
    """What a job made.

    Attributes
    ----------
    machine, seed
        Of the job.
    sections
        Those that have test clips, ascending.
    losses
        Mean loss of each epoch, dB^2.
    faults
        Clips left out, each with the reason.
    warnings
        What makes scores doubtful; each names the machine.
    """

    machine: str
    seed: int
    sections: tuple[SectionOutcome, ...]
    losses: tuple[float, ...]
    faults: tuple[Fault, ...]
    warnings: tuple[str, ...]


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
        If nothing can be trained on, the loss is not finite, or the training clips cannot show so
        few false alarms as asked for; the text names the machine.
    """
    settings = job.settings
    if settings.device.type == "cpu":
        torch.set_num_threads(1)  # layers this small are slower shared; benchmarks/baselines.md
    frames = read_frames(job.train, settings.hearing, settings.budget, settings.folder)
    machine, held = _Machine(job, frames, told), hold_out(frames.clips, job.seed)
    tables = dict(machine.tables())
    places = {key.clip_id: i for i, key in enumerate(frames.keys)}
    plans = [
        plan_threshold(
            table, np.array([places[i] for i in table.clip_ids]), held, settings.limits, settings.folds
        )
        for table in tables.values()
    ]
    fitted = machine.fit(held, tables)
    judged = machine.judged(fitted, plans)
    tests, faults = _score_tests(job, fitted)
    sections = []
    for section, rows in sorted(tests.items()):
        rows.sort(key=lambda row: row[0].clip_id)  # as tables are
        keys, means, scores, decided = zip(*rows, strict=True)
        test = frame_table(section, "test", keys, means)
        columns = np.array(scores), np.array(decided)
        sections.append(SectionOutcome(tables[section], test, *columns, judged[section]))
    losses = fitted.model.losses
    fault = loss_fault(losses)
    warnings = (f"{job.machine}, seed {job.seed}: {fault}",) if fault else ()
    return JobResult(job.machine, job.seed, tuple(sections), losses, (*frames.faults, *faults), warnings)


@dataclass(frozen=True)
class _Fitted:
    """A network, and what scores its residuals in each section, a scorer a scoring."""

    model: Model
    scorers: Mapping[Section, Sequence[ResidualScorer]]

    def score(self, section: Section, frames: NDArray[np.float32]) -> tuple[list[float], list[str]]:
        """Score a clip by each scoring, and name the domains that decided."""
        residuals = self.model.residuals(frames)
        found = [scorer.score(residuals) for scorer in self.scorers[section]]
        return [score for score, _ in found], [domain for _, domain in found]


@dataclass(frozen=True)
class _Machine:
    """A machine's training clips, and networks trained on most of them."""

    job: Job
    frames: Frames
    told: Callable[[int], object]

    def tables(self) -> Iterator[tuple[Section, EmbeddingTable]]:
        """Give the mean frames of every section."""
        frames = self.frames
        for section, domains in by_section(frames.clips).items():
            rows = [i for rows in domains.values() for i in rows]
            means = [mean_frame(frames[i]) for i in rows]
            yield section, frame_table(section, "train", [frames.keys[i] for i in rows], means)

    def fit(self, left: Collection[int], sections: Collection[Section]) -> _Fitted:
        """Train, or load, a network on all clips but those left out, and fit sections to its residuals."""
        job, frames, settings = self.job, self.frames, self.job.settings
        rows = [i for i in range(len(frames)) if i not in left]
        batches = FrameBatches(frames, rows, settings.budget, settings.device)
        training = Training(batches, settings.hearing, job.seed, settings.epochs)
        try:
            model = training.model(settings.folder, self.told)
        except AsdError as error:
            raise AsdError(f"{job.machine}, seed {job.seed}: {error}") from error

        def residuals(rows: Sequence[int]) -> Iterator[Residuals]:
            return (model.residuals(frames[i]) for i in rows)

        scorers = {}
        for section, domains in by_section(frames.clips).items():
            kept = {domain: [i for i in of if i not in left] for domain, of in domains.items()}
            clips = {domain: partial(residuals, of) for domain, of in kept.items() if of}
            if section in sections:
                scorers[section] = [how.fit(section, clips) for how in settings.scorings]
        return _Fitted(model, scorers)

    def judged(
        self, fitted: _Fitted, plans: Sequence[ThresholdPlan]
    ) -> dict[Section, tuple[JudgedSection, ...]]:
        """Learn each section's threshold, one a scoring, from clips that the network does not know."""
        settings = self.job.settings
        scores = {plan.judged.section: np.empty((len(plan.rows), len(settings.scorings))) for plan in plans}
        for fold in (MAIN, *range(settings.folds)):
            held = {plan.judged.section: (plan, np.flatnonzero(plan.folds == fold)) for plan in plans}
            held = {section: (plan, places) for section, (plan, places) in held.items() if len(places)}
            network = fitted
            if fold != MAIN and held:
                left = {row for plan, places in held.values() for row in plan.rows[places].tolist()}
                network = self.fit(left, held)
            elif fold != MAIN:
                self.told(settings.epochs)
            for section, (plan, places) in held.items():
                for place in places:
                    scores[section][place] = network.score(section, self.frames[plan.rows[place]])[0]
        return {plan.judged.section: tuple(map(plan.learn, scores[plan.judged.section].T)) for plan in plans}


Scored = tuple[ClipKey, NDArray[np.float32], list[float], list[str]]  # with the clip's mean frame


def _score_tests(job: Job, fitted: _Fitted) -> tuple[dict[Section, list[Scored]], list[Fault]]:
    """Score test clips in one pass over their files."""
    faults: list[Fault] = []
    found: dict[Section, list[Scored]] = defaultdict(list)
    for clip, key, frames in clip_frames(job.test, job.settings.hearing, faults.append):
        if clip.section not in fitted.scorers:
            raise AsdError(f"{clip.section} has test clips but no training clip to learn from")
        found[clip.section].append((key, mean_frame(frames), *fitted.score(clip.section, frames)))
    return found, faults
