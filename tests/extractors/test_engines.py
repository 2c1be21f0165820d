"""What an engine is told and what travels, without any cluster."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from ray.data import Dataset

from cache.base.errors import AsdError
from extractors.clips.listing import Clip, Fault, list_clips
from extractors.engines import tables, worker
from extractors.engines.cluster import Node, Pipeline, Pool, Room, Share, share
from extractors.engines.local import Report
from extractors.engines.worker import Orders
from extractors.request import ExtractRequest
from extractors.run import main
from tests.conftest import PATIENCE, write_root

ErrorOf = Callable[..., str]


def room(*nodes: tuple[int, int], free: tuple[float, float] | None = None) -> Room:
    return Room([Node(*node) for node in nodes], *(free or (10_000, 10_000)))


@pytest.mark.parametrize(
    ("cluster", "wanted", "expected"),
    [
        (room((2, 0)), (14, None, 0), Share(2, 1, 0)),
        (room((2, 0)), (14, 1, 0), Share(1, 2, 0)),
        (room((2, 0)), (1, None, 0), Share(1, 2, 0)),
        (room((64, 0)), (14, None, 0), Share(14, 4, 0)),
        (room((64, 0)), (2, None, 0), Share(2, 8, 0)),
        (room((3, 0), (3, 0)), (4, None, 0), Share(4, 1, 0)),  # two of 2 would leave one over each
        (room((64, 8), (16, 0)), (14, None, 1), Share(8, 8, 1)),
        (room((4, 8)), (14, None, 1), Share(4, 1, 1)),  # a GPU needs a processor
        (room((64, 8)), (14, 3, 1), Share(3, 8, 1)),
        (room((64, 0), free=(5, 0)), (14, None, 0), Share(5, 1, 0)),
        (room((8, 1)), (14, 2, 1), Share(2, 4, 2)),  # one GPU, half of it each
        (room((8, 1)), (14, None, 1), Share(1, 8, 1)),  # only where asked for
        (room((16, 2)), (14, 4, 1), Share(4, 4, 2)),
        (room((16, 2)), (14, 3, 1), Share(3, 5, 2)),
        (room((4, 1), (4, 1)), (14, 6, 1), Share(6, 1, 3)),
        (room((64, 1)), (7, 7, 1), Share(7, 8, 7)),
    ],
)
def test_a_cluster_is_shared_out(cluster: Room, wanted: tuple[int, int | None, int], expected: Share) -> None:
    tables_wanted, actors, gpu = wanted
    assert share(cluster, tables_wanted, actors, gpu=bool(gpu)) == expected


@pytest.mark.parametrize(
    ("cluster", "wanted", "message"),
    [
        (room((2, 0)), (14, 3, 0), "holds 2 of 3 actors, each with a CPU: 1 machines, "),
        (room((1, 1)), (14, 2, 1), "holds 1 of 2 actors, each with a CPU and a GPU"),
        (room((8, 1), free=(8, 0.5)), (14, 2, 1), "holds 1 of 2 actors, each with a CPU and 1/2 of a GPU"),
        (room((16, 2), free=(16, 1.5)), (2, 2, 1), "holds 1 of 2 actors, each with a CPU and a GPU"),
        (room((8, 0), free=(0, 0)), (14, None, 0), "0 of 8 CPUs and 0 of 0 GPUs free; wait for"),
        (room(), (1, None, 0), "holds 0 of 1 actors"),
    ],
)
def test_what_would_wait_for_ever_is_refused(
    cluster: Room, wanted: tuple[int, int | None, int], message: str
) -> None:
    tables_wanted, actors, gpu = wanted
    with pytest.raises(AsdError, match=message):
        share(cluster, tables_wanted, actors, gpu=bool(gpu))


class Asked(Dataset):
    """Passes Ray's own checks of what it is asked for, keeps what they pass on, and runs nothing."""

    told: ClassVar[dict[str, Any]] = {}

    def __init__(self, *_: Any) -> None:
        pass

    def __del__(self) -> None:
        pass

    def map_batches_internal(self, *_: Any, **told: Any) -> Asked:
        Asked.told = told
        return self

    def iter_batches(self, **_: Any) -> Iterator[pa.Table]:
        return iter(())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_actors_on_one_gpu_ask_ray_for_parts_that_find_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(share: Share) -> dict[str, Any]:
        list(Pipeline().answers([], [], Pool(share)))
        return Asked.told

    monkeypatch.setattr("ray.data.from_arrow", Asked)
    for per_gpu in range(1, 40):
        part = asked(Share(per_gpu, 1, per_gpu))["num_gpus"]
        units = round(part * 10_000)  # Ray counts whole ones of these
        assert part == units / 10_000
        assert 10_000 - per_gpu < units * per_gpu <= 10_000
    halves = asked(Share(2, 4, 2))
    assert (halves["num_cpus"], halves["num_gpus"], halves["compute"].max_size) == (4, 0.5, 2)
    assert asked(Share(2, 4, 0))["num_gpus"] == 0


def test_an_actor_takes_its_part_of_a_gpus_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[float] = []
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", parts.append)
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    monkeypatch.setattr("extractors.engines.worker.take_cores", lambda _: None)
    monkeypatch.chdir(tmp_path)
    request = ExtractRequest(data=(tmp_path,), device="cuda")
    for per_gpu in (0, 1, 2, 3):
        # It refuses the folder, and only then would look for a GPU.
        worker.TableWorker(Orders(request, tmp_path, (), tmp_path / "none" / "token", 1, per_gpu))
    assert parts == [0.45, pytest.approx(0.3)]


def test_tables_travel_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_root(Path("data"), machine="valve")
    clips: list[Clip] = [*list_clips([Path("data")]).clips]
    clips[0] = replace(clips[0], span=(0.1, 0.35), attributes={"b": "ü", "a": "1"}, domain=None)
    made = tables.tables_of(clips)
    assert [str(table) for table in made] == ["valve/section_00 test", "valve/section_00 train"]
    for table in made:
        (found,) = tables.tables_from(tables.manifest(table))
        assert all(clip.path.is_absolute() and clip.path.is_file() for clip in found.clips)
        same = [replace(clip, path=Path("data") / clip.clip_id) for clip in found.clips]
        assert replace(found, clips=tuple(same)) == table


def test_answers_travel_whole() -> None:
    report = Report(1, 2, 3, ["fan/test/0.wav"], [Fault(Path("a.wav"), "an empty file")])
    section = tables.tables_of([_clip()])[0].section
    given = [
        tables.Answer(section, "test", (report, Report()), ((20, "a"), (30, "b"))),
        tables.Answer(section, "train", error="the disk is full", failure="KeyError: 'x'"),
    ]
    assert tables.answers_from(tables.answer_rows(given)) == given


def test_a_lost_table_names_what_it_lacks() -> None:
    table = tables.tables_of([_clip()])[0]
    ids = tuple(f"{i}.wav" for i in range(5))
    assert str(tables.Lost(table, ids, "it died")) == (
        "fan/section_00 train: it died; 5 of 1 clips lack a row: 0.wav, 1.wav, 2.wav and 2 more"
    )
    assert str(tables.Lost(table, (), "it died")).endswith("it died; 0 of 1 clips lack a row")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--actors", "2"], "--actors 2 is meant for a cluster: give --engine ray too"),
        (["--engine", "ray", "--actors", "0"], "--actors 0: expected a whole number from 1"),
        (
            ["--engine", "ray", "--device", "cuda:1"],
            "--device cuda:1: Ray gives each actor its own",
        ),
    ],
)
def test_mistakes(root: Path, tmp_path: Path, error_of: ErrorOf, options: list[str], message: str) -> None:
    assert message in error_of(main, "--data", root, "--cache-dir", tmp_path / "a", *options)


def test_one_process_needs_no_ray(root: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "from extractors.run import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "assert main([*sys.argv[1:], '--engine', 'ray']) == 2\n"
    )
    command = [sys.executable, "-c", code, "--data", root, "--cache-dir", tmp_path / "a"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install 'machine-asd[ray]'" in done.stderr


def _clip() -> Clip:
    section = tables.Section("fan", 0)
    return Clip("fan/train/0.wav", Path("0.wav"), section, "train")
