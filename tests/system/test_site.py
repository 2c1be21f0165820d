"""The documentation as a site: warnings are errors, nothing is loaded from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cache.asd import VERBS
from tests.conftest import PATIENCE
from tests.helpers.documents import REPOSITORY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="pip install -e '.[docs]' builds the site")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        check=False, text=True, capture_output=True, cwd=REPOSITORY, timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_every_verb_and_option_is_on_the_page_of_commands(site: Path) -> None:
    page = (site / "commands.html").read_text(encoding="utf-8")
    for verbs in VERBS.values():
        for verb in verbs:
            assert f'id="asd-{verb}' in page
    assert "--false-alarms RATE" in page
    assert "none of the options" not in page


def test_the_reference_names_what_the_docstrings_say(site: Path) -> None:
    page = (site / "reference.html").read_text(encoding="utf-8")
    for name in ("eval.detector.Detector.fit", "index.build.build", "cache.base.errors.AsdError"):
        assert f'id="{name}"' in page


def test_no_page_loads_anything_from_another_server(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|link|img)[^>]+(?:src|href)=\"(https?:[^\"]+)", page.read_text("utf-8")
        )
        assert loaded == [], page
