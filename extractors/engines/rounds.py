"""A pass over tables on a cluster, seen from outside, so that it always ends.

Ray Data takes an actor that died for good for one that is merely busy: with the last of them gone
it waits for ever. So it runs in a process of its own, which is watched and ended when nobody is
left to work. What a pass did not bring is for the next one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from extractors.engines import pipeline
from extractors.engines.cluster import room
from extractors.engines.tables import Answer, Table, answers_from, manifest
from extractors.engines.worker import Orders, TableWorker

_POLL = 5.0  # seconds without an answer before the actors are looked after
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
    reason
        Why the pass ended before its time; empty if it did not.
    began
        Whether a worker came to work, as far as is known.
    """

    worker: type[TableWorker]
    orders: Orders
    pool: pipeline.Pool
    seen: bool = False
    reason: str = ""
    began: bool = True

    def answers(self, tables: Sequence[Table]) -> Iterator[Answer]:
        """Have tables made; give answers as they come, of some tables perhaps none."""
        here = ray.get_runtime_context().get_node_id()
        place = NodeAffinitySchedulingStrategy(here, soft=True)
        contract = ray.put((self.worker, self.orders))
        actor = ray.remote(num_cpus=0, scheduling_strategy=place)(pipeline.Pipeline).remote()
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
        while not ray.wait([stream], timeout=_POLL)[0]:
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
        share = self.pool.share
        return not self.seen or (alive and room().emptied.holds(share.cpus, share.gpus) > 0)
