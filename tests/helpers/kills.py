"""Real commands killed with SIGKILL again and again until they complete: is anything lost?

``python -m tests.helpers.kills`` prints what came of it as JSON. Kills come by the clock, at any moment of
the time that an undisturbed run takes, and at a step: just before a file is opened, renamed or
removed, a file that is being written cut at any byte.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers import chain
from tests.helpers.chain import Command

_STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}
_ROUND = 8  # kills after which a run is left to complete


@dataclass
class Found:
    """What came of killing one command.

    Attributes
    ----------
    kills
        Of a run at work.
    early
        Of a run that had not opened a file yet; not counted in `kills`.
    writing
        Kills that left a temporary file: hits inside a write.
    fresh
        Kills of whole processes, imports and all; counted in `kills` or `early` too.
    completed
        Runs that came to their end after kills.
    rows_lost
        Rows of tables that were there before a kill and not after it.
    faults
        Whatever was not as after an undisturbed run, in words.
    seconds
        Of an undisturbed run.
    """

    kills: int = 0
    early: int = 0
    writing: int = 0
    fresh: int = 0
    completed: int = 0
    rows_lost: int = 0
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Trap:
    """Counts a process's steps in its output folders, and kills it at one of them.

    Lives in memory that parent and child share, so that the parent knows of a dead child how far
    it came.
    """

    def __init__(self, folder: Path, outputs: list[Path]) -> None:
        self._folder, self._outputs = f"{folder}{os.sep}", [f"{path}" for path in outputs]
        self._shared = mmap.mmap(-1, 16)
        self._last = 0
        self._cut = 0.0

    @property
    def steps(self) -> int:
        """Steps done."""
        return int.from_bytes(self._shared[:8], "little")

    @property
    def began(self) -> bool:
        """Whether a file of the data set, of a cache or of the outputs was opened."""
        return bool(self._shared[8])

    def reset(self) -> None:
        """Forget."""
        self._shared[:9] = bytes(9)

    def arm(self, last: int = 0, cut: float = 1.0) -> None:
        """In the child: die at step `last`, with that share of a file being written on disk."""
        self._last, self._cut = last, cut
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _STEPS or not arguments or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100 - a hook opens nothing
        if path.startswith(self._folder):
            self._shared[8] = 1
        if not path.startswith(tuple(self._outputs)):
            return
        self._shared[:8] = (self.steps + 1).to_bytes(8, "little")
        if self.steps == self._last:
            if path.endswith(".tmp") and Path(path).exists():
                os.truncate(path, int(self._cut * Path(path).stat().st_size))
            os.kill(os.getpid(), signal.SIGKILL)


class Victim:
    """One command in a work folder, to be killed.

    Parameters
    ----------
    command
        Which.
    folder
        The work folder, absolute; what the command needs is there.
    rng
        Decides when.
    """

    def __init__(self, command: Command, folder: Path, rng: np.random.Generator) -> None:
        self.command, self.folder, self.rng = command, folder, rng
        self.output = folder / command.makes
        self.scratch = folder / "tmp"
        self.trap = Trap(folder, [self.output, self.scratch])
        self.found = Found()
        self._expected: dict[str, str] = {}
        self._steps = 0
        self._rows = 0
        self._within = 1.0  # share of an undisturbed run after which it is killed at the latest

    def undisturbed(self) -> None:
        """Run to the end: what must come out."""
        self.begin(None)
        done = chain.run(self.command, self.folder, self.trap.arm)
        if done.code:
            raise AssertionError(f"{self.command.name}: exit code {done.code}: {done.said}")
        self.found.seconds, self._steps = done.seconds, self.trap.steps
        self._expected = chain.contents(self.output)

    def begin(self, old: Path | None) -> None:
        """Take away what was made, or put what an older run made in its place."""
        if self.output.exists():
            shutil.rmtree(self.output)
        if old is not None:
            shutil.copytree(old / self.command.makes, self.output)
        self.trap.reset()
        self._rows = 0

    def survive(self, kills: int, fresh: int, old: Path | None) -> None:
        """Kill and run again until there were that many kills of runs at work.

        Every second round begins with what `old` holds of the command, made of other data.
        """
        found, rounds = self.found, 0
        while found.kills < kills or found.fresh < fresh:
            self.begin(old if rounds % 2 else None)
            completed = False
            for number in range(_ROUND):
                enough = found.kills >= kills and found.fresh >= fresh
                if enough or completed:
                    break
                # Runs that go on where one was killed are shorter and shorter.
                self._within = 1 / (1 + number / 3)
                whole = found.fresh < fresh and self.rng.random() < 0.5
                completed = self._attempt(whole=whole)
            if not completed:
                self._run()
            self._compare()
            rounds += 1

    def _attempt(self, *, whole: bool) -> bool:
        """One run that is killed, unless it is faster; whether it came to its end."""
        self.trap.reset()
        if whole:
            killed, process = self._fresh()
        elif self.rng.random() < 0.5:
            killed, process = self._by_clock()
        else:
            killed, process = self._at_a_step()
        if not killed:
            return True
        began = self.trap.began or whole
        self.found.kills += began
        self.found.early += not began
        self.found.fresh += whole
        self.found.writing += bool(self._left(process))
        rows, faults = chain.in_child(self._readable)
        self.found.rows_lost += max(0, self._rows - rows)
        self._rows = rows
        self.found.faults += faults
        return False

    def _by_clock(self) -> tuple[bool, int]:
        log = chain.log_of(self.folder)
        delay = self.rng.uniform(0, self._within * self.found.seconds)
        begin = time.monotonic()
        process = chain.fork(lambda: chain.call(self.command, self.trap.arm), self.folder, log)
        handle = os.pidfd_open(process)
        waiting = select.poll()
        waiting.register(handle, select.POLLIN)
        waiting.poll(1000 * delay)
        os.kill(process, signal.SIGKILL)  # of one that has ended it is still ours
        os.close(handle)
        return self._killed(chain.ended(process, log, begin)), process

    def _at_a_step(self) -> tuple[bool, int]:
        log = chain.log_of(self.folder)
        last = 1 + int(self.rng.uniform(0, self._within) * self._steps)
        cut = float(self.rng.random())
        begin = time.monotonic()

        def work() -> int:
            return chain.call(self.command, lambda: self.trap.arm(last, cut))

        process = chain.fork(work, self.folder, log)
        return self._killed(chain.ended(process, log, begin)), process

    def _fresh(self) -> tuple[bool, int]:
        """A process of its own, imports and all, killed once it is at work."""
        command = [sys.executable, "-m", self.command.module, *self.command.argv]
        log = chain.log_of(self.folder)
        before = set(self.output.rglob("*"))
        environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
        with log.open("wb") as said:
            process = subprocess.Popen(command, cwd=self.folder, stdout=said, stderr=said, env=environment)
            while process.poll() is None and set(self.output.rglob("*")) == before:
                time.sleep(0.002)
            time.sleep(self.rng.uniform(0, self.found.seconds))
            process.kill()
            code = process.wait()
        return self._killed(chain.Ended(code, log.read_text(errors="replace"), 0.0)), process.pid

    def _killed(self, done: chain.Ended) -> bool:
        if done.code not in {0, -signal.SIGKILL}:
            self.found.faults.append(f"exit code {done.code} after a kill: {done.said[-1500:]}")
        return done.code != 0

    def _run(self) -> None:
        done = chain.run(self.command, self.folder)
        if done.code:
            self.found.faults.append(f"exit code {done.code} after kills: {done.said[-1500:]}")

    def _compare(self) -> None:
        """Hold what a run made that came to its end against what an undisturbed one makes."""
        self.found.completed += 1
        if self.output.name == "cache":
            chain.run(_GC, self.folder)
        left = [str(path) for path in self._left()]
        differing = chain.differences(self._expected, chain.contents(self.output))
        if left or differing:
            self.found.faults.append(f"differing: {differing}, left behind: {left}")

    def _left(self, process: int | None = None) -> list[Path]:
        """Temporary files, and folders in the system's place for them, of one process or of all."""
        found = [*self.output.rglob(".*.tmp"), *self.scratch.glob("asd-*")]
        return [path for path in found if process is None or f"-{process}" in path.name]

    def _readable(self) -> tuple[int, list[str]]:
        """Rows of the tables there are; and faults, for what has its final name is whole."""
        from cache.base.errors import AsdError  # noqa: PLC0415
        from cache.parquet import read_recipe  # noqa: PLC0415
        from cache.store import Store  # noqa: PLC0415
        from cache.upkeep import verify  # noqa: PLC0415
        from index.bank import Bank  # noqa: PLC0415

        checked = list(verify(Store(self.output)))
        faults = [str(fault) for _, fault in checked if fault is not None]
        rows = sum(read_recipe(stored.path)[1] for stored, fault in checked if fault is None)
        bank = Bank(self.output)
        try:
            for section in bank.sections():
                bank.read(section, bank.recipe())
        except AsdError as fault:
            faults.append(str(fault))
        return rows, faults


_GC = Command("gc", "cache.run", ("gc", "--cache-dir", "cache"), "cache")


def older(folder: Path, world: Path, commands: Sequence[Command]) -> Path:
    """What the commands make when one training clip is another and one is not there."""
    made = shutil.ignore_patterns(*(command.makes for command in commands))
    shutil.copytree(world, folder, ignore=made)
    clips = sorted((folder / "dev_data" / "fan" / "train").glob("*.wav"))
    shutil.copy(clips[2], clips[0])
    clips[3].unlink()
    for command in commands:
        chain.run(command, folder)
    return folder


def kill_all(folder: Path, args: Namespace) -> dict[str, Any]:
    """Kill every command, in turn."""
    world = folder / "world"
    tempfile.tempdir = os.environ["TMPDIR"] = str(world / "tmp")
    chain.load()
    (world / "tmp").mkdir(parents=True, exist_ok=True)
    chain.write_world(world)
    victims = [
        Victim(command, world, np.random.default_rng([args.seed, number]))
        for number, command in enumerate(chain.CHAIN)
    ]
    for victim in victims:
        victim.undisturbed()  # and makes what the next one needs
    old = older(folder / "older", world, chain.CHAIN) if args.older else None
    killed = [victim for victim in victims if victim.command.name in args.commands]
    for victim in killed:
        victim.survive(args.kills, args.fresh, old)
    return {victim.command.name: asdict(victim.found) for victim in killed}


def main() -> int:
    """Kill, and print what came of it."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=2, help="of each command, at work")
    parser.add_argument("--fresh", type=int, default=0, help="of whole processes among them")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--older", action="store_true", help="begin rounds with older outputs too")
    names = [command.name for command in chain.CHAIN]
    parser.add_argument("--commands", nargs="+", default=names, choices=names, help="which")
    begin, args = time.monotonic(), parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = kill_all(Path(folder).resolve(), args)
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    told = {"found": found, "seconds": time.monotonic() - begin, "peak_mib": most}
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
