"""One pass of Ray Data over tables, as it runs in a process of its own; imports no torch."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray
import ray.data

from extractors.engines.cluster import Share

_RESTARTS = 4  # of an actor in one pass
_START = 600  # seconds for all actors to load their backbones, downloads included


@dataclass(frozen=True)
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
    """

    share: Share
    name: str = field(default_factory=lambda: f"asd-{secrets.token_hex(8)}")
    restarts: int = field(default_factory=lambda: _RESTARTS)

    def named(self) -> dict[str, Any]:
        """Give the next actor its name."""
        return {"name": f"{self.name}-{secrets.token_hex(8)}"}


class Actor:
    """An actor: makes its worker when it starts, where the actor is.

    Parameters
    ----------
    contract
        Reference to the worker's class and its orders, wrapped, so that only actors read it.
    """

    def __init__(self, contract: Sequence[Any]) -> None:
        worker, orders = ray.get(contract[0])
        self._work: Callable[[pa.Table], pa.Table] = worker(orders)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Hand rows to the worker."""
        return self._work(rows)


class Pipeline:
    """The pass itself; ending its process ends the actors that it started."""

    def answers(self, rows: Sequence[pa.Table], contract: Sequence[Any], pool: Pool) -> Iterator[pa.Table]:
        """Have tables made, a row of the manifest each; give the answers as they come.

        Parameters
        ----------
        rows
            Tables of one row, a block each.
        contract
            See `Actor`.
        pool
            The actors to start.

        Yields
        ------
        pyarrow.Table
            Of some rows there may be none: their worker died.
        """
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # the caller compares tables asked for and answered
        context.execution_no_progress_timeout_s = -1  # a table that takes hours is no fault
        context.wait_for_min_actors_s = _START
        done = ray.data.from_arrow(list(rows)).map_batches(
            Actor,
            fn_constructor_args=(contract,),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=pool.share.actors, max_tasks_in_flight_per_actor=1),
            num_cpus=pool.share.cpus,
            num_gpus=pool.share.gpus,
            max_restarts=pool.restarts,
            max_task_retries=0,
            ray_remote_args_fn=pool.named,
        )
        yield from done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
