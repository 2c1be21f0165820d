"""Several processes at once on one cache folder, one bank: always whole, and the same in the end.

``python -m tests.helpers.together`` prints what came of it as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tests.helpers import chain
from tests.helpers.chain import EXTRACT, INDEX, Command
from tests.helpers.system_faults import World

_DATA = ("--data", *chain.DATA)
_LOGMEL = replace(
    EXTRACT,
    argv=(*_DATA, "--backbone", "logmel", "--pooling", "mean", "max", "--batch-size", "1",
          "--cache-dir", "cache"),
)  # fmt: skip
_NETWORK = replace(
    EXTRACT,
    argv=(*_DATA, "--backbone", "efficientat", "--weights", "mn01_as.pt", "--pooling", "mean",
          "--cache-dir", "cache"),
)  # fmt: skip
_NOTHING = "no section was written"
_VERIFY = Command("verifying", "cache.run", ("verify", "--cache-dir", "cache"), "cache")


@dataclass
class Found:
    """What came of processes at once.

    Attributes
    ----------
    writers
        Processes that wrote at once.
    reads
        Times that everything was read meanwhile.
    faults
        Whatever was not whole, or not the same in the end.
    """

    writers: int = 0
    reads: int = 0
    faults: list[str] = field(default_factory=list)


def extractions(world: World) -> Found:
    """The same backbone twice and another one, while a reader verifies and indexes."""
    writers = [_LOGMEL, _LOGMEL, _NETWORK, _NETWORK]
    with world.without(EXTRACT, INDEX):
        found = _at_once(world, writers, [lambda: chain.call(_VERIFY), _read_tables])
        found.faults += world.faults(EXTRACT)
        _at_end(world, INDEX, found)
    return found


def banks(world: World) -> Found:
    """Builds of one bank, and a reader: it is the same as one build's."""
    with world.without(INDEX):
        found = _at_once(world, [INDEX, INDEX, INDEX], [_bank_reader(world)])
        _at_end(world, INDEX, found)
        found.faults += world.faults(INDEX)
        found.faults += chain.in_child(lambda: _read_bank(world.place(INDEX)))
    return found


def others_banks(world: World) -> Found:
    """Builds of one bank from different tables at once: it is one of them, whole."""
    other = replace(INDEX, argv=(*INDEX.argv, "--percentile", "80", "--threshold", "quantile"))
    mahalanobis = replace(INDEX, argv=(*INDEX.argv, "--scorer", "mahalanobis"))
    with world.without(INDEX):
        builds = [INDEX, other, mahalanobis, mahalanobis]
        found = _at_once(world, builds, [_bank_reader(world)])
        found.faults += chain.in_child(lambda: _read_bank(world.place(INDEX)))
    return found


def _at_end(world: World, command: Command, found: Found) -> None:
    """Run alone, on what those at once made."""
    done = chain.run(command, world.folder)
    if done.code:
        found.faults.append(f"{command.name}: {done.code}: {done.said[-1500:]}")


def _at_once(world: World, writers: Sequence[Command], readers: Sequence[Callable[[], object]]) -> Found:
    found = Found(len(writers))
    begin = time.monotonic()
    processes = []
    for number, command in enumerate(writers):
        log = world.folder.parent / f"writer-{number}.log"
        process = chain.fork(lambda command=command: chain.call(command), world.folder, log)
        processes.append((process, log, command.name))
    while _any_alive([process for process, _, _ in processes]):
        for reader in readers:
            log = world.folder.parent / "reader.log"
            done = chain.ended(chain.fork(reader, world.folder, log), log, begin)
            found.reads += 1
            if done.code:
                found.faults.append(f"reader: {done.code}: {done.said[-1500:]}")
        time.sleep(0.01)
    for process, log, name in processes:
        done = chain.ended(process, log, begin)
        if done.code:
            found.faults.append(f"{name}: exit code {done.code}: {done.said[-1500:]}")
    return found


def _any_alive(processes: Sequence[int]) -> bool:
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return any(os.waitid(os.P_PID, process, options) is None for process in processes)


def _read_tables() -> int:
    """Read every table through the store, as the index does."""
    from cache.store import Store  # noqa: PLC0415

    store = Store(Path("cache"))
    for recipe in store.recipes():
        for stored in store.tables(recipe):
            store.read(recipe, stored.section, stored.split)
    return 0


def _bank_reader(world: World) -> Callable[[], object]:
    def read() -> int:
        for _ in range(20):
            faults = [f for f in _read_bank(world.place(INDEX)) if f != _NOTHING]
            if faults:
                raise AssertionError(faults)
        return 0

    return read


def _read_bank(folder: Path) -> list[str]:
    """Read every section; faults of those that are not whole."""
    from cache.base.errors import AsdError  # noqa: PLC0415
    from index.bank import Bank  # noqa: PLC0415

    bank = Bank(folder)
    try:
        for section in bank.sections():
            bank.read(section, bank.recipe())
    except AsdError as fault:
        return [str(fault)]
    return [] if bank.sections() else [_NOTHING]


def main() -> int:
    """Try all of it."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        chain.load((EXTRACT, INDEX))
        world = World(Path(folder).resolve() / "world", (EXTRACT, INDEX))
        found = {
            "extractions": asdict(extractions(world)),
            "builds of a bank": asdict(banks(world)),
            "builds of different banks": asdict(others_banks(world)),
        }
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    told = {"found": found, "seconds": time.monotonic() - begin, "peak_mib": most}
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
