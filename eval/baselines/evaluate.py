"""The task's baselines from end to end: trained, scored, judged, ranked and reported."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache.base.errors import AsdError
from cache.base.processors import cores
from cache.base.progress import Progress, unseen
from cache.table import ClipKey
from eval.baselines.jobs import JobResult, JobSettings, jobs_of
from eval.baselines.pool import run_jobs
from eval.baselines.published import (
    COMPARISON_HEADER,
    MACHINES,
    TABLES,
    WHERE,
    PublishedComparison,
    compare,
    comparison_csv,
    read_published,
)
from eval.baselines.request import PAPER, BaselineRequest
from eval.baselines.scoring import ResidualScoring
from eval.judge import JudgeRequest, judge
from eval.metrics.intervals import ResamplingPlan
from eval.page.build import PlaybackOptions
from eval.page.ranking_tables import write_ranking
from eval.ranking import Ranking, System, rank
from eval.report import ReportRequest, ReportResult, report
from eval.results.clips import write_clips
from eval.results.description import SystemDescription, write_description
from eval.results.folder import ResultsFolder
from eval.results.names import result_names
from eval.results.submission import Submission, write_submission
from extractors.clips.listing import Listing, list_clips
from extractors.device import find_device

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
    folder = request.cache_dir / "baselines"
    scorings = request.scorings()
    budget = round(request.memory * _GIB)
    settings = JobSettings(tuple(scorings.values()), request.epochs, folder, device, budget)
    jobs = jobs_of(listing.clips, request.seeds, settings)
    at_once = cores() if device.type == "cpu" else 1
    with ExitStack() as held:
        # Of two runs into one folder the second waits before it trains.
        top = ResultsFolder(request.out)
        systems = {path: top if path == request.out else ResultsFolder(path) for path in scorings}
        for results in dict.fromkeys([top, *systems.values()]):
            held.enter_context(results.run())
        outcomes = run_jobs(jobs, min(len(jobs), request.jobs or at_once), told)
        made = [
            _system(request, systems[path], place, scoring, outcomes)
            for place, (path, scoring) in enumerate(scorings.items())
        ]
        comparisons = {}
        if request.mode == PAPER:
            comparisons = {mode: compare(mode, one[0], read_published()) for mode, one in
                           zip(TABLES, made, strict=True)}  # fmt: skip
            lines = [comparison_csv(mode, rows) for mode, rows in comparisons.items()]
            top.write("comparison.csv", "".join([COMPARISON_HEADER, *lines]).encode())
            for results in systems.values():
                top.include(results)
    # Every seed meets the same faults.
    faults = {fault.path: fault for outcome in outcomes for fault in outcome.faults}
    return Baselines(
        tuple(reported for _, _, every in made for reported in every),
        tuple(ranking for _, ranking, _ in made if ranking is not None),
        comparisons,
        tuple(map(str, [*listing.faults, *faults.values()])),
        tuple(text for outcome in outcomes for text in outcome.warnings),
        (*listing.notes, *(text for outcome in outcomes for text in outcome.notes)),
    )


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
    return listing


def _system(
    request: BaselineRequest,
    results: ResultsFolder,
    place: int,
    scoring: ResidualScoring,
    outcomes: Sequence[JobResult],
) -> tuple[System, Ranking | None, list[ReportResult]]:
    """Write, judge and report the runs of one system, and their mean and deviation."""
    runs, reported = [], []
    for seed in request.seeds:
        part = ResultsFolder(results.root / f"seed_{seed}")
        with part.run():
            _write_scores(request, part, f"{scoring.title}, seed {seed}", place,
                          [outcome for outcome in outcomes if outcome.seed == seed])  # fmt: skip
            judging = JudgeRequest(part.root, part.root.name, request.ground_truth, part=True)
            runs.append(judge(judging))
            audible = PlaybackOptions(request.data)
            reported.append(report(ReportRequest(runs[-1], part, request.report, audible)))
        results.include(part)
    for path in set(results.root.glob("seed_*")) - {run.directory for run in runs}:
        ResultsFolder(path).clear()
    system = System(scoring.title, tuple(runs))
    if not runs[0].results:
        return system, None, reported
    ranking = rank([system], ResamplingPlan())
    write_ranking(results, ranking)
    return system, ranking, reported


def _write_scores(
    request: BaselineRequest, part: ResultsFolder, title: str, place: int, outcomes: Sequence[JobResult]
) -> None:
    """Write the submission of one run and what describes it."""
    thresholds: dict[str, float | None] = {}
    for one in (section for outcome in outcomes for section in outcome.scores[place]):
        names = result_names([clip.clip_id for clip in one.clips])
        write_submission(part, Submission(one.section, names, one.scores, one.decisions))
        keys = [
            ClipKey(clip.clip_id, sha, clip.domain, clip.condition, clip.attributes)
            for clip, sha in zip(one.clips, one.hashes, strict=True)
        ]
        write_clips(part, one.section, keys, {})
        value = float(one.threshold.value)
        thresholds[str(one.section)] = value if np.isfinite(value) else None
    losses = {
        f"loss of {o.machine}, first and last epoch": f"{o.losses[0]:.4g}, {o.losses[-1]:.4g} dB^2"
        for o in outcomes
    }
    facts = {"epochs": str(request.epochs), "models": str(Path(request.cache_dir) / "baselines"),
             "command": request.command, **losses}  # fmt: skip
    write_description(part, SystemDescription(title, facts=facts, thresholds=thresholds))
    part.seal()
