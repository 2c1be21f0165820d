"""The system fails under the chain's commands: full and read-only disks, limits, a wrong clock.

``python -m tests.helpers.system_faults [NAME ...]`` tries faults on the commands they concern and prints
what came of it as JSON: a run under a fault ends well or says what is wrong with exit code 2, and
the next run, the fault being gone, makes what an undisturbed one makes. Disks are small file
systems in memory, mounted where a command writes; `mounting` says how to start it.
"""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.helpers import chain
from tests.helpers.chain import CHAIN, EVALUATE, EXTRACT, FINETUNE, INDEX, SCORE, Command, Ended

_MIB = 2**20
_PATIENCE = 120  # seconds after which a run is taken to hang, and ends by a signal
_FULL, _LARGER, _READ_ONLY = "the disk is full", "larger than a file may be", "is read-only"
_MEMORY = "memory"
_CRASHES = (-signal.SIGABRT, -signal.SIGSEGV)
_OVERFLOWING = replace(FINETUNE, argv=(*FINETUNE.argv, "--memory", "0"))
_LOOKING = (
    Command("listing", "cache.run", ("ls", "--cache-dir", "cache"), "nothing"),
    Command("verifying", "cache.run", ("verify", "--cache-dir", "cache"), "nothing"),
)


@dataclass
class Found:
    """What came of a fault.

    Attributes
    ----------
    tried
        Runs under it.
    worked
        Those that ended well in spite of it.
    refused
        Those that ended with exit code 2 and said what was wrong.
    finished
        Next runs that made what an undisturbed one makes.
    died
        Those that a library ended: where memory lacks, OpenBLAS and C++ do not always return.
    faults
        Whatever else happened.
    """

    tried: int = 0
    worked: int = 0
    refused: int = 0
    died: int = 0
    finished: int = 0
    faults: list[str] = field(default_factory=list)

    def saw(self, what: str, done: Ended, words: str | None) -> None:
        """Take in a run under the fault; without `words` it has to work."""
        self.tried += 1
        told = words is not None and done.code == 2 and "error: " in done.said
        if done.code == 0:
            self.worked += 1
        elif told and str(words) in done.said and "Traceback" not in done.said:
            self.refused += 1
        elif words == _MEMORY and done.code in _CRASHES:
            self.died += 1
        else:
            self.faults.append(f"{what}: exit code {done.code}: {done.said[-1500:]}")


class World:
    """A data set with all that the chain makes of it."""

    def __init__(self, folder: Path, commands: Sequence[Command] = CHAIN) -> None:
        self.folder = folder
        self.expected: dict[str, dict[str, str]] = {}
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        chain.write_world(folder)
        for command in commands:
            done = chain.run(command, folder)
            if done.code:
                raise AssertionError(f"{command.name}: exit code {done.code}: {done.said}")
        for command in commands:  # all are there: what one adds to another's folder is known
            self.expected[command.makes] = chain.contents(folder / command.makes)

    def place(self, command: Command) -> Path:
        """Where it writes."""
        return self.folder / command.makes

    @contextmanager
    def without(self, *commands: Command) -> Iterator[None]:
        """Put aside what commands made; what was made meanwhile is dropped."""
        names = dict.fromkeys(command.makes for command in commands)
        for name in names:
            (self.folder / name).rename(self.folder / f"aside-{name}")
            (self.folder / name).mkdir()
        try:
            yield
        finally:
            for name in names:
                shutil.rmtree(self.folder / name)
                (self.folder / f"aside-{name}").rename(self.folder / name)

    @contextmanager
    def disk(self, command: Command, size: int) -> Iterator[Callable[..., None]]:
        """Mount a file system of so many bytes where a command writes; what is given remounts."""
        place = self.place(command)
        with self.without(command):
            _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", place)
            try:
                yield lambda options: _mount("-o", f"remount,{options}", place)
            finally:
                subprocess.run(["umount", place], check=True)

    def finish(self, command: Command, found: Found) -> None:
        """Run again without a fault, and compare."""
        done = chain.run(command, self.folder)
        if done.code:
            found.faults.append(f"{command.name}, the next run: {done.code}: {done.said[-1500:]}")
            return
        found.faults += self.faults(command)
        found.finished += not self.faults(command)

    def faults(self, command: Command) -> list[str]:
        """What differs from what an undisturbed run made, and what a run left behind."""
        made = chain.contents(self.place(command))
        differing = chain.differences(self.expected[command.makes], made)
        return [f"{command.name}: {name} differs" for name in differing]

    def largest(self, command: Command) -> int:
        """Bytes of the largest file that it makes."""
        paths = [path for path in self.place(command).rglob("*") if path.is_file()]
        return max(path.stat().st_size for path in paths)

    def taken(self, command: Command) -> int:
        """Bytes that what it makes takes on a disk of pages."""
        sizes = [path.stat().st_size for path in self.place(command).rglob("*") if path.is_file()]
        return sum(-(-size // 4096) * 4096 for size in sizes)


def mounting() -> list[str] | None:
    """How to start a process that may mount without anybody else seeing it; ``None`` if none."""
    with tempfile.TemporaryDirectory() as folder:
        for prefix in (["unshare", "-m"], ["unshare", "-Urm"]):
            command = [*prefix, "mount", "-t", "tmpfs", "tmpfs", folder]
            try:
                if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                    return prefix
            except OSError:
                return None
    return None


def full(world: World, shares: Sequence[float] = (0.05, 0.5, 0.9)) -> Found:
    """A disk that is full after a part of what a command writes."""
    found = Found()
    for command in CHAIN:
        for share in shares:
            size = max(4096, int(share * world.taken(command)))
            with world.disk(command, size) as remount:
                done = chain.run(command, world.folder)
                found.saw(f"{command.name} on {size} bytes", done, _FULL)
                found.faults += [f"left: {path}" for path in world.place(command).rglob(".*.tmp")]
                remount("size=64m")
                world.finish(command, found)
    return found


def full_beside(world: World) -> Found:
    """A full disk where a command keeps what it does not give: waveforms, scratch tables."""
    found = Found()
    for command, place in ((_OVERFLOWING, "scratch"), (SCORE, "tmp")):
        folder = world.folder / place
        _mount("-t", "tmpfs", "-o", "size=8k", "tmpfs", folder)
        try:
            with world.without(command):
                found.saw(command.name, chain.run(command, world.folder), _FULL)
                _mount("-o", "remount,size=64m", folder)
                world.finish(command, found)
        finally:
            subprocess.run(["umount", folder], check=True)
    return found


def file_size(world: World, shares: Sequence[float] = (0.2, 0.9)) -> Found:
    """A limit on the size of a file (``ulimit -f``)."""
    found = Found()
    for command in CHAIN:
        for share in shares:
            most = int(share * world.largest(command))
            with world.without(command):
                done = chain.run(command, world.folder, lambda most=most: _limit("FSIZE", most))
                found.saw(f"{command.name}, files up to {most} bytes", done, _LARGER)
                world.finish(command, found)
    return found


def read_only(world: World) -> Found:
    """A folder that is read-only where a command writes."""
    found = Found()
    for command in CHAIN:
        with world.disk(command, 64 * _MIB) as remount:
            remount("ro")
            found.saw(command.name, chain.run(command, world.folder), _READ_ONLY)
            remount("rw")
            world.finish(command, found)
    return found


def reading(world: World) -> Found:
    """Everything read-only but where a command writes: nothing else is needed."""
    found, writing = Found(), (FINETUNE, INDEX, EVALUATE, SCORE)
    with world.without(*writing):
        _mount("--bind", world.folder, world.folder)
        _mount("-o", "remount,bind,ro", world.folder)
        places = [world.folder / "tmp", *(world.place(command) for command in writing)]
        try:
            for place in places:
                _mount("-t", "tmpfs", "tmpfs", place)
            for command in (*_LOOKING, EXTRACT, *writing):
                found.saw(command.name, chain.run(command, world.folder), None)
                if command in writing:
                    found.faults += world.faults(command)
        finally:
            for place in [*places, world.folder]:
                subprocess.run(["umount", place], check=True)
    return found


def clock(world: World) -> Found:
    """A clock that goes backwards, and files that were written in the future."""
    found, future = Found(), time.time() + 1e8
    for path in world.folder.rglob("*"):
        os.utime(path, (future, future))
    for command in CHAIN:
        with world.without(command):
            found.saw(command.name, chain.run(command, world.folder, _backwards), None)
            world.finish(command, found)
    return found


def other_disk(world: World) -> Found:
    """Outputs on another file system than the folder for temporary files."""
    found = Found()
    for command in CHAIN:
        with world.without(command), tempfile.TemporaryDirectory(dir="/dev/shm") as other:
            world.place(command).rmdir()
            world.place(command).symlink_to(other)
            try:
                found.saw(command.name, chain.run(command, world.folder), None)
                found.faults += world.faults(command)
            finally:
                world.place(command).unlink()
                world.place(command).mkdir()
    return found


def memory(world: World, shares: Sequence[float] = (0.1, 0.25, 0.4)) -> Found:
    """A limit on addresses: a share of those that an undisturbed run takes beyond its imports."""
    found = Found()
    for command in CHAIN:
        with world.without(command):
            needed = _needed(command, world.folder)
        for share in shares:
            more = int(share * needed)
            with world.without(command):
                done = chain.run(command, world.folder, lambda more=more: _limit_memory(more))
                found.saw(f"{command.name}, {more >> 20} of {needed >> 20} MiB", done, _MEMORY)
                world.finish(command, found)
    return found


def _needed(command: Command, folder: Path) -> int:
    """Bytes of addresses that a run takes at most beyond those it starts with."""

    def work() -> int:
        begin = _addresses("VmSize")
        os.chdir(folder)
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            chain.call(command)
        return _addresses("VmPeak") - begin

    return int(chain.in_child(work))


def _addresses(name: str) -> int:
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(status[name].split()[0])


ALL: dict[str, Callable[[World], Found]] = {
    "full disk": full,
    "full disk, once": lambda world: full(world, (0.5,)),
    "full disk for scratch": full_beside,
    "limit on a file's size": file_size,
    "read-only output": read_only,
    "read-only inputs": reading,
    "clock going backwards": clock,
    "another file system": other_disk,
    "limit on memory": memory,
}


def _mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True)


def _limit(kind: str, most: int) -> None:
    resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (most, most))


def _limit_memory(more: int) -> None:
    signal.alarm(_PATIENCE)
    _limit("AS", _addresses("VmSize") + more)


def _backwards() -> None:
    state = {"now": time.time()}

    def told() -> float:
        state["now"] -= 3600.0
        return state["now"]

    time.time = told
    time.time_ns = lambda: int(1e9 * told())


def main(arguments: list[str]) -> int:
    """Try faults, all by default, and print what came of it."""
    chosen = {name: ALL[name] for name in arguments or ALL if arguments or "once" not in name}
    begin = time.monotonic()
    told: dict[str, Any] = {"found": {}}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve() / "world"
        tempfile.tempdir = os.environ["TMPDIR"] = str(place / "tmp")
        chain.load()
        world = World(place)
        for name, fault in chosen.items():
            told["found"][name] = asdict(fault(world))
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    told |= {"seconds": time.monotonic() - begin, "peak_mib": most}
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
