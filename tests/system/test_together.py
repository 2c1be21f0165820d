"""Several processes write and read one cache folder and one bank at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PATIENCE
from tests.helpers.chain import environment

pytestmark = pytest.mark.slow


def test_processes_at_once_never_see_half_a_file_and_end_at_the_same_ones() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.together"],
        cwd=Path(__file__).parents[2], env=environment(), capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["found"]
    assert [one["faults"] for one in found.values()] == [[], [], []]
    assert [one["writers"] for one in found.values()] == [4, 3, 4]
    assert all(one["reads"] for one in found.values())
