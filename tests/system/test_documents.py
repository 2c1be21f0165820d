"""The README and the pages: every command runs, or is at least understood; every link leads somewhere."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import PATIENCE
from tests.helpers.documents import REPOSITORY, Block, asd_calls, blocks, parse_only

README = REPOSITORY / "README.md"
PAGES = sorted(
    [
        README,
        *(REPOSITORY / "docs").rglob("*.md"),
        *REPOSITORY.glob("[A-Z]*.md"),
        *REPOSITORY.glob("examples/**/*.md"),
    ]
)
RATE = 16_000
pytestmark = pytest.mark.slow


def whirr(seed: int, tone: float = 0.0) -> np.ndarray:
    """Two seconds of a made-up pump: harmonics of about 100 Hz in noise; `tone` at 2.1 kHz is a fault."""
    rng, time = np.random.default_rng(seed), np.arange(2 * RATE) / RATE
    pitch = 100 * (1 + 0.02 * rng.standard_normal())
    hum = sum(np.sin(2 * np.pi * k * pitch * time + rng.uniform(0, 6)) / k for k in range(1, 8))
    return 0.08 * hum + 0.02 * rng.standard_normal(len(time)) + tone * np.sin(2 * np.pi * 2100 * time)


def record(folder: Path, names: list[str], seed: int, faulty: int = 0) -> None:
    """Write recordings, the last `faulty` of them with a fault."""
    folder.mkdir(parents=True)
    for i, name in enumerate(names):
        tone = 0.15 if i >= len(names) - faulty else 0.0
        soundfile.write(folder / name, whirr(seed + i, tone), RATE)


class Shell:
    """A scratch folder in which ``asd`` and ``python`` are those of the tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / ".bin"
        self.bin.mkdir()
        for name, module in (("asd", "-m cache.asd"), ("python", "")):
            script = self.bin / name
            script.write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
            script.chmod(0o755)

    def run(self, command: str, code: int = 0) -> str:
        """Run a line; what it says on both streams."""
        done = subprocess.run(
            ["bash", "-c", command],
            check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.folder,
            timeout=PATIENCE,
            env={**os.environ, "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1",
                 "PYTHONPATH": str(REPOSITORY), "BROWSER": "true"},
        )  # fmt: skip
        assert done.returncode == code, f"$ {command}\n{done.stdout}"
        return done.stdout


def recordings(folder: Path) -> Shell:
    """Write the recordings that the README and the first day speak of."""
    days = [f"2026-05-{1 + i // 4:02d}_{i:02d}.wav" for i in range(24)]
    record(folder / "mydata/pump/normal", days, 0)
    record(folder / "mydata/pump/new", [f"clip_{i:02d}.wav" for i in range(8)], 100, faulty=2)
    record(folder / "newclips", [f"late_{i:02d}.wav" for i in range(4)], 200, faulty=1)
    record(folder / "incoming", [f"2026-06-01T10-0{i}-00.wav" for i in range(5)], 300, faulty=4)
    return Shell(folder)


def demonstrate(made: Path, folder: Path) -> None:
    """Lay out the demo's data as ``data`` and ``ground_truth``, with few of the source's training clips."""
    few = shutil.ignore_patterns("*_train_normal_00[1-9]*")
    for name in ("dev_data", "eval_data"):
        shutil.copytree(made / name, folder / "data" / name, ignore=few)
    shutil.copytree(made / "ground_truth", folder / "ground_truth")


def lessen(folder: Path) -> None:
    """Leave five training clips a domain and three test clips a kind, where no digit is shown."""
    more = re.compile(r"_train_normal_000[5-9]|_test_(normal|anomaly)_000[3-9]")
    truth = folder / "ground_truth"
    (attributes,) = (truth / "ground_truth_attributes").iterdir()
    names = (line.split(",") for line in attributes.read_text().splitlines())
    dropped = {name for name, original in names if more.search(original)}
    for path in (folder / "data").rglob("*.wav"):
        if more.search(path.name) or path.name in dropped:
            path.unlink()
    for path in truth.rglob("*.csv"):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if line.split(",")[0] not in dropped))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``make demo`` makes."""
    shell = Shell(tmp_path_factory.mktemp("demo"))
    (shell.folder / "venv").mkdir()
    own = f"-o {shell.folder}/venv/.demo VENV={shell.folder}/venv BIN={shell.bin} DEMO={shell.folder}/demo"
    shell.run(f"make -C {REPOSITORY} {own} demo")
    return shell.folder / "demo"


def stand_in(shell: Shell, command: str) -> str:
    """Do what a command does with what the tests have; only those named here have a stand-in."""
    if command.startswith("make demo"):  # it has been run, by itself
        return ""
    if command.startswith("source "):
        return ""
    if command.startswith("asd watch"):
        return shell.run(f"{command} --once --settle 0", code=1)
    if command.startswith("asd baseline"):
        return shell.run(f"{command} --seeds 0 --jobs 1")
    return shell.run(command)


def replay(shell: Shell, page: Path) -> list[str]:
    """Run every command of a page, hold what is shown against what is said; return the commands."""
    ran = []
    for block in blocks(page):
        for command, shown in block.commands():
            if block.mark == "parsed":
                continue
            if block.mark == "stand-in":
                said = stand_in(shell, command)
            else:
                said = shell.run(command, code=int(block.mark == "exit-1"))
            ran.append(command)
            want = "\n".join(line.rstrip() for line in shown.splitlines()) + "\n"
            right = not shown or doctest.OutputChecker().check_output(want, said, doctest.ELLIPSIS)
            assert right, f"$ {command}\nshown:\n{want}\nsaid:\n{said}"
        if block.language == "python":
            (shell.folder / "program.py").write_text(block.text)
            ran.append(shell.run("python program.py"))
    return ran


def test_every_command_of_the_readme_does_what_it_says(demo: Path, tmp_path: Path) -> None:
    assert (demo / "results/report.html").is_file()
    shell = recordings(tmp_path)
    demonstrate(demo / "data", tmp_path)
    lessen(tmp_path)
    ran = replay(shell, README)
    assert len(ran) >= 10
    assert any("against a threshold of" in said for said in ran)
    assert (tmp_path / "results/report.html").is_file()
    assert (tmp_path / "alarms.jsonl").read_text().count("\n") >= 1


def test_the_first_day_goes_as_written(tmp_path: Path) -> None:
    made = recordings(tmp_path)
    replay(made, REPOSITORY / "docs/first-day.md")
    assert "2026-06-01T10:03:00" in (tmp_path / "alarms.jsonl").read_text()


def test_two_systems_are_ranked_as_written(demo: Path, tmp_path: Path) -> None:
    demonstrate(demo / "data", tmp_path)
    replay(Shell(tmp_path), REPOSITORY / "docs/examples/dcase.md")
    assert (tmp_path / "comparison/ranking.md").is_file()


def test_the_readme_fits_a_newcomer() -> None:
    assert len(README.read_text().splitlines()) <= 180
    assert all(block.reason for block in blocks(README) if block.mark)


def commands_of_pages() -> Iterator[tuple[Path, Block, str]]:
    for page in PAGES:
        for block in blocks(page):
            for command, _ in block.commands():
                yield page, block, command


def test_every_command_of_every_page_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASD_OFFLINE")  # addresses are read, nothing is asked there
    count = 0
    for page, block, command in commands_of_pages():
        assert "python -m " not in command or page.parent.name == "benchmarks", (
            f"{page}: asd has verbs: {command}"
        )
        for arguments in asd_calls(command):
            count += 1
            try:
                parse_only(arguments)
            except AssertionError as error:
                if block.mark != "fails":
                    raise AssertionError(f"{page.name}: {error}") from None
    assert count >= 40


def test_an_option_that_is_not_there_is_noticed() -> None:
    with pytest.raises(AssertionError, match="exit code 2"):
        parse_only(["extract", "--data", "x", "--pools", "mean"])
    with pytest.raises(AssertionError, match="exit code 2"):
        parse_only(["run", "default", "--data", "x", "--percentile", "high"])


def test_every_link_within_the_project_leads_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            if "://" not in link and not link.startswith("mailto:"):
                assert (page.parent / link).exists() or link.startswith(("reference/", "commands")), (
                    f"{page}: {link}"
                )
