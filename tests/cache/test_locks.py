"""Locks: who is waited for, for how long, and file systems that have none."""

from __future__ import annotations

import errno
import fcntl
import logging
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from cache.base.errors import AsdError
from cache.files import locks
from cache.files.locks import locked
from cache.run import main
from cache.store import Store
from tests.conftest import make_recipe, make_table

ErrorOf = Callable[..., str]
ROOT = Path(__file__).parents[2]
HOLDER = """
import pathlib, sys, time
from cache.files.locks import locked
with locked(pathlib.Path(sys.argv[1])):
    print('held', flush=True)
    time.sleep(100)
"""


@contextmanager
def process_of(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process that has said so once it is where it should be."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_who_is_waited_for_is_told_and_waiting_may_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(locks, "_TOLD_AFTER", 0.05)
    monkeypatch.setenv(locks.WAIT, "0.2")
    store = Store(tmp_path)
    folder = tmp_path / make_recipe().fingerprint
    with process_of(HOLDER, folder) as process:
        os.kill(process.pid, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)  # it may be a while until it has stopped
        with pytest.raises(AsdError) as caught, caplog.at_level(logging.WARNING):
            store.add(make_table(np.ones((2, 8))), make_recipe())
        told = f"process {process.pid} on {platform.node()}, which is stopped (`kill -CONT "
        for text in (str(caught.value), caplog.text):
            assert told in text
            assert "since 20" in text
            assert str(folder) in text
            assert "ASD_LOCK_WAIT" in text
        os.kill(process.pid, signal.SIGCONT)
    store.add(make_table(np.ones((2, 8))), make_recipe())
    assert (folder / ".lock").read_text() == ""


@pytest.mark.parametrize("text", ["soon", "-1", "nan"])
def test_a_wrong_time_to_wait_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(locks.WAIT, text)
    with pytest.raises(AsdError, match=f"ASD_LOCK_WAIT={text}: expected seconds"), locked(tmp_path):
        pass


def _add(folder: str, rows: list[int]) -> None:
    _refuse_locks()
    for row in rows:
        Store(Path(folder)).add(make_table(np.eye(20)).select([row]), make_recipe())


def _refuse_locks() -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    fcntl.flock = refused  # type: ignore[assignment]


def test_without_locks_of_the_file_system_a_file_serves(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    halves = [list(range(0, 20, 2)), list(range(1, 20, 2))]
    workers = [context.Process(target=_add, args=(str(tmp_path), half)) for half in halves]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    (stored,) = Store(tmp_path).tables()
    assert len(Store(tmp_path).read(make_recipe(), stored.section, "train")) == 20
    assert not list(tmp_path.rglob(".softlock"))


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EINVAL])
def test_each_way_to_have_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refused(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refused)
    with locked(tmp_path / "new"):
        assert (tmp_path / "new" / ".softlock").exists()
        monkeypatch.setenv(locks.WAIT, "0")
        with pytest.raises(AsdError, match=f"process {os.getpid()} .*should it be gone, delete "):
            locked(tmp_path / "new").__enter__()
    assert not (tmp_path / "new" / ".softlock").exists()


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_without_fsync_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refused(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refused)
    path = Store(tmp_path).write(make_table(np.ones((2, 8))), make_recipe())
    assert list(path.parent.iterdir()) == [path]


WRITER = """
import pathlib, sys, time
from cache.store import Store
from tests.conftest import make_recipe
with Store(pathlib.Path(sys.argv[1])).writing([make_recipe()]):
    print('held', flush=True)
    time.sleep(100)
"""


def test_tables_that_a_run_is_at_work_on_are_not_removed(tmp_path: Path, error_of: ErrorOf) -> None:
    store, recipe, other = Store(tmp_path), make_recipe(), make_recipe(layer=1)
    for each in (recipe, other):
        store.write(make_table(np.ones((2, 8))), each)
    command = ["gc", "--cache-dir", tmp_path, "--recipe", recipe.fingerprint, other.fingerprint]
    with process_of(WRITER, tmp_path) as process:
        assert "a run is at work on" in error_of(main, *command)
        assert store.recipes() == [recipe]
        process.kill()
        process.wait()
    assert main(list(map(str, command[:-1]))) == 0
    assert store.recipes() == []
    assert list(tmp_path.iterdir()) == []
    with store.writing([recipe]), store.writing([recipe]):
        store.add(make_table(np.ones((2, 8))), recipe)
        assert "a run is at work on" in error_of(main, *command[:-1])
    store.remove(recipe)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_removed_while_it_is_waited_for_is_made_anew(tmp_path: Path) -> None:
    store, recipe = Store(tmp_path), make_recipe()
    store.write(make_table(np.ones((2, 8))), recipe)
    context = multiprocessing.get_context("spawn")
    with store._locked(recipe.fingerprint):
        waiting = context.Process(target=_write, args=(str(tmp_path),))
        waiting.start()
        while not (tmp_path / "there").exists():
            assert waiting.is_alive()
            time.sleep(0.01)
        left = tmp_path / f".{recipe.fingerprint}.x.tmp"
        (tmp_path / recipe.fingerprint).rename(left)
        for path in sorted(left.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        left.rmdir()
    waiting.join()
    assert waiting.exitcode == 0
    (stored,) = store.tables()
    assert len(store.read(recipe, stored.section, "train")) == 3
    with locked(stored.path.parents[2]):
        assert (stored.path.parents[2] / ".lock").stat().st_size


def _write(folder: str) -> None:
    (Path(folder) / "there").touch()
    Store(Path(folder)).add(make_table(np.ones((3, 8))), make_recipe())
