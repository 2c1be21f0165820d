"""How many workers a cluster holds, and what each of them gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cache.base.errors import AsdError

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

    def holds(self, cpus: int, gpus: int) -> int:
        """Count the workers of such needs that find a place at once."""
        per_node = [min(n.cpus // cpus, n.gpus // gpus if gpus else n.cpus) for n in self.nodes]
        free = min(self.free_cpus // cpus, self.free_gpus // gpus if gpus else self.free_cpus)
        return int(min(sum(per_node), free))

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
    cpus, gpus
        Each one's; it computes on its GPU, or else with as many threads as it has CPUs.
    """

    actors: int
    cpus: int
    gpus: int


def share(room: Room, tables: int, actors: int | None, gpus: int) -> Share:
    """Share a cluster out: a worker a table where it holds so many, each with the most CPUs.

    Parameters
    ----------
    room
        The cluster.
    tables
        To be made; never more workers than that.
    actors
        Workers asked for; ``None`` for as many as there is room.
    gpus
        A worker's: 0 or 1.

    Raises
    ------
    AsdError
        If there is no room for one, or for those asked for: they would wait for ever.
    """
    held = room.holds(1, gpus)
    wanted = min(tables, actors or held)
    if not 0 < wanted <= held:
        needs = "a CPU and a GPU" if gpus else "a CPU"
        remedy = "ask for fewer" if held else "wait for other work to end, or add machines"
        raise AsdError(
            f"the cluster holds {held} of {max(wanted, 1)} actors, each with {needs}: {room}; {remedy}"
        )
    cpus = next(n for n in range(_MOST_CPUS, 0, -1) if room.holds(n, gpus) >= wanted)
    return Share(wanted, cpus, gpus)
