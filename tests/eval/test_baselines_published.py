"""The published tables beside our runs."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import harmonic_mean
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cache.table import Section
from eval.baselines.published import (
    MACHINES,
    PublishedFigure,
    compare,
    format_comparison,
    read_published,
)
from eval.baselines.run import main
from eval.ranking.systems import Spread
from tests.conftest import write_root

ErrorOf = Callable[..., str]


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def system(machines: dict[str, dict[str, Spread]], official: float = 0.5) -> Any:
    """What a comparison asks of a system."""
    sections = {Section(machine, 0): figures for machine, figures in machines.items()}
    return SimpleNamespace(runs=(1, 2), sections=sections, official=Spread(official, None))


def test_a_figure_outside_three_deviations_is_flagged() -> None:
    published = {
        ("mse", "fan", "auc_source"): PublishedFigure(70.0, 1.0, "here"),  # ours 72.9: inside
        ("mse", "fan", "auc_target"): PublishedFigure(70.0, 1.0, "here"),  # ours 66.9: outside
        ("mse", "fan", "pauc"): PublishedFigure(50.0, None, "here"),
        ("mahalanobis", "fan", "pauc"): PublishedFigure(99.0, 0.1, "here"),
    }
    figures = {"auc_source": Spread(0.729, 0.01414), "auc_target": Spread(0.669, 0.0),
               "pauc": Spread(0.6, 0.0)}  # fmt: skip
    found = compare("mse", system({"fan": figures}), published)
    assert [row.outside for row in found] == [False, True, None]
    assert [row.difference for row in found] == pytest.approx([2.9, -3.1, 10.0])
    text = format_comparison("mse", found).splitlines()
    assert "fan      AUC source  72.90 ± 1.41  70.00 ± 1.00  +2.90" in text
    assert "fan      AUC target  66.90 ± 0.00  70.00 ± 1.00  -3.10       *" in text
    assert "* outside 3 published standard deviations: 1 of 2 figures" in text
    assert "without a published deviation, hence not judged: 1" in text


def test_a_made_up_run_against_the_papers_own_tables() -> None:
    """Runs 2.9 deviations above table 2 are not flagged; each figure moved to 3.1 is."""
    published = read_published()
    own = {key: row for key, row in published.items() if key[0] == "mahalanobis" and key[1]}

    def flagged(moved: tuple[str, str, str] | None) -> list[tuple[str, str]]:
        machines: dict[str, dict[str, Spread]] = {}
        for key, row in own.items():
            assert row.deviation is not None
            away = 3.1 if key == moved else 2.9
            mean = (row.mean + away * row.deviation) / 100
            machines.setdefault(key[1], {})[key[2]] = Spread(mean, None)
        rows = compare("mahalanobis", system(machines, 0.5691), published)
        assert len(rows) == 7 * 3 + 1
        return [(row.machine, row.figure) for row in rows if row.outside]

    assert flagged(None) == []
    for key in own:
        assert flagged(key) == [key[1:]]


def test_what_comes_with_the_program_names_its_source() -> None:
    found = read_published()
    for mode, official in (("mse", 55.02), ("mahalanobis", 56.91)):
        assert found[mode, "", "official"].mean == official
        machines = [row.mean for key, row in found.items() if key[0] == mode and key[1]]
        assert len(machines) == 7 * 3
        assert harmonic_mean(machines) == pytest.approx(official, abs=0.005)  # no slip of the pen
        deviations = [row.deviation for key, row in found.items() if key[0] == mode and key[1]]
        assert all(0 < (deviation or 0) < 5 for deviation in deviations)
    assert all("2305.07828" in row.source for row in found.values())


def test_the_papers_tables_are_printed_machine_by_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for machine in MACHINES:
        write_root(tmp_path / "data", machine, source=24)  # two to spare
    arguments = ["--mode", "paper", "--data", tmp_path / "data", "--seeds", 0, 1, "--epochs", 1]
    rest = ["--cache-dir", tmp_path / "cache", "--out", tmp_path / "out", "--jobs", 1]
    for machine in MACHINES:  # target covariances of two short clips cannot be inverted
        for path in (tmp_path / "data" / machine / "train").glob("*target*"):
            path.unlink()
    assert main([str(part) for part in (*arguments, *rest)]) == 0
    said = capsys.readouterr().out
    assert "Table 1: simple autoencoder mode" in said
    assert "Table 2: selective Mahalanobis mode" in said
    assert said.count("of 21 figures") == 2
    assert said.count("without a published deviation, hence not judged: 1") == 2
    with (tmp_path / "out" / "comparison.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 * (7 * 3 + 1)
    paper = read_published()
    for row in lines:
        found = paper[row["mode"], row["machine_type"].replace("all", ""), row["figure"]]
        if found.deviation is not None and row["mean"]:
            away = abs(float(row["mean"]) - found.mean) > 3 * found.deviation
            assert row["outside"] == str(away)
    assert (tmp_path / "out" / "mse" / "seed_1" / "results.json").exists()
    assert (tmp_path / "out" / "mahalanobis" / "ranking.md").exists()


def test_without_the_data_it_says_where_to_get_it(tmp_path: Path, error_of: ErrorOf) -> None:
    where = "https://doi.org/10.5281/zenodo.7882613"
    assert where in error_of(main, "--mode", "paper")
    assert where in error_of(main, "--mode", "paper", "--data", tmp_path / "none")
    write_root(tmp_path / "data", "pump")
    said = error_of(main, "--mode", "paper", "--data", tmp_path / "data")
    assert where in said
    assert "ToyCar, ToyTrain, bearing" in said
