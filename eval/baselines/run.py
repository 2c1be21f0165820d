"""Command line of the task's baselines: data roots in, submissions and a table over seeds out."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from cache.base.errors import AsdError, guarded, tell_some
from cache.base.text import command_line
from cache.files.atomic import write_atomic
from eval.baselines.jobs import Outcome, Settings, jobs_of
from eval.baselines.options import PAPER, parser
from eval.baselines.pool import run_jobs
from eval.baselines.published import (
    COMPARISON_HEADER,
    MACHINES,
    TABLES,
    WHERE,
    compare,
    comparison_csv,
    format_comparison,
    read_published,
)
from eval.baselines.scoring import MODES, Scoring
from eval.baselines.submissions import write_run
from eval.baselines.summary import Summary, format_summary, summarise_runs, write_summary
from extractors.clips.listing import Listing, list_clips
from extractors.device import cores, find_device

_MIB = 2**20


def _scorings(args: Namespace) -> dict[Path, Scoring]:
    """Folder of every system asked for, to how it scores."""
    if args.mode != PAPER:
        return {args.out: Scoring(args.mode, args.form, args.shrinkage)}
    if args.form != "clip" or args.shrinkage != 0:
        raise AsdError("--mode paper scores as published: leave --form and --shrinkage out")
    return {args.out / mode: Scoring(mode) for mode in MODES}


def _check(args: Namespace) -> None:
    if len(set(args.seeds)) < len(args.seeds):
        raise AsdError(f"--seeds {' '.join(map(str, args.seeds))}: each run needs its own")
    if args.ground_truth is not None and not args.ground_truth.is_dir():
        raise AsdError(f"--ground-truth {args.ground_truth} is not a folder")
    if not args.data and args.mode != PAPER:
        raise AsdError("--data is missing: give the folder that holds the machines")


def _listing(args: Namespace) -> Listing:
    listing = _asked(args)
    made = [clip.clip_id for clip in listing.clips if clip.synthetic]
    if made:
        raise AsdError(
            f"{len(made)} clips are synthetic, {made[0]} for one; the task's baselines are trained "
            "and tested on recordings alone: leave that folder out of --data"
        )
    return listing


def _asked(args: Namespace) -> Listing:
    if args.mode != PAPER:
        return list_clips(args.data).only(args.machine, [])
    missing = [root for root in args.data if not root.is_dir()]
    if missing or not args.data:
        raise AsdError(f"no data in --data {' '.join(map(str, missing))}: {WHERE}")
    listing = list_clips(args.data)
    machines = {clip.section.machine_type for clip in listing.clips}
    if not machines & set(MACHINES):
        raise AsdError(f"none of the paper's machines in the data: {WHERE}")
    if others := sorted(machines - set(MACHINES)):
        sys.stderr.write(f"note: not in the paper, not looked at: {', '.join(others)}\n")
    return listing.only(args.machine or sorted(machines & set(MACHINES)), [])


def _summaries(
    args: Namespace, outcomes: Sequence[Outcome], facts: Mapping[str, str]
) -> dict[Path, Summary | None]:
    """Write every run and, where truth is known, the summary over seeds."""
    found: dict[Path, Summary | None] = {}
    for place, (folder, scoring) in enumerate(_scorings(args).items()):
        runs = []
        for seed in args.seeds:
            own = [outcome for outcome in outcomes if outcome.seed == seed]
            scored = [section for outcome in own for section in outcome.scores[place]]
            told = {"title": f"{scoring.title}, seed {seed}", **facts, **_losses(own)}
            runs.append(write_run(folder / f"seed_{seed}", scored, args.ground_truth, told))
        known = [run for run in runs if run is not None]
        found[folder] = summarise_runs(scoring.title, known, facts) if known else None
        if (summary := found[folder]) is not None:
            write_summary(folder, summary)
    return found


def _losses(outcomes: Sequence[Outcome]) -> dict[str, str]:
    return {
        f"loss of {o.machine}, first and last epoch": f"{o.losses[0]:.4g}, {o.losses[-1]:.4g} dB^2"
        for o in outcomes
    }


def _compare(args: Namespace, summaries: Mapping[Path, Summary | None]) -> None:
    """Print the paper's tables beside ours and write them."""
    published, text = read_published(), COMPARISON_HEADER
    for mode, summary in zip(TABLES, summaries.values(), strict=True):
        if summary is None:
            raise AsdError("the truth of no test clip is known; is this the development data?")
        rows = compare(mode, summary, published)
        print(format_comparison(mode, rows) + "\n")
        text += comparison_csv(mode, rows)
    write_atomic(args.out / "comparison.csv", text.encode())


def _say(listing: Listing, outcomes: Sequence[Outcome]) -> int:
    """Name what was left out and what is doubtful; how many of both."""
    # Every seed meets the same faults.
    unusable = {fault.path: fault for outcome in outcomes for fault in outcome.faults}
    faults = [*listing.faults, *unusable.values()]
    warnings = [warning for outcome in outcomes for warning in outcome.warnings]
    for note in listing.notes:
        sys.stderr.write(f"note: {note}\n")
    tell_some("left out", faults)
    tell_some("warning", warnings)
    return len(faults) + len(warnings)


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run the task's baselines.

    Parameters
    ----------
    argv
        Arguments; the process's own by default.

    Returns
    -------
    int
        0; 1 where clips were left out or a loss did not fall; 2 for a mistake in the call.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    args = parser().parse_args(arguments)
    _check(args)
    listing, device = _listing(args), find_device(args.device)
    scorings = tuple(_scorings(args).values())
    folder = args.cache_dir / "baselines"
    settings = Settings(scorings, args.epochs, folder, device, args.memory * _MIB)
    jobs = jobs_of(listing.clips, args.seeds, settings)
    at_once = cores() if device.type == "cpu" else 1
    outcomes = run_jobs(jobs, min(len(jobs), args.jobs or at_once))
    facts = {
        "epochs": str(args.epochs),
        "models": str(folder),
        "command": command_line("python -m eval.baselines.run", arguments),
    }
    summaries = _summaries(args, outcomes, facts)
    if args.mode == PAPER:
        _compare(args, summaries)
    elif (summary := summaries[args.out]) is not None:
        print(format_summary(summary) + "\n")
    print(f"{len(jobs)} runs of {len(args.seeds)} seeds: submissions and results in {args.out}")
    return 1 if _say(listing, outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
