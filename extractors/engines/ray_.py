"""The extraction on a Ray cluster: tables to workers, their reports back, nothing lost unnamed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cache.base.errors import AsdError
from cache.base.progress import Progress, Steps, unseen
from cache.files import places
from cache.files.atomic import temporary_name, write_atomic
from cache.store import Store
from extractors.clips.listing import Clip
from extractors.embedding.embedder import Forward
from extractors.engines.cluster import Pipeline, Pool, connected, room, settled_share
from extractors.engines.local import Report
from extractors.engines.tables import (
    Answer,
    Lost,
    Outcome,
    Table,
    TableKey,
    answers_from,
    manifest,
    tables_of,
)
from extractors.engines.worker import Orders, TableWorker
from extractors.request import ExtractRequest

_POLL = 5.0  # seconds without an answer before the actors are looked after
_SOON = 0.2  # the same until one was seen: it may die at once
_UNSEEN = 900.0  # seconds without a sight of any; before, Ray itself gives up to start them
_NEVER_RAN = "The actor never ran"  # Ray's words for one that a busy machine did not get started
_PATIENCE = 2  # such looks in a row that find nobody at work end the pass


@dataclass
class Round:
    """One pass.

    Attributes
    ----------
    worker, orders
        Who does the work, and what each is told.
    pool
        The actors that do it.
    seen
        Whether any of them was seen so far: before, they are about to start.
    until
        When they no longer are, by the clock that never goes back.
    reason
        Why the pass ended before its time; empty if it did not.
    began
        Whether a worker came to work, as far as is known.
    """

    worker: type[TableWorker]
    orders: Orders
    pool: Pool
    seen: bool = False
    until: float = field(default_factory=lambda: time.monotonic() + _UNSEEN)
    reason: str = ""
    began: bool = True

    def answers(self, tables: Sequence[Table]) -> Iterator[Answer]:
        """Have tables made; give answers as they come, of some tables perhaps none."""
        here = ray.get_runtime_context().get_node_id()
        place = NodeAffinitySchedulingStrategy(here, soft=True)
        contract = ray.put((self.worker, self.orders))
        actor = ray.remote(num_cpus=0, scheduling_strategy=place)(Pipeline).remote()
        stream = actor.answers.options(num_returns="streaming").remote(
            [manifest(table) for table in tables], [contract], self.pool
        )
        try:
            answered = False
            while (rows := self._next(stream)) is not None:
                answered = True
                yield from answers_from(rows)
            self.began = answered or _NEVER_RAN not in self.reason
        finally:
            ray.kill(actor)  # and with it the actors it started

    def _next(self, stream: Any) -> pa.Table | None:
        looks = 0
        while not ray.wait([stream], timeout=_POLL if self.seen else _SOON)[0]:
            looks = 0 if self._is_alive() else looks + 1
            if looks == _PATIENCE:
                self.reason = "no worker was left"
                return None
        try:
            found = next(stream, None)
            return None if found is None else ray.get(found)
        except ray.exceptions.RayError as error:
            self.reason = str(error).strip().splitlines()[-1]
            return None

    def _is_alive(self) -> bool:
        """Tell whether anybody is at work or may be again: there is room to start one anew."""
        alive = any(name.startswith(self.pool.name) for name in ray.util.list_named_actors())
        self.seen |= alive
        if not self.seen:
            return time.monotonic() < self.until
        share = self.pool.share
        return alive and room().emptied.holds(share.cpus, share.per_gpu) > 0


_FRUITLESS = 2  # passes in a row that finish no table; then what is left is given up
_IDLE = 5  # passes in a row in which no worker came to work: nothing is known of the tables then
_PAUSE = 5.0  # seconds before the next one
_LOG = logging.getLogger(__name__)
_DIED = "its worker died each time, Ray's logs tell more"


def extract(
    request: ExtractRequest,
    forwards: Sequence[Forward],
    clips: Sequence[Clip],
    told: Progress = unseen,
) -> Outcome:
    """Bring the store's tables up to date on a cluster, as `Extraction.run` does in one process.

    Each actor loads the backbones once and takes whole tables. A table whose worker dies is tried
    again while others get finished, and then a bounded number of times.

    Parameters
    ----------
    request
        What is wanted.
    forwards
        The backbones as this process loaded them: they name the tables.
    clips
        Each id once.
    told
        How many clips are done, each counted once a backbone.

    Returns
    -------
    Outcome
        Reports in the order of one process, and the tables that could not be finished.

    Raises
    ------
    AsdError
        If the cluster has no room or cannot be reached, a machine would make other tables or does
        not see the files, the store cannot be written, or at the first unusable clip where strict.
    """
    request = replace(request, cache_dir=request.cache_dir.absolute())
    store = Store(request.cache_dir)
    tables = tables_of(clips)
    recipes = [output.recipe for each in forwards for output in each.outputs]
    progress = Steps(len(clips) * len(forwards), told)
    with connected(), store.writing(recipes), token_in(store) as token:
        run = _Run(request, forwards, store, token, progress)
        run.finish(tables)
    return run.outcome(tables)


@dataclass
class _Run:
    """The passes of one extraction and what they brought."""

    request: ExtractRequest
    forwards: Sequence[Forward]
    store: Store
    token: Path
    progress: Steps
    answers: dict[TableKey, Answer] = field(default_factory=dict)
    reason: str = ""
    asked: int | None = None

    def __post_init__(self) -> None:
        self.asked = self.request.actors

    def finish(self, tables: Sequence[Table]) -> None:
        """Pass after pass over what is left, as long as that brings anything."""
        fruitless = idle = 0
        # The largest first, so that no worker starts on one when the others are done.
        left = sorted(tables, key=lambda table: -len(table.clips))
        while left and fruitless < _FRUITLESS and idle < _IDLE:
            before = len(self.answers)
            began = self._pass(left)
            idle = 0 if began else idle + 1
            if idle:
                _LOG.info("no worker began (%s): tried again", self.reason)
                time.sleep(_PAUSE)
                continue
            fruitless = fruitless + 1 if len(self.answers) == before else 0
            # From the other end: tables that kill their workers shall not stay in front of others.
            left = [table for table in reversed(left) if table.key not in self.answers]

    def outcome(self, tables: Sequence[Table]) -> Outcome:
        """Add the reports up in the order of the tables, and look what the lost ones lack."""
        reports = [Report() for _ in self.forwards]
        lost = []
        for table in tables:
            answer = self.answers.get(table.key)
            if answer is None or answer.failure:
                held = [self.store.keys(o.recipe, *table.key) for each in self.forwards for o in each.outputs]
                ids = (clip.clip_id for clip in table.clips)
                gone = tuple(i for i in ids if not all(i in rows for rows in held))
                lost.append(Lost(table, gone, answer.failure if answer else self.reason or _DIED))
            else:
                for whole, part in zip(reports, answer.reports, strict=True):
                    whole.add(part)
        return Outcome(reports, lost)

    def _pass(self, tables: Sequence[Table]) -> bool:
        """Try these tables; whether any worker came to work on one."""
        gpu = self._has_gpus()
        # Of the actors asked for, a later pass takes what a cluster that lost machines still holds.
        asked, self.asked = self.asked, None
        most = min(len(tables), self.request.actors or len(tables))
        share = settled_share(most, asked, gpu=gpu)
        orders = Orders(
            replace(self.request, device="cuda" if gpu else "cpu"),
            Path.cwd(),
            tuple(output.recipe for each in self.forwards for output in each.outputs),
            self.token,
            share.cpus,
            share.per_gpu,
        )
        if share.per_gpu > 1:
            _LOG.info("%d actors, %d to a GPU, each with its part of the memory", share.actors, share.per_gpu)
        round_ = Round(TableWorker, orders, Pool(share))
        sizes = {table.key: len(table.clips) * len(self.forwards) for table in tables}
        for answer in round_.answers(tables):
            if answer.error:
                raise AsdError(answer.error)
            key = answer.section, answer.split
            self.answers[key] = answer
            self.progress.update(sizes[key])
            for level, text in answer.notes:
                _LOG.log(level, "%s", text)
        self.reason = round_.reason
        return round_.began

    def _has_gpus(self) -> bool:
        if self.request.device == "cpu":
            return False
        found = any(node.gpus >= 1 for node in room().nodes)
        if self.request.device == "cuda" and not found:
            raise AsdError("--device cuda: no machine of the cluster has a GPU; use auto or cpu")
        return found


@contextmanager
def token_in(store: Store) -> Iterator[Path]:
    """Put a file into the cache folder for a while: machines that see it have the same folder.

    Where a killed run leaves it, `asd cache gc` removes it.

    Raises
    ------
    AsdError
        If the folder cannot be written to.
    """
    path = temporary_name(store.root / "cluster")
    write_atomic(path, b"")
    try:
        yield path
    finally:
        places.remove(path)
