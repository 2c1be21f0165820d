"""A Ray cluster: reached or started, what there is of it, and one pass of Ray Data over tables.

A pass runs in a process of its own, which imports no torch.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

import pyarrow as pa
import ray
import ray.data

from cache.base.errors import AsdError
from cache.base.processors import cores

_MOST_CPUS = 8  # of one worker: beyond, its threads wait for the one interpreter they share


@dataclass(frozen=True)
class Node:
    """What a machine of the cluster has, whoever uses it."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Room:
    """A cluster: its machines, and what of all of them nobody uses at the moment."""

    nodes: Sequence[Node]
    free_cpus: float
    free_gpus: float

    def holds(self, cpus: int, per_gpu: int) -> int:
        """Count the workers that find a place at once: of so many CPUs each, so many to a GPU, or 0."""

        def places(cpus_there: float, gpus_there: float) -> int:
            by_cpus = int(cpus_there // cpus)
            return min(by_cpus, int(gpus_there * per_gpu + 1e-6)) if per_gpu else by_cpus

        return min(sum(places(n.cpus, n.gpus) for n in self.nodes), places(self.free_cpus, self.free_gpus))

    @property
    def emptied(self) -> Room:
        """The same cluster with nobody on it."""
        cpus, gpus = sum(n.cpus for n in self.nodes), sum(n.gpus for n in self.nodes)
        return Room(self.nodes, cpus, gpus)

    def __str__(self) -> str:
        whole = self.emptied
        return (
            f"{len(self.nodes)} machines, {self.free_cpus:g} of {whole.free_cpus:g} CPUs and "
            f"{self.free_gpus:g} of {whole.free_gpus:g} GPUs free"
        )


@dataclass(frozen=True)
class Share:
    """Workers, and what Ray sets aside for each.

    Attributes
    ----------
    actors
        Their number.
    cpus
        Each one's; it computes with as many threads, unless it has a GPU.
    per_gpu
        How many of them compute on one GPU; 0 where they compute on none.
    """

    actors: int
    cpus: int
    per_gpu: int

    @property
    def gpus(self) -> float:
        """Each one's part of a GPU, in the four digits that Ray knows, rounded so that all find a place."""
        return math.floor(1e4 / self.per_gpu) / 1e4 if self.per_gpu else 0


def share(room: Room, tables: int, actors: int | None, *, gpu: bool) -> Share:
    """Share a cluster out: a worker a table where it holds so many, each with the most CPUs.

    Each has a GPU of its own, unless more are asked for than the whole cluster has GPUs: then the fewest
    to a GPU with which it holds them.

    Parameters
    ----------
    room
        The cluster.
    tables
        To be made; never more workers than that.
    actors
        Workers asked for; ``None`` for as many as there is room.
    gpu
        Whether they compute on GPUs.

    Raises
    ------
    AsdError
        If there is no room for one, or for those asked for: they would wait for ever.
    """
    asked = min(tables, actors or 0)
    per_gpu = next((n for n in range(1, asked + 1) if room.emptied.holds(1, n) >= asked), 1) if gpu else 0
    held = room.holds(1, per_gpu)
    wanted = min(tables, actors or held)
    if not 0 < wanted <= held:
        needs = "a CPU" + (f" and 1/{per_gpu} of a GPU" if per_gpu > 1 else " and a GPU" if gpu else "")
        remedy = "ask for fewer" if held else "wait for other work to end, or add machines"
        raise AsdError(
            f"the cluster holds {held} of {max(wanted, 1)} actors, each with {needs}: {room}; {remedy}"
        )
    cpus = next(n for n in range(_MOST_CPUS, 0, -1) if room.holds(n, per_gpu) >= wanted)
    return Share(wanted, cpus, per_gpu)


ADDRESS = "RAY_ADDRESS"
_REACHED = 10.0  # seconds within which a cluster answers
_SETTLED = 60.0  # seconds within which a cluster notices that workers of before are gone
# Nothing of a run is told to Ray's makers, and a process without a GPU keeps its environment.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
# As Ray has it, workers give way to whatever else runs here: beside it they hardly get to work.
FAIR = {"worker_niceness": 0}


@contextmanager
def connected() -> Iterator[None]:
    """Join a cluster for a while: the caller's, or that of ``RAY_ADDRESS``.

    Where none is named, one of this machine alone is started, and ended afterwards. Meanwhile
    nothing reaches the standard output: Ray's messages go there, and stand in its logs too.

    Raises
    ------
    AsdError
        If the cluster named cannot be reached, or none be started.
    """
    with redirect_stdout(StringIO()):
        if ray.is_initialized():
            yield
            return
        try:
            _join()
        except (OSError, RuntimeError, ValueError) as error:
            named = os.environ.get(ADDRESS)
            what = f"no cluster at {ADDRESS}={named}" if named else "Ray cannot start here"
            raise AsdError(
                f"{what}: {str(error).splitlines()[0]}; see `ray status`, "
                "and set RAY_AUTH_MODE=token where the cluster asks for one"
            ) from error
        try:
            yield
        finally:
            ray.shutdown()


def _join() -> None:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address := os.environ.get(ADDRESS):  # [ray://]HOST:PORT
        host, colon, port = address.rpartition("://")[2].rpartition(":")
        if colon and port.isdigit():  # see whether anything listens: Ray itself tries for minutes
            with socket.create_connection((host.strip("[]"), int(port)), _REACHED):
                pass
        ray.init(address=address, **quiet)
    else:
        # Not any cluster that happens to run here: it may end with another command.
        own = {"num_cpus": cores(), "include_dashboard": False, "_system_config": FAIR}
        ray.init(address="local", **own, **quiet)


def room() -> Room:
    """See which machines there are and what of them nobody uses."""
    nodes = [
        Node(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in ray.nodes()
        if node["Alive"]
    ]
    free = ray.available_resources()
    return Room(nodes, free.get("CPU", 0.0), free.get("GPU", 0.0))


def settled_share(tables: int, actors: int | None, *, gpu: bool) -> Share:
    """Share the cluster out, see `share`; waits a little for what is about to become free.

    Raises
    ------
    AsdError
        If there is no room for a single actor, or for those asked for.
    """
    begin = time.monotonic()
    while True:
        now = room()
        best = share(now.emptied, tables, actors, gpu=gpu)
        if now.holds(best.cpus, best.per_gpu) >= best.actors:
            return best
        if time.monotonic() - begin > _SETTLED:
            return share(now, tables, actors, gpu=gpu)
        time.sleep(0.5)


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
            batch_size=1,  # a table each; of actors with GPUs, Ray refuses to choose
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=pool.share.actors, max_tasks_in_flight_per_actor=1),
            num_cpus=pool.share.cpus,
            num_gpus=pool.share.gpus,
            max_restarts=pool.restarts,
            max_task_retries=0,
            ray_remote_args_fn=pool.named,
        )
        yield from done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
