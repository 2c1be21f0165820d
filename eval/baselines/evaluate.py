"""The task's baselines from end to end: trained, scored, judged, ranked and reported."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from cache.base.errors import AsdError
from cache.base.processors import cores
from cache.base.progress import Progress, unseen
from cache.facts import told as said_of
from eval.baselines.frames import SAMPLE_RATE
from eval.baselines.jobs import jobs_of, run_jobs
from eval.baselines.machine import JobResult, JobSettings, SectionOutcome
from eval.baselines.published import (
    MACHINES,
    TABLES,
    WHERE,
    PublishedComparison,
    write_comparison,
)
from eval.baselines.request import MODES, PAPER, BaselineRequest, read_shrinkage
from eval.baselines.scoring import ResidualScoring
from eval.judge import JudgeRequest, JudgeResult, judge
from eval.metrics.intervals import ResamplingPlan
from eval.ranking.systems import Ranking, System, rank
from eval.ranking.tables import write_ranking
from eval.report import ReportRequest, ReportResult, report
from eval.request import PlaybackOptions
from eval.results.folder import ResultsFolder
from eval.scoring.sections import RunWriter, SectionScores
from extractors.clips.listing import Listing, list_clips
from extractors.device import find_device
from index.scorer import explained, find

_GIB = 2**30
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Baselines:
    """What the baselines made.

    Attributes
    ----------
    reported
        What the tables and the page of every run hold.
    rankings
        Of every system its mean and deviation over runs, where truth is known.
    comparisons
        Mode of the paper to our figures beside the published ones; empty in other modes.
    left_out
        Clips that could not be used, each with the reason.
    warnings
        What makes scores doubtful; each names the machine.
    notes
        What deserves a look.
    """

    reported: tuple[ReportResult, ...]
    rankings: tuple[Ranking, ...]
    comparisons: dict[str, list[PublishedComparison]]
    left_out: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def silent(self) -> tuple[str, ...]:
        """Recordings that a report does not play, each with the reason."""
        return tuple(dict.fromkeys(text for one in self.reported for text in one.silent))


def evaluate(request: BaselineRequest, told: Progress = unseen) -> Baselines:
    """Train the task's autoencoder once a machine and seed, score its test clips and judge them.

    Parameters
    ----------
    request
        Which data, which baseline, where.
    told
        How many epochs are done, of all trainings.

    Raises
    ------
    AsdError
        If the data is not to be had or holds synthetic clips, or training fails.
    """
    listing, device = _listing(request), find_device(request.device)
    scorings = _scorings(request)
    settings = JobSettings(
        scorings=tuple(scorings.values()), hearing=request.hearing(), limits=request, folds=request.folds,
        epochs=request.epochs, folder=request.cache_dir / "baselines", device=device,
        budget=round(request.memory * _GIB),
    )  # fmt: skip
    jobs = jobs_of(listing.clips, request.seeds, settings)
    with ExitStack() as held:
        # Of two runs into one folder the second waits before it trains.
        top = ResultsFolder(request.out)
        systems = {path: top if path == request.out else ResultsFolder(path) for path in scorings}
        for results in dict.fromkeys([top, *systems.values()]):
            held.enter_context(results.run())
        outcomes = run_jobs(jobs, request.jobs or (cores() if device.type == "cpu" else 1), told)
        made = [
            _system(request, systems[path], place, scoring, outcomes)
            for place, (path, scoring) in enumerate(scorings.items())
        ]
        comparisons = {}
        if request.mode == PAPER:
            comparisons = write_comparison(top, dict(zip(TABLES, (one.system for one in made), strict=True)))
            for results in systems.values():
                top.include(results)
    # Every seed meets the same faults.
    faults = {fault.path: fault for outcome in outcomes for fault in outcome.faults}
    runs = [one for system in made for one in system.runs]
    return Baselines(
        tuple(one.reported for one in runs),
        tuple(system.ranking for system in made if system.ranking is not None),
        comparisons,
        tuple(map(str, [*listing.faults, *faults.values()])),
        tuple(text for outcome in outcomes for text in outcome.warnings),
        (*listing.notes, *dict.fromkeys(text for one in runs for text in one.notes)),
    )


def _scorings(request: BaselineRequest) -> dict[Path, ResidualScoring]:
    """Folder of every system asked for, to how it scores."""
    if request.mode == PAPER:
        return {request.out / mode: ResidualScoring(mode) for mode in MODES}
    amount = read_shrinkage(request.shrinkage)
    return {request.out: ResidualScoring(request.mode, request.form, amount)}


def _listing(request: BaselineRequest) -> Listing:
    if request.mode != PAPER:
        listing = list_clips(request.data).only(request.machine, [])
    else:
        missing = [root for root in request.data if not root.is_dir()]
        if missing or not request.data:
            raise AsdError(f"no data in --data {' '.join(map(str, missing))}: {WHERE}")
        listing = list_clips(request.data)
        machines = {clip.section.machine_type for clip in listing.clips}
        if not machines & set(MACHINES):
            raise AsdError(f"none of the paper's machines in the data: {WHERE}")
        if others := sorted(machines - set(MACHINES)):
            _LOG.info("not in the paper, not looked at: %s", ", ".join(others))
        listing = listing.only(request.machine or sorted(machines & set(MACHINES)), [])
    made = [clip.clip_id for clip in listing.clips if clip.synthetic]
    if made:
        raise AsdError(
            f"{len(made)} clips are synthetic, {made[0]} for one; the task's baselines are trained "
            "and tested on recordings alone: leave that folder out of --data"
        )
    return request.hearing().cut(listing)


@dataclass(frozen=True, eq=False)
class _Made:
    """One run: what it was judged to be, what its report holds, and what deserves a look."""

    run: JudgeResult
    reported: ReportResult
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _System:
    """The runs of one system, and their mean and deviation where truth is known."""

    system: System
    runs: tuple[_Made, ...]
    ranking: Ranking | None


def _system(
    request: BaselineRequest,
    results: ResultsFolder,
    place: int,
    scoring: ResidualScoring,
    outcomes: Sequence[JobResult],
) -> _System:
    """Write, judge and report the runs of one system."""
    made = []
    for seed in request.seeds:
        part = ResultsFolder(results.root / f"seed_{seed}")
        of_seed = [outcome for outcome in outcomes if outcome.seed == seed]
        with part.run():
            writer = RunWriter(part, SAMPLE_RATE, request.map, first=True, label=f", {part.root.name}")
            for one in (section for outcome in of_seed for section in outcome.sections):
                _write_section(writer, one, place)
            writer.seal(f"{scoring.title}, seed {seed}", _facts(request, of_seed))
            notes = [*writer.notes, *said_of(writer.remarks)]
            run = judge(JudgeRequest(part.root, part.root.name, request.ground_truth, part=True))
            playback = PlaybackOptions(request.data, request.listen)
            found = report(ReportRequest(run, part, request.report, playback))
            made.append(_Made(run, found, tuple(notes)))
        results.include(part)
    for path in set(results.root.glob("seed_*")) - {one.run.directory for one in made}:
        ResultsFolder(path).clear()
    system = System(scoring.title, tuple(one.run for one in made))
    if not made[0].run.results:
        return _System(system, tuple(made), None)
    ranking = rank([system], ResamplingPlan())
    write_ranking(results, ranking)
    return _System(system, tuple(made), ranking)


def _write_section(writer: RunWriter, one: SectionOutcome, place: int) -> None:
    """Write a section's files, as scoring with a bank does.

    The nearest training clips are those of the nearest mean frame: an autoencoder names none itself.
    """
    train, test, nearest = one.train, one.test, find("min-distance")()
    nearest.fit(train)
    scores, decided = one.scores[:, place], one.decided[:, place]
    reasons = replace(explained(nearest, test.embeddings), score=scores, decided=decided)
    known = {key.clip_id: key for key in train.keys}
    scored = SectionScores(one.judged[place], test.keys, reasons)
    writer.write(scored, known, lambda: train, lambda: [test])


def _facts(request: BaselineRequest, outcomes: Sequence[JobResult]) -> dict[str, str]:
    """Say what a reader needs to know of a run, or to repeat it."""
    hearing = request.hearing()
    return {
        "epochs": str(request.epochs),
        "models": str(Path(request.cache_dir) / "baselines"),
        "command": request.command,
        **{name: str(value) for name, value in hearing.settings.items()},
        **({"signal": json.dumps(hearing.signal.settings)} if hearing.signal.settings else {}),
        **{
            f"loss of {o.machine}, first and last epoch": f"{o.losses[0]:.4g}, {o.losses[-1]:.4g} dB^2"
            for o in outcomes
        },
    }
