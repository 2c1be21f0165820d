"""Drift from the history: found, dated, described; not found where there is none; nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cache.asd import main as asd
from cache.store import Store
from cache.table import Section
from eval.detector import Detector
from eval.monitor.drift import began, drift
from eval.monitor.evidence import Evidence, exceedance_levels
from eval.monitor.history import History, Judgement
from index.bank import Bank, find_bank
from index.run import main as build
from tests.conftest import make_recipe, make_table, write_clip
from tests.index.test_versions import content

Scores = Callable[[np.random.Generator, int], np.ndarray]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("normal")
    for i in range(120):
        write_clip(root / f"n{i:03d}.wav", i, seconds=0.1)
    detector = Detector("logmel", scorer="min-distance", machine="pump", group="file")
    return detector.fit(root).save(root / "pump.bank")


@pytest.fixture(scope="module")
def windows_bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("long")
    for i in range(120):
        write_clip(root / f"n{i:03d}.wav", i, seconds=0.3)
    detector = Detector("logmel", scorer="min-distance", machine="pump", window=0.1, group="file")
    return detector.fit(root).save(root / "pump.bank")


def write_history(folder: Path, bank: Path, shift: float, *, at: int = 300, kind: str = "broadband") -> Path:
    """400 clips that score as the bank's own do, from `at` on by a shift in their deviations more."""
    section = Section("pump", 0)
    fitted = Bank(bank).read(section, Bank(bank).recipe())
    own, rng = fitted.train_scores(), np.random.default_rng(5)
    judgements = []
    for i in range(400):
        moved = i >= at
        score = float(rng.choice(own) + rng.normal(0, 0.01) + shift * own.std() * moved)
        abnormal = int(score > fitted.threshold.value)
        what = kind if moved and i % 2 else "none"
        judgements.append(
            Judgement(
                1e9 + 60 * i, f"{i}.wav", f"{i:064x}", "pump", 0, score, fitted.threshold.value, 0.5,
                abnormal, bank=Bank(bank).fingerprint(section), kind=what, low=1200.0, high=1600.0,
                decibels=4.0,
            )
        )  # fmt: skip
    History(folder / "pump" / "section_00" / "history").append(judgements, {})
    return folder


@pytest.mark.parametrize(("shift", "direction"), [(1.2, "up"), (-1.2, "down"), (0.0, None)])
def test_a_shift_is_found_and_dated_either_way(
    bank: Path, tmp_path: Path, shift: float, direction: str | None
) -> None:
    before = content(bank)
    (found,) = drift(bank, write_history(tmp_path, bank, shift), 1000.0)
    assert found.direction == direction
    assert content(bank) == before
    if direction is None:
        assert found.since is None
        return
    assert found.since is not None
    assert abs(found.since - (1e9 + 60 * 300)) <= 60 * 40  # in 400 minutes
    (change,) = found.changes
    assert (change.kind, change.low, change.high, change.decibels) == ("broadband", 1200.0, 1600.0, 4.0)
    assert change.share > 0.3 > change.before


@pytest.mark.parametrize(("shift", "direction"), [(1.5, "up"), (-2.0, "down"), (0.0, None)])
def test_the_largest_of_several_windows_drifts_too(
    windows_bank: Path, tmp_path: Path, shift: float, direction: str | None
) -> None:
    section = Section("pump", 0)
    fitted = Bank(windows_bank).read(section, Bank(windows_bank).recipe())
    own, rng, mark = fitted.train_scores(), np.random.default_rng(5), Bank(windows_bank).fingerprint(section)
    judgements = []
    for i in range(400):
        largest = float(max(rng.choice(own, 3)) + shift * own.std() * (i >= 200))
        abnormal = int(largest > fitted.limit(3))
        judgements.append(Judgement(1e9 + i, f"{i}.wav", f"{i:064x}", "pump", 0, largest, decision=abnormal,
                                    bank=mark, windows=3))  # fmt: skip
    History(tmp_path / "history").append(judgements, {})
    (found,) = drift(windows_bank, tmp_path, 1000.0)
    assert found.direction == direction
    assert direction is None or (found.since is not None and abs(found.since - 1e9 - 200) <= 40)


@pytest.fixture(scope="module")
def states_bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a machine with six ways of running, whose clips `--group auto` leaves out together."""
    cache = Store(tmp_path_factory.mktemp("states"))
    cache.write(make_table(states(120, 0), ["source"] * 120), make_recipe(backbone="logmel"))
    options = ["--scorer", "min-distance", "--cache-dir", str(cache.root), "--backbone", "logmel"]
    assert build(options) == 0
    return find_bank(cache.root, make_recipe(backbone="logmel"), "min-distance").root


def states(count: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (5 * np.eye(6)[np.arange(count) % 6] + rng.normal(0, 0.1, (count, 6))).astype(np.float32)


@pytest.mark.parametrize(("seed", "direction"), [(2, None), (0, "down")])  # 0: the bank's own clips, again
def test_clips_like_those_of_a_group_that_the_bank_holds_have_not_moved(
    states_bank: Path, tmp_path: Path, seed: int, direction: str | None
) -> None:
    bank = Bank(states_bank)
    (section,) = bank.sections()
    fitted = bank.read(section, bank.recipe())
    assert fitted.calibration.count == 6
    scores = fitted.scorer.score(np.concatenate([states(300, 1), states(100, seed)]))
    judgements = [
        Judgement(1e9 + i, f"{i}.wav", f"{i:064x}", section.machine_type, section.number, float(score),
                  decision=int(score > fitted.threshold.value), bank=bank.fingerprint(section))
        for i, score in enumerate(scores)
    ]  # fmt: skip
    History(tmp_path / "history").append(judgements, {})
    (found,) = drift(states_bank, tmp_path, 1000.0)
    assert found.clips == 400
    assert found.direction == direction
    assert direction is None or (found.since is not None and abs(found.since - 1e9 - 300) <= 10)


def test_the_likeliest_beginning_is_the_one_of_all_pairs() -> None:
    rng = np.random.default_rng(3)
    levels = exceedance_levels(rng.normal(size=200))
    scores = np.concatenate([rng.normal(size=60), rng.normal(1.5, 1, size=15)])
    best = (-np.inf, 0)
    for level in levels:
        for stake in (0.1, 0.3, 0.6, 0.9):
            for start in range(len(scores)):
                gain = 0.0
                for score in scores[start:]:
                    gain += np.log(1 - stake + stake / level.share * (score >= level.score))
                best = max(best, (gain, start))
    assert began(levels, scores, np.ones(len(scores), int), len(scores) - 1) == best[1]
    assert 50 <= best[1] <= 66
    evidence = Evidence(levels)
    assert max(evidence.add(float(score)) for score in scores) > 1000


def test_the_command_says_whose_drift_is_alone(
    bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = write_history(tmp_path / "a", bank, 1.5)
    still = write_history(tmp_path / "b", bank, 0.0)
    pairs = [str(bank), str(still), str(bank), str(moved)]
    assert asd(["drift", *pairs, "--false-alarms", "1/1000"]) == 1
    said = capsys.readouterr()
    first, second, *_ = said.out.splitlines()
    assert "not moved, of" in first
    assert "scores went up since 2001-09-09T0" in second
    assert "1200 to 1600 Hz" in said.out
    assert "alone has moved" in said.err
    assert "asd bank add" in said.err
    assert asd(["drift", str(bank), str(still), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["direction"] is None
    assert asd(["drift", str(bank)]) == 2
    assert "several such pairs" in capsys.readouterr().err
    few = History(tmp_path / "c" / "history")
    few.append([Judgement(1e9, "a.wav", "0" * 64, "pump", 0, 1.0, 2.0, 0.5, 0, bank="another")], {})
    assert asd(["drift", str(bank), str(tmp_path / "c")]) == 2
    assert "1 clips of other versions" in capsys.readouterr().out
