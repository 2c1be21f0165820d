"""The processors that this process may use, and how its libraries share them with neighbours.

Counted once, for everything that computes: torch, FAISS, OpenBLAS, forward passes side by side, decoders.
A container's quota does not show in the number of processors: a library that starts a thread for each of
them is stopped for most of every tenth of a second, in the middle of a barrier that its other threads
wait at. And where they wait by spinning, they take the processor from the very thread that they wait
for, as soon as any other program runs: see benchmarks/contention.md.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

THREADS = "OMP_NUM_THREADS"  # OpenMP 4.5, section 4.2; a list is by depth of nesting
_BLAS = "OPENBLAS_NUM_THREADS"
# OpenMP 4.5, section 4.7: threads that wait sleep. GNU's and Intel's libraries read it when loaded.
_WAITING = "OMP_WAIT_POLICY"
_FORMATS = ("avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16")  # Linux's names, proc/cpuinfo
_LOADED = ("numpy", "scipy", "faiss", "torch", "sklearn")  # what brings threads of its own


class _Taken:
    """What of the machine's processors this process was told to use, and whether `share` was called."""

    cores: int | None = None
    shared = False


def take_cores(count: int | None) -> None:
    """Use this many processors and no more: others of a cluster have the rest; ``None`` undoes it."""
    _Taken.cores = count


def cores() -> int:
    """Count the processors this process may use: what it was told, or else `Processors.usable`."""
    return _Taken.cores if _Taken.cores is not None else processors().usable


@dataclass(frozen=True)
class Processors:
    """What bounds the number of threads.

    Attributes
    ----------
    present
        Of the machine.
    affinity
        On which the process may run (``taskset``, a container's cpuset).
    quota
        Processors' worth of time that its control groups grant; ``None`` for no limit.
    asked
        ``OMP_NUM_THREADS``; ``None`` where it is not set.
    """

    present: int
    affinity: int
    quota: float | None = None
    asked: int | None = None

    @property
    def usable(self) -> int:
        """The least of them, at least 1; of a quota whole processors, as more threads stop all."""
        bounds = [self.affinity]
        bounds += [int(self.quota)] if self.quota is not None else []
        bounds += [self.asked] if self.asked is not None else []
        return max(1, min(bounds))

    def __str__(self) -> str:
        told = [f"{self.usable} of {self.present} cores"]
        told += [f"affinity {self.affinity}"] if self.affinity < self.present else []
        told += [f"quota {self.quota:.3g}"] if self.quota is not None else []
        told += [f"{THREADS}={self.asked}"] if self.asked is not None else []
        return ", ".join(told)


def processors(root: Path = Path("/")) -> Processors:
    """Look at what bounds this process.

    Parameters
    ----------
    root
        Where ``proc`` and ``sys`` lie.
    """
    present = os.cpu_count() or 1
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else present
    first = os.environ.get(THREADS, "").partition(",")[0].strip()
    asked = int(first) if first.isdigit() and int(first) and not _Taken.shared else None
    return Processors(present, affinity, quota(root), asked)


def model_name(root: Path = Path("/")) -> str:
    """Name the processor, with what it has for smaller number formats.

    What was measured on one kind holds on that kind alone, wherever a cache folder is carried.

    Parameters
    ----------
    root
        Where ``proc`` lies.
    """
    facts = dict[str, str]()
    for line in _lines(root / "proc/cpuinfo"):
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    formats = [flag for flag in facts.get("flags", "").split() if flag in _FORMATS]
    return " ".join([facts.get("model name") or platform.machine(), *sorted(formats)])


def quota(root: Path = Path("/")) -> float | None:
    """Read how many processors' worth of time the control groups grant, the least from here upwards.

    Linux's cgroup-v2 documentation, ``cpu.max``: microseconds of time a period, or ``max``; of version 1
    ``cpu.cfs_quota_us``, -1 for no limit, and ``cpu.cfs_period_us``.

    Parameters
    ----------
    root
        Where ``proc`` and ``sys`` lie.

    Returns
    -------
    float or None
        ``None`` where nothing limits it, or nothing can be read.
    """
    found = [granted for folder in _groups(root) if (granted := _granted(folder)) is not None]
    return min(found, default=None)


def _groups(root: Path) -> Iterator[Path]:
    """Find the folders of this process's control groups and of those above, of either version."""
    own: dict[str, str] = {}  # "" is version 2
    for line in _lines(root / "proc/self/cgroup"):  # number:controllers:path
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        own |= dict.fromkeys(controllers.split(","), path)
    for line in _lines(
        root / "proc/self/mountinfo"
    ):  # proc(5): ... root mount-point ... - type source options
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        controller = "" if kind[0] == "cgroup2" else "cpu"
        if controller not in own or (controller and controller not in kind[2].split(",")):
            continue
        mount = root / fields[4].lstrip("/")
        # A container may see its own group as the top, whatever its name is outside.
        above, path = fields[3].rstrip("/"), own[controller]
        inside = path.removeprefix(above) if path.startswith(above) else ""
        folder = mount / inside.strip("/")
        yield folder
        yield from (parent for parent in folder.parents if parent.is_relative_to(mount))


def _granted(folder: Path) -> float | None:
    words = [word for line in _lines(folder / "cpu.max") for word in line.split()]
    if not words:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        words = [line for name in names for line in _lines(folder / name)]
    with suppress(ValueError):  # "max"
        time, period = map(int, words)
        return time / period if time > 0 and period > 0 else None
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []


def share() -> None:
    """Let this process's libraries use the processors that it has, and leave them when they wait.

    For a command's own process, at its start. What the user set in the environment stays. Libraries that
    are loaded later read it there: as many threads as `cores`, which sleep while they wait, and one of
    OpenBLAS, whose threads cannot be told to. Of those loaded already, OpenMP's spin: they get one too.
    """
    if _Taken.shared:
        return
    count = str(cores())
    _Taken.shared = THREADS not in os.environ  # else the user's own number goes on counting
    chosen = any(name in os.environ for name in (THREADS, _BLAS))
    spinning = _WAITING not in os.environ
    for name, value in {THREADS: count, _BLAS: "1", _WAITING: "PASSIVE"}.items():
        os.environ.setdefault(name, value)
    if not chosen and any(name in sys.modules for name in _LOADED):
        from threadpoolctl import threadpool_limits  # noqa: PLC0415 -- scikit-learn's; loads ctypes

        threadpool_limits(1, user_api=None if spinning else "blas")
