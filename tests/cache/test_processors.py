"""How many processors there are: made-up control groups, affinity, OMP_NUM_THREADS."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cache.base import processors as module
from cache.base.processors import Processors, cores, processors, quota, take_cores

V2 = "29 23 0:26 {root} {mount} rw,nosuid - cgroup2 cgroup2 rw"
V1 = "33 32 0:30 {root} {mount} rw - cgroup cgroup rw,{controllers}"


def machine(root: Path, groups: str, mounts: str, files: dict[str, str]) -> Path:
    """A machine's ``proc`` and ``sys`` as far as they tell of control groups."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    (root / "proc/self/mountinfo").write_text(f"22 1 0:21 / /proc rw - proc proc rw\n{mounts}\n")
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"a/cpu.max": "400000 100000\n", "a/b c/cpu.max": "max 100000\n"}, 4.0),  # of the group above
        ({"cpu.max": "100000 100000\n", "a/b c/cpu.max": "300000 100000\n"}, 1.0),  # the least counts
        ({"a/b c/cpu.max": "50000 200000\n"}, 0.25),
        ({"a/b c/cpu.max": "nonsense\n"}, None),
        ({"a/b c/cpu.max": ""}, None),
        ({"other/cpu.max": "100000 100000\n"}, None),  # a neighbour's
        ({}, None),
    ],
)
def test_quota_of_version_2(tmp_path: Path, files: dict[str, str], expected: float | None) -> None:
    mount = V2.format(root="/", mount="/sys/fs/cgroup")
    assert quota(machine(tmp_path, "0::/a/b c\n", mount, files)) == expected


@pytest.mark.parametrize(
    ("time", "expected"), [("200000\n", 2.0), ("-1\n", None), ("25000\n", 0.25), ("0\n", None)]
)
@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct"])
def test_quota_of_version_1(tmp_path: Path, time: str, expected: float | None, controllers: str) -> None:
    files = {"cpu/job/cpu.cfs_quota_us": time, "cpu/job/cpu.cfs_period_us": "100000\n",
             "memory/job/cpu.cfs_quota_us": "1\n"}  # fmt: skip
    mounts = "\n".join(
        V1.format(root="/", mount=f"/sys/fs/cgroup/{name}", controllers=which)
        for name, which in (("memory", "memory"), ("cpu", controllers))
    )
    groups = f"3:memory:/job\n2:{controllers}:/job\n0::/\n"
    assert quota(machine(tmp_path, groups, mounts, files)) == expected


def test_a_container_that_sees_its_own_group_as_the_top(tmp_path: Path) -> None:
    mount = V1.format(root="/docker/1f", mount="/sys/fs/cgroup/cpu", controllers="cpu")
    files = {"cpu/cpu.cfs_quota_us": "350000\n", "cpu/cpu.cfs_period_us": "100000\n"}
    assert quota(machine(tmp_path, "2:cpu:/docker/1f\n", mount, files)) == 3.5


def test_no_control_groups_no_quota(tmp_path: Path) -> None:
    assert quota(tmp_path) is None


@pytest.mark.parametrize(
    ("bounds", "usable", "told"),
    [
        (Processors(8, 8), 8, "8 of 8 cores"),
        (Processors(8, 3), 3, "3 of 8 cores, affinity 3"),
        (Processors(8, 8, 2.9), 2, "2 of 8 cores, quota 2.9"),
        (Processors(8, 8, 0.25), 1, "1 of 8 cores, quota 0.25"),
        (Processors(8, 4, 16.0, 2), 2, "2 of 8 cores, affinity 4, quota 16, OMP_NUM_THREADS=2"),
        (Processors(2, 2, None, 64), 2, "2 of 2 cores, OMP_NUM_THREADS=64"),
    ],
)
def test_the_least_bound_counts(bounds: Processors, usable: int, told: str) -> None:
    assert (bounds.usable, str(bounds)) == (usable, told)


@pytest.mark.parametrize(("text", "asked"), [("3", 3), ("2,4", 2), ("0", None), ("x", None), ("", None)])
def test_threads_asked_for(monkeypatch: pytest.MonkeyPatch, text: str, asked: int | None) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert processors().asked == asked


def test_what_a_process_was_told_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "processors", lambda: Processors(8, 8))
    assert cores() == 8
    take_cores(3)
    try:
        assert cores() == 3
    finally:
        take_cores(None)


PRINTED = """
import sys
sys.argv = ["asd", "--help"]
if {early}: import numpy, faiss
from cache.asd import main
main()
import numpy, faiss, torch
from threadpoolctl import threadpool_info
from cache.base.processors import cores
print([cores(), torch.get_num_threads(), faiss.omp_get_max_threads(),
      {{each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"
        and each["threading_layer"] == "pthreads"}}])
"""
FREE = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS")


def counts(early: bool, bound: str = "", **environ: str) -> str:
    """What the libraries of a command's process have: usable, torch, FAISS, OpenBLAS."""
    kept = {name: value for name, value in os.environ.items() if name not in FREE}
    code = f"import os\n{bound}\n{PRINTED.format(early=early)}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**kept, **environ}
    )
    return done.stdout.splitlines()[-1]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_one_core_by_affinity_is_one_thread_of_every_library() -> None:
    own = min(os.sched_getaffinity(0))
    assert counts(early=False, bound=f"os.sched_setaffinity(0, [{own}])") == "[1, 1, 1, {1}]"


def test_libraries_loaded_later_take_all_cores_but_openblas_one() -> None:
    usable = Processors(1, len(os.sched_getaffinity(0)), quota()).usable
    assert counts(early=False) == f"[{usable}, {usable}, {usable}, {{1}}]"


def test_libraries_loaded_before_spin_and_get_one_thread() -> None:
    usable, _, faiss, blas = counts(early=True).strip("[]").split(", ")
    assert (faiss, blas) == ("1", "{1}")
    assert int(usable) >= 1


def test_what_the_user_asked_for_stays() -> None:
    assert counts(early=True, OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="2").endswith("2, {2}]")


def test_a_processor_is_named_with_what_it_has_for_small_formats(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    text = (
        "processor : 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx512_bf16 avx512f\n\nmodel name\t: Other\n"
    )
    (tmp_path / "proc/cpuinfo").write_text(text)
    assert module.model_name(tmp_path) == "Some CPU avx512_bf16 avx512f"
    assert module.model_name(tmp_path / "none")  # where there is no such file: the architecture
