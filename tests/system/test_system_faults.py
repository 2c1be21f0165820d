"""Full and read-only disks, limits, a wrong clock: said with the remedy, and nothing is harmed."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from cache.base.errors import AsdError, guarded
from cache.run import main as cache_main
from cache.store import Store
from cache.table import Section
from extractors.audio.batches import hold
from tests.conftest import PATIENCE, make_recipe, make_table
from tests.helpers.chain import environment
from tests.helpers.system_faults import mounting

pytestmark = pytest.mark.slow

_HERE = Path(__file__).parents[2]
ErrorOf = Callable[..., str]


def test_disks_that_are_full_or_read_only() -> None:
    prefix = mounting()
    if prefix is None:
        pytest.skip("no file system may be mounted here, not even in a name space of its own")
    names = ["read-only inputs", "full disk, once"]
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "tests.helpers.system_faults", *names],
        cwd=_HERE, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["found"]
    assert [one["faults"] for one in found.values()] == [[], []]
    assert found["read-only inputs"]["worked"] == found["read-only inputs"]["tried"] == 7
    assert found["full disk, once"]["refused"] == found["full disk, once"]["finished"] == 5


def _failing(error: Exception) -> Callable[[Sequence[str]], int]:
    @guarded
    def main(_: Sequence[str] | None = None) -> int:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x.csv"), "x.csv: No space left on"),
        (OSError(errno.EFBIG, "File too large"), "raise `ulimit -f`"),
        (OSError(errno.EROFS, "Read-only file system"), "write to another folder"),
        (MemoryError(), "not enough memory (MemoryError)"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "--batch-size"),
        (RuntimeError("can't start new thread"), "run the same command again"),
    ],
)
def test_what_the_machine_lacks_is_said_with_its_remedy(
    error: Exception, said: str, error_of: ErrorOf
) -> None:
    assert said in error_of(_failing(error))


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), RuntimeError("a bug")])
def test_other_errors_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        _failing(error)([])


def test_a_whole_table_is_not_moved_aside_for_want_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf
) -> None:
    store, recipe = Store(tmp_path), make_recipe()
    path = store.write(make_table([[1.0, 2.0]]), recipe)

    def starved(*_: object, **__: object) -> None:
        raise MemoryError("malloc of 5 bytes failed")

    monkeypatch.setattr("cache.parquet.pq.ParquetFile", starved)
    monkeypatch.setattr("cache.parquet._is_scarce", lambda _: True)
    said = error_of(cache_main, "verify", "--repair", "--cache-dir", tmp_path)
    assert f"not enough memory (reading {path}: malloc" in said
    assert path.exists()
    # Where memory is there, it is a damaged length that asks for so much.
    monkeypatch.setattr("cache.parquet._is_scarce", lambda _: False)
    with pytest.raises(AsdError, match="is damaged"):
        store.read(recipe, Section("fan", 0), "train")


def test_waveforms_that_no_disk_takes_are_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    arrays = [np.zeros(100, np.float32)]
    assert len(hold(arrays, (), 10_000, tmp_path / "file")) == 1  # memory holds them
    with pytest.raises(AsdError, match="raise --memory"):
        hold(arrays, (), 10, tmp_path / "file")


def test_a_limit_on_a_file_in_a_process_of_its_own(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from cache.files.atomic import write_atomic\n"
        "from cache.base.errors import guarded\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "def main(argv=None):\n    write_atomic(Path(sys.argv[1]), bytes(5000)); return 0\n"
        "sys.exit(guarded(main)())"
    )
    path = tmp_path / "x" / "large"
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        cwd=_HERE, env=os.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert f"error: cannot write {path}: File too large; larger than a file may be" in done.stderr
    assert list(path.parent.iterdir()) == []
