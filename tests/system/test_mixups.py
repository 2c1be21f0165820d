"""Other data, other runs and other places are never taken for what was asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PATIENCE
from tests.helpers.chain import environment

pytestmark = pytest.mark.slow


def test_what_is_of_other_data_or_runs_is_not_used() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.mixups", "--rounds", "2"],
        cwd=Path(__file__).parents[2], env=environment(), capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["found"]
    assert [one["faults"] for one in found.values()] == [[], [], []]
    assert [one["tried"] for one in found.values()][:2] == [2, 4]
    assert found["swapped files"]["refused"] > 10
