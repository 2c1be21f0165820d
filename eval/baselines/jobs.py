"""Machines and seeds, one after the other or in processes side by side: clips in, scores out."""

from __future__ import annotations

import multiprocessing
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing.connection import wait as wait_for
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from threading import Thread

from cache.base.errors import AsdError
from cache.base.progress import Progress, Steps, unseen
from eval.baselines.machine import Job, JobResult, JobSettings, run_job
from extractors.clips.listing import Clip


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


def run_jobs(jobs: Sequence[Job], processes: int, told: Progress = unseen) -> list[JobResult]:
    """Run jobs, several at once where asked for.

    Parameters
    ----------
    jobs
        Each machine and seed once.
    processes
        How many at once, no more than jobs; 1 runs them here.
    told
        How many epochs are done, of all jobs.

    Returns
    -------
    list of JobResult
        In the order of `jobs`. The same whatever the number of processes.

    Raises
    ------
    AsdError
        If one of them fails, after those in flight are finished; finished models stay.
    """
    progress = Steps(sum(job.settings.epochs * (1 + job.settings.folds) for job in jobs), told)
    processes = min(processes, len(jobs))
    if processes == 1:
        return [run_job(job, progress.update) for job in jobs]
    context = multiprocessing.get_context("spawn")  # a forked torch may hang
    queue = context.SimpleQueue()
    try:
        with ProcessPoolExecutor(processes, context, _connect, (queue,)) as pool:
            futures = [pool.submit(_run_connected, job) for job in jobs]
            try:
                waiting = set(futures)
                while waiting:
                    done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                    while not queue.empty():
                        progress.update(queue.get())
                    for future in done:
                        future.result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
    except BrokenProcessPool as error:
        raise AsdError(
            "a training process died, perhaps for want of memory; finished models stay: run "
            "again with a smaller --jobs or --memory"
        ) from error
    return [future.result() for future in futures]


_queue: SimpleQueue[int] | None = None  # of this process, to the one that waits


def _connect(queue: SimpleQueue[int]) -> None:
    """Tell a process where to say what is done, and leave it not running where the command was killed."""
    global _queue  # noqa: PLW0603 - a pool hands state to its processes in no other way
    _queue = queue
    if parent := multiprocessing.parent_process():
        Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    wait_for([parent.sentinel])
    os._exit(1)


def _run_connected(job: Job) -> JobResult:
    if _queue is None:
        raise RuntimeError("the process was not connected")
    return run_job(job, _queue.put)
