"""A results folder holds what its last run made, sealed, and belongs to one run at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest

from cache.base.errors import AsdError
from cache.table import Section
from eval.judge import JudgeRequest, judge
from eval.results.description import SystemDescription, read_description, write_description
from eval.results.folder import SUMS, ResultsFolder, sum_faults
from eval.results.submission import Submission, read_submission, write_submission
from eval.run import main as evaluate
from tests.conftest import PATIENCE

ErrorOf = Callable[..., str]
FAN, SAW = Section("fan", 0), Section("saw", 0)


def submission(section: Section, seed: int = 0) -> Submission:
    kinds = [(d, c, i) for d in ("source", "target") for c in ("normal", "anomaly")
             for i in range(3)]  # fmt: skip
    names = tuple(f"section_00_{d}_test_{c}_{i:04d}.wav" for d, c, i in kinds)
    scores = np.random.default_rng(seed).normal(size=len(names))
    return Submission(section, names, scores, (scores > 0).astype(np.int64))


def scored(folder: Path, *sections: Section, seed: int = 0) -> ResultsFolder:
    """A run of our own: submission files and what describes them."""
    results = ResultsFolder(folder)
    with results.run():
        for section in sections:
            write_submission(results, submission(section, seed))
        write_description(results, SystemDescription("us", thresholds={str(s): 0.0 for s in sections}))
    return results


def cut_off(folder: Path, one: Submission) -> None:
    """A run that ends after its first files."""
    results = ResultsFolder(folder)

    def run() -> None:
        with results.run():
            write_submission(results, one)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        run()


def names(folder: Path) -> set[str]:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return found - {".lock"}


def test_a_run_leaves_what_it_made_and_what_is_not_ours(tmp_path: Path) -> None:
    results = scored(tmp_path, FAN, SAW)
    with results.run():
        results.write("results.csv", b"1")
        results.write("figures/roc_fan_section_00.png", b"2")
    assert {"results.csv", "figures/roc_fan_section_00.png"} <= names(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "bank").mkdir()
    scored(tmp_path, FAN, seed=1)
    assert names(tmp_path) == {
        *("notes.txt", SUMS, "system.json"),
        *(f"{kind}_fan_section_00_test.csv" for kind in ("anomaly_score", "decision_result")),
    }
    assert not (tmp_path / "figures").exists()
    assert (tmp_path / "bank").is_dir()


def test_judging_in_place_keeps_the_scores(tmp_path: Path) -> None:
    scored(tmp_path, FAN)
    where = ["--submission", str(tmp_path), "--out", str(tmp_path)]
    assert evaluate(where) == 0
    assert {"report.html", "results.json", "system.json"} <= names(tmp_path)
    assert evaluate([*where, "--no-report"]) == 0
    assert "report.html" not in names(tmp_path)
    assert judge(JudgeRequest(tmp_path)).results[FAN].auc_source is not None


def test_a_folder_of_other_results_is_refused_and_left_alone(tmp_path: Path, error_of: ErrorOf) -> None:
    theirs = tmp_path / "theirs"
    write_submission(ResultsFolder(theirs), submission(FAN))
    before = names(theirs)
    said = error_of(evaluate, "--submission", theirs, "--out", theirs)
    assert "anomaly_score_fan_section_00_test.csv" in said
    assert "name another folder with --out" in said
    assert names(theirs) == before
    assert evaluate(["--submission", str(theirs), "--out", str(tmp_path / "out")]) == 0


def test_a_run_that_failed_before_it_wrote_changes_nothing(tmp_path: Path) -> None:
    scored(tmp_path, FAN)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    with pytest.raises(RuntimeError), ResultsFolder(tmp_path).run():
        raise RuntimeError
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_a_run_that_was_cut_off_is_refused_until_it_is_done_again(tmp_path: Path) -> None:
    scored(tmp_path, FAN, SAW)
    cut_off(tmp_path, submission(FAN, seed=5))
    with pytest.raises(AsdError, match="anomaly_score_fan.* is not what SHA256SUMS says"):
        judge(JudgeRequest(tmp_path))
    scored(tmp_path, FAN, seed=5)
    assert judge(JudgeRequest(tmp_path)).sections == [FAN]
    fresh = tmp_path / "fresh"
    cut_off(fresh, submission(FAN))
    with pytest.raises(AsdError, match="is not what SHA256SUMS says"):
        judge(JudgeRequest(fresh))
    scored(fresh, FAN)


def test_files_of_two_runs_are_refused(tmp_path: Path, error_of: ErrorOf) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    scored(one, FAN)
    scored(other, SAW)
    out = ["--out", tmp_path / "out"]
    for path in other.glob("*_saw_*"):
        shutil.copy(path, one)
    said = error_of(evaluate, "--submission", one, *out)
    assert "anomaly_score_saw_section_00_test.csv is not what SHA256SUMS says" in said
    # With both lists, or none, what describes the run still tells.
    more = [line for line in (other / SUMS).read_text().splitlines(True) if "_saw_" in line]
    (one / SUMS).write_text("".join([(one / SUMS).read_text(), *more]))
    said = error_of(evaluate, "--submission", one, *out)
    assert "files of 'saw/section_00', which the run of system.json did not score" in said
    (one / SUMS).unlink()
    assert "files of two runs" in error_of(evaluate, "--submission", one, *out)
    for path in other.glob("anomaly_score_*"):
        path.unlink()
    for path in other.glob("decision_*"):
        path.unlink()
    write_submission(ResultsFolder(other), submission(FAN))
    assert "no files of 'saw/section_00'" in error_of(evaluate, "--submission", other, *out)


def test_every_file_is_sealed(tmp_path: Path) -> None:
    scored(tmp_path, FAN)
    for name in names(tmp_path) - {SUMS}:
        path = tmp_path / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert sum_faults([path])
        with pytest.raises(AsdError, match="is not what SHA256SUMS says was written"):
            ResultsFolder(tmp_path).read(name)
        path.write_bytes(whole)
    assert read_description(tmp_path, "x").title == "us"
    assert read_submission(tmp_path, FAN).files


def test_a_list_that_names_files_elsewhere_removes_none(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    scored(tmp_path / "other", FAN)
    (tmp_path / "results.csv").write_text("mine")
    folder.mkdir()
    lines = [f"{'0' * 64}  {name}\n" for name in ("../results.csv", "../other/SHA256SUMS", "a")]
    (folder / SUMS).write_text("".join(lines))
    (folder / "a").write_text("mine")
    scored(folder, FAN)
    assert (tmp_path / "results.csv").exists()
    assert (folder / "a").exists()
    assert judge(JudgeRequest(tmp_path / "other")).sections == [FAN]


def test_runs_below_a_folder_go_with_the_run_that_made_them(tmp_path: Path) -> None:
    results = ResultsFolder(tmp_path)
    with results.run():
        for seed in (0, 1):
            results.include(scored(tmp_path / f"runs/seed_{seed}", FAN))
        results.write("ranking.csv", b"")
    scored(tmp_path / "runs/seed_9", FAN)  # by itself
    with results.run():
        results.include(scored(tmp_path / "runs/seed_0", FAN))
    assert {path.parts[-2] for path in tmp_path.rglob("system.json")} == {"seed_0", "seed_9"}
    with results.run():
        results.write("results.csv", b"")
    assert {path.parts[-2] for path in tmp_path.rglob("system.json")} == {"seed_9"}


def _hold(folder: Path, held: Event, done: Event) -> None:
    with ResultsFolder(folder).run():
        held.set()
        done.wait(PATIENCE)


def test_a_second_run_waits(tmp_path: Path) -> None:
    context = get_context("spawn")
    held, done = context.Event(), context.Event()
    first = context.Process(target=_hold, args=(tmp_path, held, done))
    first.start()
    assert held.wait(PATIENCE)
    second = Thread(target=scored, args=(tmp_path, FAN))
    second.start()
    second.join(0.3)
    assert second.is_alive()
    assert not list(tmp_path.glob("anomaly*"))
    done.set()
    second.join(PATIENCE)
    first.join(PATIENCE)
    assert judge(JudgeRequest(tmp_path)).sections == [FAN]
