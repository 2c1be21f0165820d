"""Killed at any moment, a run goes on to the same files, and nothing of the killed one stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cache.files.atomic import leftovers, scratch_folder, write_atomic
from cache.store import Store
from finetune.loop.model_file import Maker
from finetune.loop.state import Row
from index.run import main as build
from tests.conftest import PATIENCE, make_recipe, make_table
from tests.helpers.chain import environment
from tests.helpers.tuning import settings_of, source_of, waveforms_of

pytestmark = pytest.mark.slow

_HERE = Path(__file__).parents[2]


def test_every_command_survives_being_killed() -> None:
    # Its own process: what forks children must have computed nothing itself.
    command = [sys.executable, "-m", "tests.helpers.kills", "--kills", "2", "--seed", "1"]
    done = subprocess.run(
        [*command, "--commands", "extraction", "fine-tuning", "index", "evaluation"],
        cwd=_HERE, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["found"]
    assert set(found) == {"extraction", "fine-tuning", "index", "evaluation"}
    for name, one in found.items():
        assert one["faults"] == [], name
        assert one["rows_lost"] == 0
        assert one["kills"] >= 2
        assert one["completed"] >= 1


def _dead() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def _left(path: Path, process: int) -> Path:
    """What a process that writes to `path` leaves when it is killed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.getpid", lambda: process)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        patch.setattr("cache.files.atomic._sync", _interrupt)
        patch.setattr("cache.files.atomic._tidy", lambda _: None)
        with pytest.raises(KeyboardInterrupt):
            write_atomic(path, b"half")
    return next(found for found in path.parent.iterdir() if f"-{process}." in found.name)


def _interrupt(_: Path) -> None:
    raise KeyboardInterrupt


def test_the_next_write_in_a_folder_removes_what_killed_runs_left(tmp_path: Path) -> None:
    dead, alive = _left(tmp_path / "a.csv", _dead()), _left(tmp_path / "b.csv", os.getppid())
    stranger = tmp_path / ".somebody.else.tmp"
    stranger.touch()
    assert leftovers(tmp_path) == [dead]
    write_atomic(tmp_path / "c.csv", b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([alive, stranger, tmp_path / "c.csv"])


def test_scratch_folders_of_killed_runs_go_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.getpid", _dead)
        killed = scratch_folder()
        left = killed.__enter__()
    (left / "table").touch()
    (tmp_path / "asd-mine").mkdir()
    with scratch_folder() as folder:
        assert not left.exists()
        assert sorted(tmp_path.iterdir()) == sorted([folder, tmp_path / "asd-mine"])
    assert list(tmp_path.iterdir()) == [tmp_path / "asd-mine"]


class _KilledError(Exception):
    """Stands for a kill."""


def _maker(root: Path, folder: Path) -> Maker:
    settings = settings_of("efficientat", source_of("efficientat", folder))
    return Maker(settings, waveforms_of(root, settings, folder), torch.device("cpu"))


def test_a_training_killed_before_it_told_of_its_last_epoch_tells_of_it(root: Path, tmp_path: Path) -> None:
    maker, path, told = _maker(root, tmp_path), tmp_path / "m.safetensors", list[list[Row]]()
    epochs = maker.settings.course.epochs

    def killed(rows: list[Row]) -> None:
        if len(rows) == epochs:
            raise _KilledError

    with pytest.raises(_KilledError):
        maker.make(path, 0, killed)
    history = maker.make(path, 0, lambda rows: told.append([*rows])).history
    assert len(history) == epochs
    assert told == [history]


def test_a_state_that_outlived_its_training_is_removed(root: Path, tmp_path: Path) -> None:
    maker, path = _maker(root, tmp_path), tmp_path / "m.safetensors"
    maker.make(path, 0, len)
    state = path.with_suffix(".training")
    state.write_bytes(b"left by a kill between the file and its state")
    assert not maker.make(path, 0, len).is_new
    assert not state.exists()


def test_files_of_an_older_section_that_a_kill_left_go_with_the_next_build(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Store(tmp_path).write(make_table(rng.normal(size=(20, 4))), make_recipe())
    command = ["--cache-dir", str(tmp_path), "--bank", str(tmp_path / "bank")]
    assert build(command) == 0
    folder = tmp_path / "bank" / "fan" / "section_00"
    whole = sorted(folder.iterdir())
    (folder / "source-0123456789ab.faiss").touch()
    assert build(command) == 0
    assert sorted(folder.iterdir()) == whole
