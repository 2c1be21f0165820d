"""The extraction on a Ray cluster of this machine: as one process does it, whoever dies."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from cache.store import Store
from extractors.run import main
from tests.conftest import PATIENCE, write_clip, write_root
from tests.helpers.small_models import write_beats, write_mobilenet

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'machine-asd[ray]'")
cluster_utils = pytest.importorskip("ray.cluster_utils")

from extractors.engines import ray_, tables  # noqa: E402
from extractors.engines.cluster import FAIR, Pool, Share  # noqa: E402
from tests.helpers import ray_workers  # noqa: E402

ErrorOf = Callable[..., str]
Said = pytest.CaptureFixture[str]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("cluster"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two processors, and leave to add machines."""
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**quiet, "ASD_OFFLINE": "1"}.items():
            patch.setenv(name, value)
        small = {"object_store_memory": 100 * 2**20, "_system_config": FAIR}
        made = cluster_utils.Cluster(
            True, head_node_args={"num_cpus": 2, "include_dashboard": False, **small}
        )
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield made
        ray.shutdown()
        made.shutdown()


@pytest.fixture
def two(root: Path) -> Path:
    """Two machine types, so four tables."""
    return write_root(root, machine="valve")


@pytest.fixture
def with_worker(monkeypatch: pytest.MonkeyPatch) -> Callable[[type], None]:
    def use(worker: type) -> None:
        monkeypatch.setattr(ray_, "TableWorker", worker)
        monkeypatch.setattr(ray_, "_POLL", 2.0)

    return use


def run(data: Path, cache: Path, *options: str) -> int:
    return main(["--data", str(data), "--cache-dir", str(cache), *options])


def on_ray(data: Path, cache: Path, *options: str) -> int:
    return run(data, cache, "--engine", "ray", *options)


def assert_same(one: Path, other: Path) -> None:
    left, right = Store(one), Store(other)
    assert left.recipes() == right.recipes()
    for recipe in left.recipes():
        places = [(stored.section, stored.split) for stored in left.tables(recipe)]
        assert places == [(stored.section, stored.split) for stored in right.tables(recipe)]
        for place in places:
            here, there = left.read(recipe, *place), right.read(recipe, *place)
            assert (here.keys, here.blocks) == (there.keys, there.blocks)
            np.testing.assert_allclose(here.embeddings, there.embeddings, rtol=1e-5, atol=1e-5)


def told(said: str) -> list[str]:
    """What a run said, the cache folder's name apart."""
    return [line.split(" -> ")[0] for line in said.splitlines()]


def waiting(folder: Path, count: int) -> list[Path]:
    """Marks of workers that wait, once there are so many."""
    until = time.monotonic() + PATIENCE
    while len(found := sorted(folder.glob("*.waits"))) < count:
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


@contextmanager
def going_on(folder: Path) -> Iterator[None]:
    """Let workers that wait go on afterwards, whatever happened."""
    try:
        yield
    finally:
        (folder / ray_workers.GO).touch()


def test_tables_are_those_of_one_process_and_made_once(
    two: Path, tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats, mobilenet = write_beats(tmp_path / "b.pt"), write_mobilenet(tmp_path / "mn01.pt")
    options = ["--backbone", "logmel", "beats", "efficientat"]
    monkeypatch.chdir(tmp_path)  # relative names reach workers that started elsewhere
    options += ["--weights", f"beats={beats.name}", f"efficientat={mobilenet.name}"]
    data = two.relative_to(tmp_path)
    assert run(data, Path("one"), *options) == 0
    expected = told(capsys.readouterr().out)
    assert on_ray(data, Path("many"), *options) == 0
    assert told(capsys.readouterr().out) == expected
    assert_same(tmp_path / "one", tmp_path / "many")
    assert not list((tmp_path / "many").glob(".*"))
    assert on_ray(data, Path("many"), "--backbone", "logmel", "--actors", "1") == 0
    assert "24 clips: 0 new, 0 changed, 24 unchanged, 0 left out" in capsys.readouterr().out


def test_faults_and_removed_clips_are_told_as_by_one_process(two: Path, tmp_path: Path, capsys: Said) -> None:
    said = {}
    train = two / "fan" / "train"
    gone = write_clip(train / "section_00_source_train_normal_0070.wav", seed=5)
    for cache in ("one", "many"):
        assert run(two, tmp_path / cache) == 0
    gone.unlink()
    write_clip(train / "section_00_source_train_normal_0091.wav", seed=6, seconds=0.03)
    (two / "valve" / "test" / "section_00_source_test_normal_0007.wav").write_bytes(b"RIFF")
    for cache, engine in (("one", "local"), ("many", "ray")):
        capsys.readouterr()
        assert run(two, tmp_path / cache, "--engine", engine) == 1
        captured = capsys.readouterr()
        said[engine] = told(captured.out), captured.err
    assert said["ray"] == said["local"]
    assert said["local"][1].count("left out: ") == 2
    assert_same(tmp_path / "one", tmp_path / "many")
    assert main(["--data", str(two), "--cache-dir", str(tmp_path / "s"), "--engine", "ray",
                 "--strict"]) == 2  # fmt: skip
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "0.030 s is too short" in error or "section_00_source_test_normal_0007" in error


def test_a_killed_worker_costs_nothing(
    two: Path, tmp_path: Path, capsys: Said, with_worker: Callable[[type], None]
) -> None:
    def kill() -> None:
        with going_on(tmp_path):
            os.kill(int(waiting(tmp_path, 2)[0].name.split(".")[1]), signal.SIGKILL)

    assert run(two, tmp_path / "one") == 0
    with_worker(ray_workers.Waiting)
    killer = Thread(target=kill)
    killer.start()
    assert on_ray(two, tmp_path / "many") == 0
    killer.join()
    assert "left out" not in capsys.readouterr().err
    assert_same(tmp_path / "one", tmp_path / "many")


def test_a_lost_machine_costs_nothing(
    cluster: Any, two: Path, tmp_path: Path, with_worker: Callable[[type], None]
) -> None:
    node = cluster.add_node(num_cpus=1, env_vars={"ASD_NODE": "second"})

    def remove() -> None:
        with going_on(tmp_path):
            assert any(mark.name.startswith("second.") for mark in waiting(tmp_path, 3))
            cluster.remove_node(node, allow_graceful=False)

    assert run(two, tmp_path / "one") == 0
    with_worker(ray_workers.Waiting)
    remover = Thread(target=remove)
    remover.start()
    assert on_ray(two, tmp_path / "many", "--actors", "3") == 0
    remover.join()
    assert_same(tmp_path / "one", tmp_path / "many")


def test_a_clip_that_kills_every_worker_is_named_and_all_else_made(
    two: Path,
    tmp_path: Path,
    capsys: Said,
    with_worker: Callable[[type], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for i in (0, 1):
        write_clip(two / ray_workers.BROKEN / "train" / f"section_00_source_train_normal_{i:04d}.wav", i)
    bad = f"section_00_source_train_normal_0099_{ray_workers.CRASH}_1.wav"
    write_clip(two / "fan" / "train" / bad, seed=3)
    with_worker(ray_workers.Crashing)
    monkeypatch.setattr(
        "extractors.engines.cluster._RESTARTS", 0
    )  # with the one actor all of the pool is dead
    monkeypatch.setattr(tables, "_SHOWN", 20)
    assert on_ray(two, tmp_path / "a", "--actors", "1") == 1
    captured = capsys.readouterr()
    lost = [line for line in captured.err.splitlines() if line.startswith("not finished")]
    assert len(lost) == 2
    assert lost[0].startswith("not finished, run again: broken/section_00 train: ZeroDivisionError")
    assert "2 of 2 clips lack a row" in lost[0]
    assert lost[1].startswith("not finished, run again: fan/section_00 train: ")
    assert f"fan/train/{bad}" in lost[1]
    crashes = (tmp_path / ray_workers.CRASHES).read_text().splitlines()
    assert 2 <= len(crashes) <= 6
    # Of a machine under load, an answer may be lost with a pass: the next finds the table made.
    counts = re.findall(r"(\d+) (?:new|unchanged)", captured.out)
    assert sum(map(int, counts)) == 16
    store = Store(tmp_path / "a")
    (recipe,) = store.recipes()
    made = {str(s.section): len(store.keys(recipe, s.section, s.split))
            for s in store.tables(recipe) if s.split == "test"}  # fmt: skip
    assert made == {"fan/section_00": 4, "valve/section_00": 4}


def test_workers_that_never_began_say_nothing_of_the_tables(
    root: Path, tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = []

    class Busy(ray_.Round):
        """As Ray has it where a machine is too busy to start a process in time."""

        def answers(self, tables: Sequence[tables.Table]) -> Iterator[tables.Answer]:
            passes.append(len(tables))
            if len(passes) > 3:
                yield from super().answers(tables)
                return
            self.reason = f"{ray_._NEVER_RAN} - it was cancelled before it started running."
            self.began = False

    monkeypatch.setattr(ray_, "Round", Busy)
    monkeypatch.setattr(ray_, "_PAUSE", 0.0)
    assert on_ray(root, tmp_path / "a", "--actors", "1") == 0
    assert "12 clips: 12 new" in capsys.readouterr().out
    passes.clear()
    monkeypatch.setattr(ray_, "_IDLE", 2)
    assert on_ray(write_root(root, machine="valve"), tmp_path / "a", "--actors", "1") == 1
    assert "valve/section_00 train: The actor never ran" in capsys.readouterr().err


def test_workers_that_nobody_ever_saw_are_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_, "_UNSEEN", 0.0)
    monkeypatch.setattr(ray, "wait", lambda *_, **__: ([], []))
    monkeypatch.setattr("ray.util.list_named_actors", list)
    orders: Any = None
    round_ = ray_.Round(ray_.TableWorker, orders, Pool(Share(1, 1, 0)))
    assert round_._next(None) is None
    assert round_.reason == "no worker was left"


def test_machines_that_differ_are_refused_by_name(
    root: Path, tmp_path: Path, error_of: ErrorOf, with_worker: Callable[[type], None]
) -> None:
    call = ["--data", root, "--cache-dir", tmp_path / "a", "--engine", "ray", "--actors", 1]
    with_worker(ray_workers.Other)
    said = error_of(main, *call)
    assert f"error: {os.uname().nodename}: its tables would be others than asked for: " in said
    assert "resampler soxr 0.0.1 instead of " in said
    with_worker(ray_workers.Elsewhere)
    assert "is not the folder that the run writes to" in error_of(main, *call)
    assert "the cluster holds 2 of 3 actors, each with a CPU" in error_of(
        main, "--data", write_root(root, "valve"), *call[2:-1], 3
    )
    assert "no machine of the cluster has a GPU" in error_of(main, *call, "--device", "cuda")
    assert not Store(tmp_path / "a").tables()


def test_a_cluster_that_is_not_there_is_named(
    root: Path, tmp_path: Path, error_of: ErrorOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    said = error_of(main, "--data", root, "--cache-dir", tmp_path / "a", "--engine", "ray")
    assert "no cluster at RAY_ADDRESS=127.0.0.1:1: [Errno 111] Connection refused" in said
