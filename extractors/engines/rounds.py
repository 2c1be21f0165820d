"""One pass of Ray Data over tables, in a process that can be ended.

Ray Data takes an actor that died for good for one that is merely busy: with the last of them gone
it waits for ever. So a pass runs in a process of its own, is watched from outside, and ends when
nobody is left to work. What it did not bring is for the next pass.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from extractors.engines.cluster import room
from extractors.engines.shares import Share
from extractors.engines.tables import Answer, Table, answers_from, manifest
from extractors.engines.worker import Orders, TableWorker

_RESTARTS = 4  # of an actor in one pass
_START = 600  # seconds for all actors to load their backbones, downloads included
_POLL = 5.0  # seconds without an answer before the actors are looked after
_PATIENCE = 2  # such looks in a row that find nobody at work end the pass


class Pipeline:
    """The pass itself, as Ray runs it."""

    def answers(
        self, rows: Sequence[pa.Table], worker: type[TableWorker], orders: Orders, pool: Pool
    ) -> Iterator[pa.Table]:
        """Have tables made, a row of the manifest each; give the answers as they come."""
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # the caller compares tables asked for and answered
        context.execution_no_progress_timeout_s = -1  # a table of days is no fault
        context.wait_for_min_actors_s = _START
        done = ray.data.from_arrow(list(rows)).map_batches(
            worker,
            fn_constructor_args=(orders,),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=pool.share.actors, max_tasks_in_flight_per_actor=1
            ),
            num_cpus=pool.share.cpus,
            num_gpus=pool.share.gpus,
            max_restarts=pool.restarts,
            max_task_retries=0,
            ray_remote_args_fn=pool.named,
        )
        yield from done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


@dataclass
class Pool:
    """The actors of one pass, known by their names.

    Attributes
    ----------
    share
        How many, on what.
    name
        What their names begin with.
    restarts
        Of an actor; each death has cost a table, which the next pass takes up.
    seen
        Whether any was seen so far: before, they are about to start.
    """

    share: Share
    name: str = field(default_factory=lambda: f"asd-{secrets.token_hex(8)}")
    restarts: int = field(default_factory=lambda: _RESTARTS)
    seen: bool = False

    def named(self) -> dict[str, Any]:
        """Give the next actor its name."""
        return {"name": f"{self.name}-{secrets.token_hex(8)}"}

    def is_dead(self) -> bool:
        """Tell whether nobody is left, or no machine on which one could be started again."""
        alive = any(name.startswith(self.name) for name in ray.util.list_named_actors())
        self.seen |= alive
        placed = room().emptied.holds(self.share.cpus, self.share.gpus)
        return self.seen and not (alive and placed)


@dataclass
class Round:
    """A pass, seen from outside.

    Attributes
    ----------
    worker, orders
        Who does the work, and what each is told.
    share
        How many, on what.
    reason
        Why it ended before its time; empty if it did not.
    """

    worker: type[TableWorker]
    orders: Orders
    share: Share
    reason: str = ""

    def answers(self, tables: Sequence[Table]) -> Iterator[Answer]:
        """Have tables made; give answers as they come, of some tables perhaps none."""
        here = ray.get_runtime_context().get_node_id()
        place = NodeAffinitySchedulingStrategy(here, soft=True)
        pipeline = ray.remote(num_cpus=0, scheduling_strategy=place)(Pipeline).remote()
        pool = Pool(self.share)
        stream = pipeline.answers.options(num_returns="streaming").remote(
            [manifest(table) for table in tables], self.worker, self.orders, pool
        )
        try:
            while (rows := self._next(stream, pool)) is not None:
                yield from answers_from(rows)
        finally:
            ray.kill(pipeline)  # and with it the actors it started

    def _next(self, stream: Any, pool: Pool) -> pa.Table | None:
        looks = 0
        while not ray.wait([stream], timeout=_POLL)[0]:
            looks = looks + 1 if pool.is_dead() else 0
            if looks == _PATIENCE:
                self.reason = "no worker was left"
                return None
        try:
            found = next(stream, None)
            return None if found is None else ray.get(found)
        except ray.exceptions.RayError as error:
            self.reason = str(error).strip().splitlines()[-1]
            return None
